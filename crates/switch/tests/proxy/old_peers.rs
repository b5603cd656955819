//! Peers of RFC 2543, whose branches name no transaction: they are matched by the other header fields (RFC 3261 17.2.3).

use crate::phone::*;
use crate::world::*;

/// What a Via of RFC 2543 has for a branch: nothing, or something that many requests have.
const BRANCHES: [&str; 3] = ["", ";branch=1", ";branch=z9hG4bK"];

fn ready() -> World {
    let mut world = World::new();
    world.register(&bob());
    world
}

/// An INVITE of an old telephone.
fn old_invite(branch: &str) -> String {
    let text = invite(&alice(), "bob");
    let via = text_of(&text, "Via");
    text.replace(&via, &old_via(&via, branch))
}

fn old_via(via: &str, branch: &str) -> String {
    let (start, _) = via.split_once(";branch=").expect("a branch");
    format!("{start}{branch}")
}

fn text_of(message: &str, name: &str) -> String {
    text(message).all(name)[0].to_owned()
}

#[test]
fn a_request_that_comes_again_is_known_and_another_one_with_its_branch_is_not() {
    for branch in BRANCHES {
        let mut world = ready();
        let first = old_invite(branch);
        world.say(&alice(), &first);
        world.status(&alice(), 100);
        world.request(&bob(), "INVITE");
        world.say(&alice(), &first);
        world.status(&alice(), 100);
        world.nothing();
        let second = old_invite(branch);
        assert_eq!(text_of(&first, "Via"), text_of(&second, "Via"));
        world.say(&alice(), &second);
        world.status(&alice(), 100);
        world.request(&bob(), "INVITE");
        world.nothing();
    }
}

#[test]
fn a_cancel_finds_its_invite_and_the_ack_to_the_refusal_stays_here() {
    for branch in BRANCHES {
        let mut world = ready();
        let (given_up, kept) = (old_invite(branch), old_invite(branch));
        let mut sent = Vec::new();
        for text in [&given_up, &kept] {
            world.say(&alice(), text);
            world.status(&alice(), 100);
            let invite = world.request(&bob(), "INVITE");
            world.say(&bob(), &reply(&invite, 180, "b", "", ""));
            world.status(&alice(), 180);
            sent.push(invite);
        }
        world.say(&alice(), &hop(&given_up, "CANCEL", ""));
        world.status(&alice(), 200);
        let cancel = world.request(&bob(), "CANCEL");
        assert_eq!(cancel.get("Call-ID"), text_of(&given_up, "Call-ID"));
        world.say(&bob(), &reply(&cancel, 200, "b", "", ""));
        world.say(&bob(), &reply(&sent[0], 487, "b", "", ""));
        world.request(&bob(), "ACK");
        let refusal = world.status(&alice(), 487);
        world.say(&alice(), &hop(&given_up, "ACK", refusal.to_tag()));
        // It is not sent again, so the ACK was understood; and it went no further.
        world.pass_s(5);
        world.nothing();
        // The other call rings on, and is answered.
        world.say(&bob(), &accept(&bob(), &sent[1], "b"));
        let ok = world.status(&alice(), 200);
        let mut near = Dialog::caller(&alice(), &ok);
        let ack = near.next("ACK", "", "");
        let via = text_of(&ack, "Via");
        world.say(&alice(), &ack.replace(&via, &old_via(&via, branch)));
        let ack = world.request(&bob(), "ACK");
        assert_eq!(ack.get("Call-ID"), text_of(&kept, "Call-ID"));
        world.nothing();
    }
}

#[test]
fn an_ack_to_a_refusal_that_matches_nothing_goes_nowhere() {
    let mut world = ready();
    let text = old_invite("");
    world.say(&alice(), &hop(&text, "ACK", "unknown"));
    world.say(&alice(), &hop(&text, "CANCEL", ""));
    world.status(&alice(), 481);
    world.nothing();
}
