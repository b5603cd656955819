use std::net::SocketAddr;

use sip::MessageBuf;
use sip::digest::{ClientAuthorization, Login};

use super::*;

const NOW: u64 = 2_000_000_000;

fn flow(remote: &str) -> Flow {
    let remote: SocketAddr = remote.parse().expect("a literal address");
    Flow {
        transport: Transport::Udp,
        local: "203.0.113.2:5060".parse().expect("a literal address"),
        remote,
        connection: None,
    }
}

fn here() -> Flow {
    flow("198.51.100.7:5060")
}

fn directory() -> Arc<Directory> {
    let directory = Directory::new(["example.org", "example.com"], [], *b"sixteen bytes ok");
    for (user, password) in [("alice", "wonderland"), ("bob", "builder"), ("mallory", "secret")] {
        let aor = AddressOfRecord::new(user, "example.org");
        directory.put(aor.clone(), Account::with_password(&aor, password));
    }
    let gone = AddressOfRecord::new("gone", "example.org");
    let mut disabled = Account::with_password(&gone, "gone");
    disabled.disabled = true;
    directory.put(gone, disabled);
    Arc::new(directory)
}

fn workers(config: AuthConfig, count: u8) -> Vec<Authenticator> {
    let shared = Arc::new(AuthShared::new(config, count, *b"another sixteen!"));
    let directory = directory();
    (0..count)
        .map(|worker| Authenticator::new(Arc::clone(&shared), Arc::clone(&directory), worker))
        .collect()
}

fn authenticator() -> Authenticator {
    workers(AuthConfig::default(), 1).remove(0)
}

/// A telephone that can log in.
struct Phone {
    login: Login,
    client: Option<ClientAuthorization>,
    cseq: u32,
}

impl Phone {
    fn new(username: &str, password: &str) -> Self {
        Phone {
            login: Login {
                username: username.into(),
                password: password.into(),
            },
            client: None,
            cseq: 1,
        }
    }

    /// A request with credentials, if it was challenged before.
    fn request(&mut self, method: &str, uri: &str, from: &str, to: &str) -> MessageBuf {
        self.cseq += 1;
        let name = if method == "REGISTER" {
            "Authorization"
        } else {
            "Proxy-Authorization"
        };
        let mut credentials = Vec::new();
        if let Some(client) = &mut self.client {
            client.write(&self.login, method, uri, b"", 42, &mut credentials);
        }
        let credentials = match String::from_utf8(credentials).expect("text") {
            text if text.is_empty() => text,
            text => format!("{name}: {text}\r\n"),
        };
        let cseq = self.cseq;
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.10;branch=z9hG4bK{cseq}\r\nFrom: <{from}>;tag=1\r\n\
             To: <{to}>\r\nCall-ID: call\r\nCSeq: {cseq} {method}\r\n{credentials}Content-Length: 0\r\n\r\n"
        );
        MessageBuf::parse(text).expect("a message")
    }

    fn register(&mut self, user: &str) -> MessageBuf {
        let aor = format!("sip:{user}@example.org");
        self.request("REGISTER", "sip:example.org", &aor, &aor)
    }

    fn take_challenge(&mut self, verdict: &Verdict) {
        let Verdict::Challenge { headers, .. } = verdict else {
            panic!("{verdict:?}")
        };
        let text = str::from_utf8(headers).expect("text");
        let lines = text
            .lines()
            .map(|line| line.split_once(": ").expect("a header line").1);
        let challenges = lines.map(|line| sip::headers::Credentials::parse(line).expect("a challenge"));
        self.client =
            Some(ClientAuthorization::from_challenges(challenges).expect("an algorithm that we know"));
    }
}

fn account(user: &str) -> Verdict {
    Verdict::Account(AddressOfRecord::new(user, "example.org"))
}

fn refused(verdict: &Verdict) -> u16 {
    let Verdict::Refused { status, .. } = verdict else {
        panic!("{verdict:?}")
    };
    *status
}

