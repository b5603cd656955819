//! Who guesses passwords is refused for a while, and nobody else is.

use sip::HeaderId;
use sip::digest::{ClientAuthorization, Login};

use crate::phone::*;
use crate::world::*;

/// A telephone elsewhere that logs in as `name`, with whatever password.
struct Guesser {
    phone: Phone,
    client: Option<ClientAuthorization>,
    /// The worker that its packets come to.
    worker: usize,
}

impl Guesser {
    fn new(name: &'static str, remote: &str) -> Self {
        Guesser {
            phone: udp(name, remote),
            client: None,
            worker: 0,
        }
    }

    /// Sends a request and gives the status of its answer; without a password it says nothing of who it is.
    fn send(&mut self, world: &mut World, method: &'static str, password: Option<&str>) -> u16 {
        let register = method == "REGISTER";
        let (challenge, name, uri) = match register {
            true => (
                HeaderId::WwwAuthenticate,
                "Authorization",
                format!("sip:{DOMAIN}"),
            ),
            false => (
                HeaderId::ProxyAuthenticate,
                "Proxy-Authorization",
                format!("sip:bob@{DOMAIN}"),
            ),
        };
        let mut line = Vec::new();
        if let (Some(password), Some(client)) = (password, &mut self.client) {
            let login = Login {
                username: self.phone.name.into(),
                password: password.into(),
            };
            line.extend_from_slice(format!("{name}: ").as_bytes());
            client.write(&login, method, &uri, b"", 1, &mut line);
            line.push(b'\n');
        }
        let to = if register { self.phone.name } else { "bob" };
        let own = format!("<sip:{}@{DOMAIN}>", self.phone.name);
        let lines = format!(
            "From: {own};tag=g\nTo: <sip:{to}@{DOMAIN}>\nCall-ID: {}\nCSeq: 1 {method}\nContact: <{}>\n{}",
            unique(),
            self.phone.contact,
            String::from_utf8(line).expect("text"),
        );
        let text = request(&self.phone, method, &uri, &lines, "");
        world.say_to(self.worker, &self.phone.flow, &text);
        let answer = world.one(&self.phone);
        let mut index = sip::Index::new();
        index.parse(answer.text.as_bytes()).expect("a message");
        let challenges = sip::Message::new(answer.text.as_bytes(), &index);
        let challenges = challenges.challenges(challenge).filter_map(Result::ok);
        if let Ok(client) = ClientAuthorization::from_challenges(challenges) {
            self.client = Some(client);
        }
        answer.status().expect("a response")
    }

    /// Tries wrong passwords; every one is refused like the others.
    fn guess(&mut self, world: &mut World, method: &'static str, times: usize, status: u16) {
        for _ in 0..times {
            assert_eq!(self.send(world, method, Some(&unique())), status);
        }
    }
}

const HOME: &str = "198.51.100.7:5060";
const NEXT_DOOR: &str = "198.51.100.8:5060";

#[test]
fn too_many_wrong_passwords_are_403_for_a_while_and_so_is_the_right_one() {
    let mut world = World::new();
    let mut alice = Guesser::new("alice", HOME);
    assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    alice.guess(&mut world, "REGISTER", 9, 401);
    assert_eq!(alice.send(&mut world, "MESSAGE", None), 407);
    alice.guess(&mut world, "MESSAGE", 1, 407);

    alice.guess(&mut world, "MESSAGE", 5, 403);
    assert_eq!(alice.send(&mut world, "MESSAGE", Some(PASSWORD)), 403);
    assert_eq!(
        alice.send(&mut world, "REGISTER", None),
        401,
        "whoever asks is told how"
    );
    assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 403);
    world.pass_s(299);
    assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 403);
    world.pass_s(2);
    assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 200);
}

#[test]
fn other_accounts_and_other_sources_are_let_be() {
    let mut world = World::new();
    let mut guesser = Guesser::new("alice", HOME);
    assert_eq!(guesser.send(&mut world, "REGISTER", None), 401);
    guesser.guess(&mut world, "REGISTER", 10, 401);
    guesser.guess(&mut world, "REGISTER", 1, 403);
    for mut other in [Guesser::new("carol", HOME), Guesser::new("alice", NEXT_DOOR)] {
        assert_eq!(other.send(&mut world, "REGISTER", None), 401);
        assert_eq!(other.send(&mut world, "REGISTER", Some(PASSWORD)), 200);
    }
}

#[test]
fn who_does_not_exist_is_refused_alike() {
    let mut world = World::new();
    let mut guesser = Guesser::new("nobody", HOME);
    assert_eq!(guesser.send(&mut world, "REGISTER", None), 401);
    guesser.guess(&mut world, "REGISTER", 10, 401);
    guesser.guess(&mut world, "REGISTER", 1, 403);
}

#[test]
fn another_port_and_another_worker_are_no_way_around() {
    let mut world = World::with(2, |_| {});
    for number in 0..11 {
        let mut guesser = Guesser::new("alice", &format!("198.51.100.7:{}", 6000 + number));
        guesser.worker = number % 2;
        assert_eq!(guesser.send(&mut world, "REGISTER", None), 401);
        guesser.guess(&mut world, "REGISTER", 1, if number < 10 { 401 } else { 403 });
    }
}

#[test]
fn a_right_password_starts_the_count_anew() {
    let mut world = World::new();
    let mut alice = Guesser::new("alice", HOME);
    assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    for _ in 0..5 {
        alice.guess(&mut world, "REGISTER", 9, 401);
        assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 200);
    }
}

#[test]
fn neither_a_first_request_nor_an_old_nonce_is_a_wrong_password() {
    let mut world = World::new();
    let mut alice = Guesser::new("alice", HOME);
    for _ in 0..30 {
        assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    }
    let first = alice.client.clone();
    world.pass_s(3601);
    for _ in 0..30 {
        alice.client = first.clone();
        assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 401, "stale");
    }
    assert_eq!(alice.send(&mut world, "REGISTER", Some(PASSWORD)), 200);
}

/// Otherwise `stale=true` would tell who has guessed right, as often as he likes.
#[test]
fn a_wrong_password_counts_with_an_old_nonce_as_well() {
    let mut world = World::new();
    let mut alice = Guesser::new("alice", HOME);
    assert_eq!(alice.send(&mut world, "REGISTER", None), 401);
    let first = alice.client.clone();
    world.pass_s(3601);
    for _ in 0..10 {
        alice.client = first.clone();
        alice.guess(&mut world, "REGISTER", 1, 401);
    }
    alice.client = first;
    alice.guess(&mut world, "REGISTER", 1, 403);
}
