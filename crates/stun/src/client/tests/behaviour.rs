use super::*;

fn discover(world: &mut World) -> Report {
    let local = host(0);
    let mut machine = Behaviour::new(world.now, server_address(), local, [1; 16], Timing::default());
    world.run(&mut machine);
    *machine.report()
}

fn expected(mapping: By, filtering: By) -> (Mapping, Filtering) {
    let mapping = match mapping {
        By::Endpoint => Mapping::EndpointIndependent,
        By::Address => Mapping::AddressDependent,
        By::AddressAndPort => Mapping::AddressAndPortDependent,
    };
    let filtering = match filtering {
        By::Endpoint => Filtering::EndpointIndependent,
        By::Address => Filtering::AddressDependent,
        By::AddressAndPort => Filtering::AddressAndPortDependent,
    };
    (mapping, filtering)
}

#[test]
fn every_mapping_with_every_filtering_is_found_out() {
    for mapping in ALL {
        for filtering in ALL {
            for lose_every in [0, 4] {
                let mut world = World::behind(NatKind {
                    mapping,
                    filtering,
                    ..NatKind::default()
                });
                world.lose_every = lose_every;
                let report = discover(&mut world);
                assert_eq!(
                    (report.mapping, report.filtering),
                    expected(mapping, filtering),
                    "{mapping:?} {filtering:?} {lose_every}"
                );
                assert_eq!(report.reachable, Verdict::Yes);
                assert_eq!(report.rewriting, Verdict::No);
                assert_eq!(report.mapped, Some("198.51.100.1:20000".parse().unwrap()));
            }
        }
    }
}

#[test]
fn hairpinning_is_found_whatever_is_filtered() {
    for filtering in ALL {
        for hairpin in [false, true] {
            let mut world = World::behind(NatKind {
                filtering,
                hairpin,
                ..NatKind::default()
            });
            let verdict = if hairpin { Verdict::Yes } else { Verdict::No };
            assert_eq!(discover(&mut world).hairpinning, verdict, "{filtering:?}");
        }
    }
}

#[test]
fn a_router_that_rewrites_payloads_is_noticed_and_does_not_deceive() {
    let mut world = World::behind(NatKind {
        rewrites: true,
        ..NatKind::default()
    });
    let report = discover(&mut world);
    assert_eq!(report.rewriting, Verdict::Yes);
    assert_eq!(report.mapping, Mapping::EndpointIndependent);
    assert_eq!(report.mapped, Some("198.51.100.1:20000".parse().unwrap()));
}

#[test]
fn one_form_of_the_address_alone_does_not_tell_of_rewriting() {
    let now = Instant::now();
    for kind in [AttributeType::MAPPED_ADDRESS, AttributeType::XOR_MAPPED_ADDRESS] {
        let timing = Timing::default();
        let mut machine = Behaviour::new(now, server_address(), host(0), [1; 16], timing);
        let (mut buffer, mut answer) = ([0; REQUEST], [0; 100]);
        let transmit = machine.poll_transmit(now, &mut buffer).unwrap();
        let request = Message::parse(&buffer[..transmit.length]).unwrap();
        let mut writer = Writer::answer(&mut answer, Class::Success, &request);
        let mapped = "198.51.100.1:20000".parse().unwrap();
        if kind == AttributeType::MAPPED_ADDRESS {
            writer.address(kind, mapped);
        } else {
            writer.xor_address(kind, mapped);
        }
        let length = writer.finish().unwrap();
        machine.handle_datagram(now, 0, server_address(), &answer[..length]);
        assert_eq!(machine.report().mapped, Some(mapped));
        assert_eq!(machine.report().rewriting, Verdict::Unknown);
    }
}

#[test]
fn without_a_nat_there_is_only_a_filter_to_be_found() {
    for (filter, filtering) in [
        (None, Filtering::EndpointIndependent),
        (Some(By::Address), Filtering::AddressDependent),
        (Some(By::AddressAndPort), Filtering::AddressAndPortDependent),
    ] {
        let report = discover(&mut World::open(filter));
        assert_eq!((report.mapping, report.filtering), (Mapping::NoNat, filtering));
        assert_eq!(report.hairpinning, Verdict::Unknown);
    }
}

#[test]
fn a_server_with_one_address_tells_of_hairpinning_only() {
    let mut world = World::behind(NatKind {
        hairpin: true,
        ..NatKind::default()
    });
    world.server = Some(Server::new(Config::new(server_address()), [1; 16], world.now).unwrap());
    let report = discover(&mut world);
    assert_eq!(
        (report.mapping, report.filtering, report.hairpinning),
        (Mapping::Unknown, Filtering::Unknown, Verdict::Yes)
    );
    assert_eq!(report.rewriting, Verdict::Unknown, "it tells one form only");
}

#[test]
fn a_server_that_answers_from_where_it_was_asked_leaves_the_filter_unknown() {
    for unless in [NOTHING, BOTH] {
        let mut world = World::behind(NatKind::default());
        world.deaf = Some(unless);
        let report = discover(&mut world);
        assert_eq!(
            (report.mapping, report.filtering),
            (Mapping::EndpointIndependent, Filtering::Unknown)
        );
    }
}

#[test]
fn a_silent_server_leaves_all_unknown() {
    let mut world = World::behind(NatKind::default());
    world.server = None;
    assert_eq!(
        discover(&mut world),
        Report {
            reachable: Verdict::No,
            ..Report::default()
        }
    );
}