fn challenge(verdict: Verdict) -> (u16, String) {
    let Verdict::Challenge { status, headers } = verdict else {
        panic!("{verdict:?}")
    };
    (status, String::from_utf8(headers).expect("text"))
}

#[test]
fn there_is_one_challenge_per_algorithm_strongest_first() {
    let mut authenticator = authenticator();
    let request = Phone::new("alice", "").register("alice");
    let (status, headers) = challenge(authenticator.authenticate_register(NOW, request.message(), &here()));
    assert_eq!(status, 401);
    let lines: Vec<&str> = headers.lines().collect();
    assert_eq!(lines.len(), 3);
    for (line, algorithm) in lines.iter().zip(["SHA-512-256", "SHA-256", "MD5"]) {
        assert!(
            line.starts_with("WWW-Authenticate: Digest realm=\"example.org\", nonce=\""),
            "{line}"
        );
        assert!(
            line.contains(&format!("algorithm={algorithm}, qop=\"auth\"")),
            "{line}"
        );
        assert!(!line.contains("stale"));
    }
    let request = Phone::new("bob", "").request(
        "INVITE",
        "sip:x@example.net",
        "sip:bob@example.org",
        "sip:x@example.net",
    );
    let (status, headers) =
        challenge(authenticator.authenticate_proxy(NOW, request.message(), &here(), false));
    assert_eq!(status, 407);
    assert!(headers.starts_with("Proxy-Authenticate: Digest realm=\"example.org\""));
}

#[test]
fn every_algorithm_and_protection_logs_in() {
    for algorithm in Algorithm::STRONGEST_FIRST {
        for qop in [vec![], vec![Qop::Auth], vec![Qop::AuthInt]] {
            let config = AuthConfig {
                algorithms: vec![algorithm],
                qop,
                ..AuthConfig::default()
            };
            let mut authenticator = workers(config, 1).remove(0);
            let mut phone = Phone::new("alice", "wonderland");
            let first = phone.register("alice");
            phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
            let second = phone.register("alice");
            assert_eq!(
                authenticator.authenticate_register(NOW, second.message(), &here()),
                account("alice")
            );
        }
    }
}

#[test]
fn an_algorithm_that_is_not_offered_is_not_accepted() {
    let both = AuthConfig::default();
    let strong = AuthConfig {
        algorithms: vec![Algorithm::Sha256],
        ..AuthConfig::default()
    };
    let mut weak_phone = Phone::new("alice", "wonderland");
    let first = weak_phone.register("alice");
    let mut lax = workers(
        AuthConfig {
            algorithms: vec![Algorithm::Md5],
            ..both
        },
        1,
    )
    .remove(0);
    weak_phone.take_challenge(&lax.authenticate_register(NOW, first.message(), &here()));
    let second = weak_phone.register("alice");
    let mut strict = workers(strong, 1).remove(0);
    let (_, headers) = challenge(strict.authenticate_register(NOW, second.message(), &here()));
    assert!(headers.contains("algorithm=SHA-256") && !headers.contains("MD5"));
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_answered_alike() {
    let mut authenticator = authenticator();
    let mut answers = Vec::new();
    for user in ["alice", "nobody"] {
        let mut phone = Phone::new(user, "guessed");
        let first = phone.register(user);
        let verdict = authenticator.authenticate_register(NOW, first.message(), &here());
        phone.take_challenge(&verdict);
        let second = phone.register(user);
        let (status, again) = challenge(authenticator.authenticate_register(NOW, second.message(), &here()));
        let shape = |headers: &str| {
            let lines = headers
                .lines()
                .map(|line| line.split("nonce=\"").next().unwrap_or("").to_owned());
            lines.collect::<Vec<_>>()
        };
        answers.push((status, shape(&challenge(verdict).1), shape(&again), again.len()));
    }
    assert_eq!(answers[0], answers[1]);
}

/// The stand-in's HA1 is no secret: who computes with it must not get in as a user that does not exist.
#[test]
fn what_is_hashed_for_an_unknown_user_is_no_way_in() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("", "");
    let first = phone.register("nobody");
    let verdict = authenticator.authenticate_register(NOW, first.message(), &here());
    let (status, headers) = challenge(verdict);
    let headers = headers.replace("example.org", "").into_bytes();
    phone.take_challenge(&Verdict::Challenge { status, headers });
    let second = phone.register("nobody");
    let text = str::from_utf8(second.message().bytes()).expect("text");
    let text = text
        .replace("username=\"\"", "username=\"nobody\"")
        .replace("realm=\"\"", "realm=\"example.org\"");
    let second = MessageBuf::parse(text).expect("a message");
    assert_eq!(
        challenge(authenticator.authenticate_register(NOW, second.message(), &here())).0,
        401
    );
}

