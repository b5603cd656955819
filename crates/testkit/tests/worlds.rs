//! A thousand worlds and more, from a number that is new at each run; `TRAPEZ_SEED` sets it. `TRAPEZ_WORLDS` sets how many.

use std::time::{SystemTime, UNIX_EPOCH};

use agent::Random;
use testkit::{Plan, Weather, run};

#[test]
fn what_has_to_hold_holds_in_every_world() {
    let seed = number("TRAPEZ_SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_nanos() as u64
    });
    let count = number("TRAPEZ_WORLDS").unwrap_or(WORLDS);
    let mut seeds = Random::new(seed);
    let (mut calls, mut answered, mut expected, mut packets) = (0, 0, 0, 0);
    let mut failed = Vec::new();
    for _ in 0..count {
        let plan = Plan::new(seeds.number());
        let outcome = run(&plan, false);
        calls += outcome.calls;
        answered += outcome.answered;
        expected += outcome.expected;
        packets += outcome.packets;
        if !outcome.faults.is_empty() {
            println!("world {} ({:?}):", plan.seed, plan.weather);
            outcome.faults.iter().for_each(|fault| println!("    {fault}"));
            failed.push(plan.seed);
        }
    }
    println!(
        "{count} worlds of seed {seed}: {calls} calls, {answered} answered, {expected} known beforehand, \
         {packets} packets heard"
    );
    assert!(
        failed.is_empty(),
        "{} of {count} worlds failed. What happens in the first:\n    TRAPEZ_WORLD={} cargo test -p testkit --test worlds -- \
         --nocapture one_world\nAll of them again:\n    TRAPEZ_SEED={seed} TRAPEZ_WORLDS={count} cargo test -p testkit",
        failed.len(),
        failed[0]
    );
    assert!(answered * 4 > calls, "many calls are answered");
    assert!(
        expected * 4 > calls,
        "what comes of a call is often known beforehand"
    );
}

#[test]
fn one_world_by_its_number() {
    let plan = Plan::new(number("TRAPEZ_WORLD").unwrap_or(1));
    let outcome = run(&plan, true);
    println!("{plan:#?}");
    outcome.trace.iter().for_each(|line| println!("{line}"));
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
}

#[test]
fn same_number_is_the_same_world() {
    for seed in 0..20 {
        let plan = Plan::new(seed);
        let (first, second) = (run(&plan, true), run(&plan, true));
        assert_eq!(first.digest, second.digest, "world {seed}");
        assert_eq!(first.trace, second.trace, "world {seed}");
    }
}

#[test]
fn there_are_worlds_of_every_weather() {
    for weather in [Weather::Calm, Weather::Stormy, Weather::Crashing] {
        assert!((0..100).any(|seed| Plan::new(seed).weather == weather));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Worlds of one run.
const WORLDS: u64 = 1_000;
