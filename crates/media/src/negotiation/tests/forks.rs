//! Several destinations at once or one after the other.

use super::*;

#[test]
fn forks_have_ports_of_their_own_and_the_winner_keeps_them() {
    let mut call = Call::new(RelayPolicy::Always, CALLER);
    let branches = [
        call.session.add_branch(CALLEE),
        call.session.add_branch(CALLEE),
        call.session.add_branch(IPV6),
    ];
    let told =
        branches.map(|branch| target(&call.says(branch, Role::Caller, Carrier::Invite, &audio(ALICE, 4000))));
    assert_eq!(
        told,
        ["203.0.113.10:30002", "203.0.113.10:30004", "2001:db8::10:30006"]
    );
    call.commands();
    // Early media: the last to describe itself is heard.
    call.says(
        branches[0],
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    assert_eq!(
        call.orders(),
        ["select 0 callee 0", "update 0 caller", "update 0 callee 0"]
    );
    let early = call.says(
        branches[1],
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 6000),
    );
    assert_eq!(target(&early), "203.0.113.10:30000", "one port for the caller");
    assert_eq!(
        call.orders(),
        ["select 0 callee 1", "update 0 caller", "update 0 callee 1"]
    );
    call.session.branch_failed(branches[2], &mut call.pool);
    assert_eq!(call.orders(), ["close 0 callee 2"]);
    // The first wins.
    call.says(
        branches[0],
        Role::Callee,
        Carrier::InviteSuccess,
        &audio(BOB, 5000),
    );
    call.session.confirmed(branches[0], &mut call.pool);
    assert_eq!(
        call.orders(),
        [
            "close 0 callee 1",
            "select 0 callee 0",
            "update 0 caller",
            "update 0 callee 0",
            "confirm 0"
        ]
    );
    assert_eq!(
        call.pool.taken.iter().copied().collect::<Vec<_>>(),
        [PortId(0), PortId(1)]
    );
    let late = call.try_says(
        branches[1],
        Role::Callee,
        Carrier::InviteSuccess,
        &audio(BOB, 6000),
    );
    assert_eq!(late, Err(Error::UnknownBranch(branches[1])));
    call.session.confirmed(branches[1], &mut call.pool);
    assert_eq!(call.session.winner(), Some(branches[0]));
}

#[test]
fn line_that_only_a_loser_has_ends_with_it() {
    let mut call = Call::new(RelayPolicy::Auto, CALLER);
    let (winner, loser) = (call.session.add_branch(CALLEE), call.session.add_branch(CALLEE));
    // Late offers differ from branch to branch.
    call.says(
        winner,
        Role::Callee,
        Carrier::InviteProvisional,
        &audio(BOB, 5000),
    );
    let two = audio_with(BOB, 6000, "m=video 6004 RTP/AVP 96\r\n");
    call.says(loser, Role::Callee, Carrier::InviteProvisional, &two);
    call.commands();
    call.session.confirmed(winner, &mut call.pool);
    let orders = call.orders();
    assert_eq!(
        orders,
        [
            "close 0 callee 1",
            "close 1 callee 1",
            "close 1",
            "select 0 callee 0",
            "confirm 0"
        ]
    );
    assert_eq!(call.pool.taken.len(), 2);
}

#[test]
fn next_destination_after_a_failure_gets_the_same_offer() {
    let (mut call, first) = Call::with_branch();
    call.says(first, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.session.branch_failed(first, &mut call.pool);
    assert_eq!(call.pool.taken.len(), 1, "the caller's ports stay");
    let second = call.session.add_branch(CALLEE);
    call.says(second, Role::Caller, Carrier::Invite, &audio(ALICE, 4000));
    call.says(second, Role::Callee, Carrier::InviteSuccess, &audio(BOB, 5000));
    call.session.confirmed(second, &mut call.pool);
    assert_eq!(call.legs().1.rtp, Some(addr("192.168.2.6:5000")));
}

#[test]
fn direct_winner_among_relayed_forks_frees_the_relay() {
    let public = |address: &str| Party {
        signalling: ip(address),
        claimed: Some(ip(address)),
    };
    let mut call = Call::new(RelayPolicy::Auto, public("198.51.100.7"));
    let (direct, relayed) = (
        call.session.add_branch(public("192.0.2.50")),
        call.session.add_branch(CALLEE),
    );
    for branch in [direct, relayed] {
        call.says(
            branch,
            Role::Caller,
            Carrier::Invite,
            &audio("198.51.100.7", 4000),
        );
    }
    assert_eq!(call.pool.taken.len(), 2);
    call.says(
        direct,
        Role::Callee,
        Carrier::InviteSuccess,
        &audio("192.0.2.50", 5000),
    );
    call.session.confirmed(direct, &mut call.pool);
    assert!(call.pool.taken.is_empty());
    assert_eq!(call.orders().last().unwrap(), "close 0");
}