#[test]
fn the_same_request_again_is_a_retransmission_and_another_one_a_replay() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("alice", "wonderland");
    let first = phone.register("alice");
    phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("alice");
    assert_eq!(
        authenticator.authenticate_register(NOW, second.message(), &here()),
        account("alice")
    );
    assert_eq!(
        authenticator.authenticate_register(NOW, second.message(), &here()),
        Verdict::Repeated(AddressOfRecord::new("alice", "example.org"))
    );

    // The credentials of one request under another one, and the same bytes from elsewhere.
    let text = str::from_utf8(second.message().bytes()).expect("text");
    for (forged, flow) in [
        (text.replace("z9hG4bK", "z9hG4bKx"), here()),
        (text.replace("Call-ID: call", "Call-ID: other"), here()),
        (text.replace("CSeq: ", "CSeq: 1"), here()),
        (text.to_owned(), flow("198.51.100.7:5061")),
        (text.to_owned(), flow("198.51.100.8:5060")),
    ] {
        let forged = MessageBuf::parse(forged).expect("a message");
        let (status, headers) = challenge(authenticator.authenticate_register(NOW, forged.message(), &flow));
        assert_eq!(status, 401);
        assert!(headers.contains("stale=true"), "{headers}");
    }
    // The telephone itself goes on counting.
    let third = phone.register("alice");
    assert_eq!(
        authenticator.authenticate_register(NOW, third.message(), &here()),
        account("alice")
    );
}

#[test]
fn a_replay_is_seen_in_whichever_worker_it_arrives() {
    let mut workers = workers(AuthConfig::default(), 3);
    let mut phone = Phone::new("alice", "wonderland");
    let first = phone.register("alice");
    phone.take_challenge(&workers[0].authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("alice");
    assert_eq!(
        workers[1].authenticate_register(NOW, second.message(), &here()),
        account("alice")
    );
    let elsewhere = flow("192.0.2.66:5060");
    for worker in &mut workers {
        let (_, headers) = challenge(worker.authenticate_register(NOW, second.message(), &elsewhere));
        assert!(headers.contains("stale=true"));
    }
}

#[test]
fn an_old_nonce_and_one_of_another_secret_are_stale_when_the_password_is_right() {
    let mut phone = Phone::new("alice", "wonderland");
    let first = phone.register("alice");
    let mut authenticator = authenticator();
    phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("alice");
    let later = NOW + 3601;
    let verdict = authenticator.authenticate_register(later, second.message(), &here());
    assert!(challenge(verdict.clone()).1.contains("stale=true"));
    phone.take_challenge(&verdict);
    let third = phone.register("alice");
    assert_eq!(
        authenticator.authenticate_register(later, third.message(), &here()),
        account("alice")
    );

    let restarted = AuthShared::new(AuthConfig::default(), 1, *b"the next secret!");
    let mut restarted = Authenticator::new(Arc::new(restarted), directory(), 0);
    let fourth = phone.register("alice");
    assert!(
        challenge(restarted.authenticate_register(later, fourth.message(), &here()))
            .1
            .contains("stale=true")
    );
    // With the wrong password, the telephone has to ask its user.
    phone.login.password = String::from("guessed");
    let fifth = phone.register("alice");
    assert!(
        !challenge(restarted.authenticate_register(later, fifth.message(), &here()))
            .1
            .contains("stale")
    );
}

#[test]
fn a_forged_nonce_is_worth_nothing() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("alice", "wonderland");
    let headers =
        b"WWW-Authenticate: Digest realm=\"example.org\", nonce=\"AAAA\", algorithm=MD5, qop=\"auth\"\r\n"
            .to_vec();
    phone.take_challenge(&Verdict::Challenge { status: 401, headers });
    let request = phone.register("alice");
    challenge(authenticator.authenticate_register(NOW, request.message(), &here()));
}

