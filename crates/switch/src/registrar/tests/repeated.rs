//! A REGISTER that the network delivers again, known as such by its credentials: nothing is done twice, and nothing is answered
//! otherwise than the first time.

use sip::digest::{ClientAuthorization, Login};
use sip::headers::Credentials;

use super::*;

const HOME: &str = "198.51.100.7:5060";

/// A telephone that logs in.
struct Phone(ClientAuthorization);

impl Phone {
    fn new(service: &mut Service) -> Self {
        let challenge = service.register(&register(1, "").from(HOME));
        let offered: Vec<_> = challenge.header("WWW-Authenticate");
        let offered = offered
            .iter()
            .map(|line| Credentials::parse(line).expect("a challenge"));
        Phone(ClientAuthorization::from_challenges(offered).expect("an algorithm that we know"))
    }

    fn request(&mut self, cseq: u32, lines: &str) -> Register {
        let login = Login {
            username: "alice".into(),
            password: "wonderland".into(),
        };
        let mut credentials = b"Authorization: ".to_vec();
        self.0
            .write(&login, "REGISTER", "sip:example.org", b"", 7, &mut credentials);
        let credentials = String::from_utf8(credentials).expect("text");
        register(cseq, &format!("{lines}\n{credentials}")).from(HOME)
    }
}

/// What is answered and stored at once, as the service does.
fn send(service: &mut Service, request: &Register) -> (u16, usize) {
    let answer = service.register(request);
    service
        .registrar
        .stored(&answer.changes, true, &mut answer.text.clone().into_bytes());
    (answer.status, answer.changes.len())
}

const THERE: &str = "Contact: <sip:a@192.168.1.10>";
const GONE: &str = "Contact: <sip:a@192.168.1.10>;expires=0";
const ALL_GONE: &str = "Contact: *\nExpires: 0";

#[test]
fn an_older_register_sent_again_is_not_answered_and_changes_nothing() {
    for (older, newer, left) in [
        (GONE, THERE, 1),
        (THERE, GONE, 0),
        (ALL_GONE, THERE, 1),
        (THERE, ALL_GONE, 0),
        (THERE, THERE, 1),
    ] {
        let mut service = Service::new(RegistrarConfig::default());
        let mut phone = Phone::new(&mut service);
        let (older, newer) = (phone.request(2, older), phone.request(3, newer));
        assert_eq!(send(&mut service, &older).0, 200);
        assert_eq!(send(&mut service, &newer).0, 200);
        let before = service.location.lookup("alice@example.org", NOW);
        assert_eq!(before.len(), left);
        assert_eq!(send(&mut service, &older), (0, 0), "{}", older.lines);
        assert!(service.location.lookup("alice@example.org", NOW) == before);
        assert_eq!(
            send(&mut service, &newer),
            (200, 0),
            "the newest is answered again"
        );
    }
}

#[test]
fn an_older_register_that_comes_for_the_first_time_is_500() {
    let mut service = Service::new(RegistrarConfig::default());
    let mut phone = Phone::new(&mut service);
    let (older, newer) = (phone.request(2, GONE), phone.request(3, THERE));
    assert_eq!(send(&mut service, &newer), (200, 1));
    assert_eq!(send(&mut service, &older), (500, 0));
    assert_eq!(send(&mut service, &older), (0, 0), "once");
    assert_eq!(service.contacts().len(), 1);
}

#[test]
fn a_register_sent_again_does_not_undo_what_another_telephone_did() {
    let mut service = Service::new(RegistrarConfig::default());
    let mut phone = Phone::new(&mut service);
    let all_gone = phone.request(2, ALL_GONE);
    assert_eq!(send(&mut service, &all_gone), (200, 0));
    assert_eq!(send(&mut service, &all_gone), (200, 0));
    let other = register(1, "Contact: <sip:b@192.0.2.1>").call_id("another");
    assert_eq!(send(&mut service, &other), (200, 1));
    assert_eq!(send(&mut service, &all_gone), (0, 0));
    assert_eq!(service.contacts(), ["sip:b@192.0.2.1"]);
}

#[test]
fn what_could_not_be_stored_is_not_tried_again_by_the_same_request() {
    for lines in [GONE, ALL_GONE, THERE, "Contact: <sip:new@192.168.1.10>"] {
        let mut service = Service::new(RegistrarConfig::default());
        let mut phone = Phone::new(&mut service);
        assert_eq!(send(&mut service, &phone.request(2, THERE)), (200, 1));
        let request = phone.request(3, lines);
        let answer = service.register(&request);
        assert_eq!(answer.changes.len(), 1);
        service.registrar.stored(&answer.changes, false, &mut Vec::new());
        assert_eq!(
            send(&mut service, &request),
            (0, 0),
            "a 200 after the 500: {lines}"
        );
        assert_eq!(service.contacts(), ["sip:a@192.168.1.10"]);
    }
}

#[test]
fn a_refusal_is_repeated() {
    let mut service = Service::new(RegistrarConfig {
        max_bindings: 1,
        when_full: WhenFull::Refuse,
        ..RegistrarConfig::default()
    });
    let mut phone = Phone::new(&mut service);
    assert_eq!(send(&mut service, &phone.request(2, THERE)), (200, 1));
    for lines in [
        "Contact: <sip:b@192.168.1.10>",
        "Contact: <sip:b@192.168.1.10>;expires=5",
    ] {
        let request = phone.request(3, lines);
        let first = service.register(&request);
        assert!(matches!(first.status, 403 | 423), "{}", first.status);
        assert_eq!(service.register(&request).text, first.text);
    }
}
