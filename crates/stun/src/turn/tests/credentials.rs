use super::*;

fn transport(writer: &mut Writer<'_>) {
    writer.attribute(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

#[test]
fn who_proves_nothing_is_challenged_with_all_that_he_needs() {
    let mut world = World::new();
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, transport);
    let answer = world.answered(alice(), &bytes).unwrap();
    assert_eq!(answer.code(), 401);
    let message = answer.message();
    assert_eq!(message.value(AttributeType::REALM), Some(REALM.as_bytes()));
    assert_eq!(
        message.value(AttributeType::PASSWORD_ALGORITHMS),
        Some(&[0, 2, 0, 0, 0, 1, 0, 0][..])
    );
    let nonce = message.value(AttributeType::NONCE).unwrap();
    assert!(nonce.starts_with(b"obMatJos2AAAD"), "both security features");
    for absent in [
        AttributeType::USERNAME,
        AttributeType::USERHASH,
        AttributeType::MESSAGE_INTEGRITY,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
    ] {
        assert_eq!(message.value(absent), None, "{absent:?}");
    }
}

#[test]
fn old_and_new_clients_are_both_let_in_and_answered_in_kind() {
    for (protection, integrity, algorithm) in [
        (Protection::Old, Integrity::Sha1, PasswordAlgorithm::Md5),
        (Protection::New, Integrity::Sha256, PasswordAlgorithm::Sha256),
    ] {
        let mut world = World::new();
        let id = world.id();
        let bytes = world.sealed(alice(), "alice", protection, Method::ALLOCATE, id, transport);
        let answer = world.answered(alice(), &bytes).unwrap();
        assert_eq!(answer.code(), 0);
        let key = Key::new(algorithm, "alice", REALM, "alice");
        assert_eq!(verify(&answer.message(), integrity, key.as_bytes()), Some(true));
    }
}

#[test]
fn a_wrong_password_an_unknown_user_and_another_realm_are_401() {
    let mut world = World::new();
    let nonce = world.nonce(alice());
    for (user, password) in [("alice", "bob"), ("carol", "carol"), ("", "")] {
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            seal(writer, user, password, &nonce, Protection::Old);
        });
        let answer = world.answered(alice(), &bytes).unwrap();
        assert_eq!(answer.code(), 401, "{user}");
        assert!(answer.message().value(AttributeType::NONCE).is_some());
    }
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
        transport(writer);
        writer.attribute(AttributeType::USERNAME, b"alice");
        writer.attribute(AttributeType::REALM, b"example.com");
        writer.attribute(AttributeType::NONCE, &nonce);
        let key = Key::new(PasswordAlgorithm::Md5, "alice", "example.com", "alice");
        writer.integrity(Integrity::Sha1, key.as_bytes());
    });
    assert_eq!(world.answered(alice(), &bytes).unwrap().code(), 401);
}

#[test]
fn guesses_are_reported_and_repetitions_tell_that_they_are_none() {
    let mut world = World::new();
    let nonce = world.nonce(alice());
    let attempt = |world: &mut World, number: u8, password: &str| {
        let id = TransactionId::new([number; 12]);
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            seal(writer, "alice", password, &nonce, Protection::Old);
        });
        world.answered(alice(), &bytes).unwrap().code()
    };
    for (guesses, right) in [([1, 1, 1, 2, 2], 3), ([4, 4, 4, 5, 5], 6)] {
        for number in guesses {
            assert_eq!(attempt(&mut world, number, "guess"), 401);
        }
        assert_eq!(attempt(&mut world, right, "alice"), 0, "two guesses are forgiven");
        world.refresh(alice(), "alice", 0);
    }
    for number in [7, 8, 9] {
        assert_eq!(attempt(&mut world, number, "guess"), 401);
    }
    assert_eq!(
        attempt(&mut world, 10, "alice"),
        401,
        "who guesses is not heard any more"
    );
    assert_eq!(world.allocate(udp("192.0.2.1:4001"), "alice").code(), 0);
}

#[test]
fn an_old_request_of_somebody_else_forgives_no_guesses() {
    let mut world = World::new();
    let old = world.nonce(bob());
    for (password, code) in [("guess", 401), ("alice", 438)] {
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            seal(writer, "alice", password, &old, Protection::Old);
        });
        assert_eq!(world.answered(alice(), &bytes).unwrap().code(), code);
    }
    assert_eq!(world.users.guesses.borrow().len(), 1);
}

#[test]
fn credentials_that_are_not_complete_are_400() {
    let parts = [
        AttributeType::USERNAME,
        AttributeType::REALM,
        AttributeType::NONCE,
    ];
    for missing in parts {
        let mut world = World::new();
        let nonce = world.nonce(alice());
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            for (kind, value) in parts.into_iter().zip([b"alice", REALM.as_bytes(), &nonce]) {
                if kind != missing {
                    writer.attribute(kind, value);
                }
            }
            writer.integrity(Integrity::Sha1, b"key");
        });
        assert_eq!(
            world.answered(alice(), &bytes).unwrap().code(),
            400,
            "{missing:?}"
        );
    }
}