#[test]
fn register_of_somebody_elses_address_of_record_is_403() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("mallory", "secret");
    let first = phone.register("alice");
    phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("alice");
    assert_eq!(
        refused(&authenticator.authenticate_register(NOW, second.message(), &here())),
        403
    );
}

#[test]
fn a_from_of_somebody_else_is_403() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("mallory", "secret");
    let invite = |phone: &mut Phone, from: &str| {
        phone.request("INVITE", "sip:bob@example.org", from, "sip:bob@example.org")
    };
    let first = invite(&mut phone, "sip:alice@example.org");
    phone.take_challenge(&authenticator.authenticate_proxy(NOW, first.message(), &here(), true));
    let second = invite(&mut phone, "sip:alice@example.org");
    assert_eq!(
        refused(&authenticator.authenticate_proxy(NOW, second.message(), &here(), true)),
        403
    );
    let third = invite(&mut phone, "sip:mallory@example.org");
    assert_eq!(
        authenticator.authenticate_proxy(NOW, third.message(), &here(), true),
        account("mallory")
    );
    // An account of one domain is none of another one.
    let fourth = invite(&mut phone, "sip:mallory@example.com");
    challenge(authenticator.authenticate_proxy(NOW, fourth.message(), &here(), true));
}

#[test]
fn a_stranger_reaches_accounts_and_nothing_else() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("", "");
    let request = phone.request(
        "INVITE",
        "sip:bob@example.org",
        "sip:carol@chicago.com",
        "sip:bob@example.org",
    );
    assert_eq!(
        authenticator.authenticate_proxy(NOW, request.message(), &here(), true),
        Verdict::Stranger
    );
    let request = phone.request(
        "INVITE",
        "sip:x@example.net",
        "sip:carol@chicago.com",
        "sip:x@example.net",
    );
    assert_eq!(
        refused(&authenticator.authenticate_proxy(NOW, request.message(), &here(), false)),
        403
    );
}

#[test]
fn who_says_to_be_of_this_domain_has_to_prove_it() {
    let mut authenticator = authenticator();
    for from in [
        "sip:alice@example.org",
        "sip:nobody@EXAMPLE.org",
        "sips:alice@example.com",
    ] {
        let request =
            Phone::new("", "").request("MESSAGE", "sip:bob@example.org", from, "sip:bob@example.org");
        assert_eq!(
            challenge(authenticator.authenticate_proxy(NOW, request.message(), &here(), true)).0,
            407
        );
    }
    let request = Phone::new("", "").request(
        "INVITE",
        "sip:b@example.org",
        "sip:example.org",
        "sip:b@example.org",
    );
    assert_eq!(
        refused(&authenticator.authenticate_proxy(NOW, request.message(), &here(), true)),
        403
    );
}

#[test]
fn an_account_may_hide_its_number() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("alice", "wonderland");
    let invite = |phone: &mut Phone| {
        phone.request(
            "INVITE",
            "sip:x@example.net",
            "sip:anonymous@anonymous.invalid",
            "sip:x@example.net",
        )
    };
    let first = invite(&mut phone);
    phone.take_challenge(&authenticator.authenticate_proxy(NOW, first.message(), &here(), false));
    let second = invite(&mut phone);
    assert_eq!(
        authenticator.authenticate_proxy(NOW, second.message(), &here(), false),
        account("alice")
    );
    let third = invite(&mut Phone::new("", ""));
    assert_eq!(
        authenticator.authenticate_proxy(NOW, third.message(), &here(), true),
        Verdict::Stranger
    );
}

