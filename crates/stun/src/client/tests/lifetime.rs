use super::*;

fn measure(world: &mut World) -> BindingLifetime {
    let mut machine = Lifetime::new(
        world.now,
        server_address(),
        &Lifetime::TIMES,
        [1; 16],
        Timing::default(),
    );
    world.run(&mut machine);
    machine.answer()
}

fn living(seconds: u64) -> World {
    World::behind(NatKind {
        lifetime: Duration::from_secs(seconds),
        ..NatKind::default()
    })
}

#[test]
fn the_lifetime_lies_between_two_of_the_times_that_are_tried() {
    let between =
        |alive, dead| BindingLifetime::Between(Duration::from_secs(alive), Duration::from_secs(dead));
    for (seconds, expected) in [
        (10, BindingLifetime::LessThan(Duration::from_secs(15))),
        (20, between(15, 25)),
        (30, between(25, 35)),
        (60, between(55, 65)),
        (120, between(95, 125)),
        (300, between(185, 305)),
        (310, BindingLifetime::AtLeast(Duration::from_secs(305))),
    ] {
        assert_eq!(measure(&mut living(seconds)), expected, "{seconds} s");
    }
}

#[test]
fn it_takes_as_long_as_the_first_that_dies() {
    let mut world = living(60);
    measure(&mut world);
    assert!(world.elapsed() < Duration::from_secs(75), "{:?}", world.elapsed());
}

#[test]
fn a_symmetric_nat_has_a_lifetime_too() {
    for mapping in [By::Address, By::AddressAndPort] {
        let mut world = World::behind(NatKind {
            mapping,
            lifetime: Duration::from_secs(60),
            ..NatKind::default()
        });
        let expected = BindingLifetime::Between(Duration::from_secs(55), Duration::from_secs(65));
        assert_eq!(measure(&mut world), expected);
    }
}

#[test]
fn lost_datagrams_do_not_kill_a_binding() {
    let mut world = living(60);
    world.lose_every = 3;
    let expected = BindingLifetime::Between(Duration::from_secs(55), Duration::from_secs(65));
    assert_eq!(measure(&mut world), expected);
}

#[test]
fn a_nat_that_changes_its_address_leaves_it_unknown() {
    let mut world = World::behind(NatKind {
        pool: true,
        ..NatKind::default()
    });
    assert_eq!(measure(&mut world), BindingLifetime::Unknown);
}

#[test]
fn a_silent_server_leaves_it_unknown() {
    let mut world = living(60);
    world.server = None;
    assert_eq!(measure(&mut world), BindingLifetime::Unknown);
}

#[test]
fn a_server_that_cannot_answer_to_another_port_leaves_it_unknown() {
    for response_port in [ResponsePort::Refused, ResponsePort::Ignored] {
        let mut world = living(60);
        world.response_port = response_port;
        assert_eq!(measure(&mut world), BindingLifetime::Unknown);
    }
}