#[test]
fn an_old_nonce_is_438_where_the_password_is_right_and_401_where_it_is_not() {
    let mut world = World::new();
    let nonce = world.nonce(alice());
    world.pass(3600);
    for (password, code) in [("alice", 438), ("bob", 401)] {
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            seal(writer, "alice", password, &nonce, Protection::Old);
        });
        let answer = world.answered(alice(), &bytes).unwrap();
        assert_eq!(answer.code(), code);
        let fresh = answer.message().value(AttributeType::NONCE).unwrap();
        assert_ne!(fresh, nonce);
    }
}

#[test]
fn a_nonce_of_another_client_is_438() {
    let mut world = World::new();
    let nonce = world.nonce(bob());
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
        transport(writer);
        seal(writer, "alice", "alice", &nonce, Protection::Old);
    });
    assert_eq!(world.answered(alice(), &bytes).unwrap().code(), 438);
}

/// RFC 8489 section 9.2.4: somebody on the way may have taken the better algorithm out of the offer.
#[test]
fn an_offer_that_was_bid_down_is_noticed() {
    let offers: [(&[u8], &[u8]); 5] = [
        (&[0, 1, 0, 0], &[0, 1, 0, 0]),
        (&[0, 1, 0, 0, 0, 2, 0, 0], &[0, 1, 0, 0]),
        (&[0, 2, 0, 0, 0, 1, 0, 0], &[0, 3, 0, 0]),
        (&[0, 2, 0, 0, 0, 1, 0, 0], &[0, 2, 0, 4, 0, 0, 0, 0]),
        (&[], &[0, 1, 0, 0]),
    ];
    for (offer, chosen) in offers {
        let mut world = World::new();
        let nonce = world.nonce(alice());
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            writer.attribute(AttributeType::PASSWORD_ALGORITHMS, offer);
            writer.attribute(AttributeType::PASSWORD_ALGORITHM, chosen);
            seal(writer, "alice", "alice", &nonce, Protection::Old);
        });
        assert_eq!(
            world.answered(alice(), &bytes).unwrap().code(),
            400,
            "{offer:?} {chosen:?}"
        );
    }
    for only in [
        AttributeType::PASSWORD_ALGORITHMS,
        AttributeType::PASSWORD_ALGORITHM,
    ] {
        let mut world = World::new();
        let nonce = world.nonce(alice());
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            writer.attribute(only, &[0, 2, 0, 0, 0, 1, 0, 0]);
            seal(writer, "alice", "alice", &nonce, Protection::Old);
        });
        assert_eq!(world.answered(alice(), &bytes).unwrap().code(), 400);
    }
}

#[test]
fn a_client_may_choose_md5_from_the_whole_offer() {
    let mut world = World::new();
    let answer = world.allocate_with(alice(), "alice", |writer| {
        writer.attribute(AttributeType::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0]);
        writer.attribute(AttributeType::PASSWORD_ALGORITHM, &[0, 1, 0, 0]);
    });
    assert_eq!(answer.code(), 0);
}

#[test]
fn time_limited_users_are_let_in_until_their_time_is_over() {
    let mut world = World::new();
    let username = "1000600:carol";
    let password = TimeLimited::parse(username).unwrap().password(SECRET, 0).unwrap();
    for (unix, code) in [(1_000_600, 0), (1_000_601, 401)] {
        world.users.unix = unix;
        let client = udp(&format!("192.0.2.9:{}", 4000 + unix % 10));
        let nonce = world.nonce(client);
        let id = world.id();
        let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
            transport(writer);
            seal(writer, username, password.as_str(), &nonce, Protection::Old);
        });
        assert_eq!(world.answered(client, &bytes).unwrap().code(), code);
    }
}

#[test]
fn challenges_are_no_weapon_against_the_owner_of_a_forged_address() {
    let mut world = World::new();
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, |_| {});
    let (mut sent, mut got) = (0, 0);
    for _ in 0..50_000 {
        sent += bytes.len();
        got += world
            .answered(alice(), &bytes)
            .map_or(0, |answer| answer.bytes.len());
    }
    assert!(got > 0 && got < sent, "{got} for {sent}");
    // Others are served all the same, and so is a stream, whose source is proven.
    assert!(world.answered(bob(), &bytes).is_some());
    assert!(world.answered(stream("192.0.2.1:4000"), &bytes).is_some());
}

#[test]
fn requests_without_the_magic_cookie_and_with_a_wrong_fingerprint_are_silence() {
    let mut world = World::new();
    let classic = TransactionId::classic([1; 16]);
    let bytes = message(Class::Request, Method::ALLOCATE, classic, transport);
    assert!(world.answered(alice(), &bytes).is_none());
    let id = world.id();
    let mut bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
        writer.fingerprint()
    });
    let answer = world.answered(alice(), &bytes).unwrap();
    assert_eq!(verify_fingerprint(&answer.message()), Some(true));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(world.answered(alice(), &bytes).is_none());
}

#[test]
fn the_longest_answers_fit_into_the_buffer_that_is_asked_for() {
    let realm = "r".repeat(128);
    let mut world = World::with(|config| config.realm = realm.as_str().into());
    let id = world.id();
    let bytes = message(Class::Request, Method::ALLOCATE, id, |writer| {
        writer.fingerprint()
    });
    assert_eq!(world.answered(alice(), &bytes).unwrap().code(), 401);
}