#[test]
fn a_trusted_network_is_not_challenged() {
    let trusted = ["192.0.2.0/24", "2001:db8::/32"]
        .map(|network| network.parse().expect("a network"))
        .to_vec();
    let mut authenticator = workers(
        AuthConfig {
            trusted,
            ..AuthConfig::default()
        },
        1,
    )
    .remove(0);
    let mut phone = Phone::new("", "");
    let request = phone.request(
        "INVITE",
        "sip:x@example.net",
        "sip:alice@example.org",
        "sip:x@example.net",
    );
    let register = phone.register("alice");
    for inside in ["192.0.2.77:5060", "[::ffff:192.0.2.77]:5060", "[2001:db8::1]:1"] {
        let flow = flow(inside);
        assert_eq!(
            authenticator.authenticate_proxy(NOW, request.message(), &flow, false),
            Verdict::Trusted
        );
        assert_eq!(
            authenticator.authenticate_register(NOW, register.message(), &flow),
            Verdict::Trusted
        );
    }
    challenge(authenticator.authenticate_proxy(NOW, request.message(), &flow("192.0.3.1:5060"), false));
}

#[test]
fn a_disabled_account_is_told_so_once_it_has_proven_itself() {
    let mut authenticator = authenticator();
    let mut phone = Phone::new("gone", "gone");
    let first = phone.register("gone");
    phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("gone");
    assert_eq!(
        refused(&authenticator.authenticate_register(NOW, second.message(), &here())),
        403
    );
}

#[test]
fn broken_credentials_for_our_realm_are_400_and_others_are_passed_over() {
    let mut authenticator = authenticator();
    let with = |line: &str| {
        let request = Phone::new("", "").register("alice");
        let text = str::from_utf8(request.message().bytes()).expect("text");
        let text = text.replace("Content-Length", &format!("{line}\r\nContent-Length"));
        MessageBuf::parse(text).expect("a message")
    };
    let mut status = |line: &str| {
        let request = with(line);
        match authenticator.authenticate_register(NOW, request.message(), &here()) {
            Verdict::Challenge { status, .. } | Verdict::Refused { status, .. } => status,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        status("Authorization: Digest realm=\"example.org\", username=\"alice\""),
        400
    );
    assert_eq!(
        status("Authorization: Digest realm=\"example.net\", username=\"alice\""),
        401
    );
    assert_eq!(status("Authorization: Basic YWxpY2U6d29uZGVybGFuZA=="), 401);
    assert_eq!(status("Authorization: nonsense"), 401);
    let unknown = "Authorization: Digest username=\"alice\", realm=\"example.org\", nonce=\"x\", uri=\"sip:example.org\", \
        response=\"0\", algorithm=MD5-sess";
    assert_eq!(status(unknown), 401);
}

#[test]
fn an_account_without_its_password_is_offered_what_it_knows() {
    let directory = directory();
    let carol = AddressOfRecord::new("carol", "example.org");
    let md5 = Account::with_password(&carol, "imported")
        .ha1(Algorithm::Md5)
        .expect("made above");
    directory.put(
        carol,
        Account::from_hex(Some(md5.as_str()), None, None, false).expect("32 digits"),
    );
    let shared = AuthShared::new(AuthConfig::default(), 1, *b"another sixteen!");
    let mut authenticator = Authenticator::new(Arc::new(shared), directory, 0);
    let mut phone = Phone::new("carol", "imported");
    let first = phone.register("carol");
    phone.take_challenge(&authenticator.authenticate_register(NOW, first.message(), &here()));
    let second = phone.register("carol");
    assert_eq!(
        authenticator.authenticate_register(NOW, second.message(), &here()),
        account("carol")
    );
}
