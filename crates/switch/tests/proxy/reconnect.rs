//! A telephone that comes back over another TCP connection within a dialog is reached by that one.

use crate::phone::*;
use crate::world::*;

/// bob's telephone, and the same one after its connection changed: same Contact, other port and connection.
fn bob_before_and_after() -> (Phone, Phone) {
    let before = tcp("bob", "192.0.2.20:40000", 7);
    let mut after = tcp("bob", "192.0.2.20:40100", 9);
    after.contact.clone_from(&before.contact);
    (before, after)
}

/// The connection of a telephone is gone.
fn connection_lost(world: &mut World, phone: &Phone) {
    world.switches[0].handle_flow_failed(world.now, &phone.flow);
    world.collect();
}

#[test]
fn a_telephone_that_registers_by_a_new_connection_gets_the_requests_of_its_dialogs_there() {
    let mut world = World::new();
    let (before, after) = bob_before_and_after();
    world.register(&before);
    let (mut near, _, _) = call(&mut world, &alice(), &before);
    // The old connection is as dead as can be, but nobody has told us.
    world.register(&after);
    world.say(&alice(), &near.next("INVITE", "", &sdp("10.0.0.1", 4000, "")));
    world.status(&alice(), 100);
    let again = world.request(&after, "INVITE");
    world.say(&after, &accept(&after, &again, ""));
    world.status(&alice(), 200);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&after, "ACK");
    world.say(&alice(), &near.next("BYE", "", ""));
    let bye = world.request(&after, "BYE");
    world.say(&after, &reply(&bye, 200, "", "", ""));
    world.status(&alice(), 200);
    world.nothing();
    world.ends_empty();
}

#[test]
fn a_request_of_the_dialog_by_a_new_connection_moves_its_side_there() {
    let mut world = World::new();
    let (before, after) = bob_before_and_after();
    world.register(&before);
    let (mut near, mut far, _) = call(&mut world, &alice(), &before);
    far.phone = after.clone();
    world.say(&after, &far.next("INFO", "", ""));
    let info = world.request(&alice(), "INFO");
    world.say(&alice(), &reply(&info, 200, "", "", ""));
    world.status(&after, 200);
    // The registration still names the old connection: the dialog knows better.
    world.say(&alice(), &near.next("INFO", "", ""));
    let info = world.request(&after, "INFO");
    world.say(&after, &reply(&info, 200, "", "", ""));
    world.status(&alice(), 200);
    world.switches[0].hang_up_all(world.now, "maintenance");
    world.collect();
    world.request(&after, "BYE");
    world.request(&alice(), "BYE");
    world.nothing();
}

#[test]
fn a_caller_that_comes_back_is_followed_too() {
    let mut world = World::new();
    world.register(&bob());
    let alice = tcp("alice", "192.0.2.10:40000", 3);
    world.register(&alice);
    let (_, mut far, _) = call(&mut world, &alice, &bob());
    let mut back = tcp("alice", "192.0.2.99:41000", 5);
    back.contact.clone_from(&alice.contact);
    connection_lost(&mut world, &alice);
    world.register(&back);
    world.say(&bob(), &far.next("BYE", "", ""));
    world.request(&back, "BYE");
    world.nothing();
}

#[test]
fn a_telephone_with_a_new_contact_is_found_when_its_old_connection_fails() {
    let mut world = World::new();
    let (before, mut after) = bob_before_and_after();
    after.contact = "sip:bob@10.0.0.77:55555;transport=tcp".into();
    world.register(&before);
    let (mut near, _, _) = call(&mut world, &alice(), &before);
    connection_lost(&mut world, &before);
    world.register(&after);
    world.say(&alice(), &near.next("INVITE", "", &sdp("10.0.0.1", 4000, "")));
    world.status(&alice(), 100);
    world.request(&before, "INVITE");
    // The server finds no connection of that name.
    connection_lost(&mut world, &before);
    let again = world.request(&after, "INVITE");
    world.say(&after, &accept(&after, &again, ""));
    world.status(&alice(), 200);
    world.say(&alice(), &near.next("ACK", "", ""));
    world.request(&after, "ACK");
    world.nothing();
}

#[test]
fn a_failed_connection_without_a_successor_or_with_two_is_480() {
    let (before, mut one) = bob_before_and_after();
    one.contact = "sip:bob@10.0.0.77:55555;transport=tcp".into();
    let two = tcp("bob", "192.0.2.21:40200", 11);
    for registered in [vec![], vec![one, two]] {
        let mut world = World::new();
        world.register(&before);
        let (mut near, _, _) = call(&mut world, &alice(), &before);
        connection_lost(&mut world, &before);
        for phone in &registered {
            world.register(phone);
        }
        world.say(&alice(), &near.next("INFO", "", ""));
        world.request(&before, "INFO");
        connection_lost(&mut world, &before);
        world.status(&alice(), 480);
        world.nothing();
    }
}

#[test]
fn a_telephone_that_calls_by_a_connection_of_its_own_is_not_taken_for_another_one() {
    let mut world = World::new();
    // The account is registered by another telephone; this one only makes calls.
    let registered = tcp("alice", "192.0.2.11:40300", 13);
    world.register(&registered);
    world.register(&bob());
    let alice = tcp("alice", "192.0.2.10:40000", 3);
    assert_ne!(registered.flow.connection, alice.flow.connection);
    let (_, mut far, _) = call(&mut world, &alice, &bob());
    world.say(&bob(), &far.next("BYE", "", ""));
    world.request(&alice, "BYE");
    world.nothing();
}
