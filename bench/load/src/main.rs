//! Load generator for the side-by-side benchmarks: plays telephones against one SIP server, counts units, measures latency
//! and the server's CPU time, and prints one line of JSON. `bench/run` calls it.
//!
//! It shares no code with the product. One thread polls non-blocking sockets without ever sleeping, so give it a core of its
//! own (`taskset`).

#![forbid(unsafe_code)]

mod bare;
mod call;
mod cpu;
mod digest;
mod engine;
mod register;
mod report;
mod rtp;
mod users;
mod wire;

use std::{net::SocketAddr, ops::RangeInclusive, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use bare::Bare;
use call::{Call, Part};
use clap::{Parser, ValueEnum};
use cpu::Watch;
use engine::{Net, Pacing, Scenario, drive};
use register::{Options, Register};
use report::Report;
use users::{Realm, User, users};

/// Load generator for the side-by-side benchmarks. Prints one line of JSON.
#[derive(Parser)]
struct Arguments {
    /// What one unit is.
    unit: Unit,
    /// The server's UDP address.
    #[arg(long)]
    server: SocketAddr,
    #[arg(long, default_value = "example.org")]
    domain: String,
    /// The password of all accounts: u000000, u000001, … and, for those who are called, c000000, …
    #[arg(long, default_value = "bench")]
    password: String,
    /// How many users take part; in calls, how many on each side.
    #[arg(long, default_value_t = 1000)]
    users: usize,
    /// Units a second (open loop); without it, a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Units outstanding in the closed loop.
    #[arg(long, default_value_t = 64)]
    outstanding: usize,
    /// Begin no more units than this.
    #[arg(long, default_value_t = 2_000_000)]
    count: u64,
    /// Seconds before the measured window.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Seconds of the measured window.
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Source addresses on either side of a call.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=250))]
    sockets: u8,
    /// Calls that are up at once (rtp).
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// The relay's ports, FIRST-LAST: media must then be anchored there (call, rtp).
    #[arg(long)]
    relay_ports: Option<Ports>,
    /// Processes whose CPU time is measured: NAME=PID,PID. May be given again.
    #[arg(long)]
    watch: Vec<Watch>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Unit {
    /// OPTIONS to the server, answered.
    Options,
    /// REGISTER, 401, REGISTER, 200.
    Register,
    /// REGISTER with a cached nonce, 200.
    Reregister,
    /// INVITE 100 180 200 ACK BYE 200; with 407 if the server asks.
    Call,
    /// One RTP packet relayed, with --calls calls up.
    Rtp,
    /// One RTP packet relayed by `bare relay`, without any signalling.
    BareRtp,
    /// The bare loop with the packets of each unit.
    BareOptions,
    BareRegister,
    BareCall,
    BareCallAuthenticated,
}

#[derive(Clone)]
struct Ports(RangeInclusive<u16>);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("trapez-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<String> {
    let pacing = Pacing {
        rate: arguments.rate,
        outstanding: arguments.outstanding,
        count: arguments.count,
        warmup: Duration::try_from_secs_f64(arguments.warmup)?,
        duration: Duration::try_from_secs_f64(arguments.seconds)?,
    };
    let mut report = match arguments.unit {
        Unit::Call => calls(arguments, &pacing)?,
        Unit::Rtp => media(arguments, &pacing)?,
        Unit::BareRtp => bare_media(arguments, &pacing)?,
        _ => simple(arguments, &pacing)?,
    };
    let name = arguments
        .unit
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default();
    let pacing = match arguments.rate {
        _ if matches!(arguments.unit, Unit::Rtp | Unit::BareRtp) => format!("{} calls", arguments.calls),
        Some(rate) => format!("{rate}/s"),
        None => format!("{} outstanding", arguments.outstanding),
    };
    Ok(report.json(&name, &pacing).to_string())
}

/// Units between one user and the server.
fn simple(arguments: &Arguments, pacing: &Pacing) -> anyhow::Result<Report> {
    let mut net = Net::open(arguments.server, &[1], arguments.sockets)?;
    let realm = arguments.realm();
    let users = users(&realm, &net, 'u', arguments.users, 0, arguments.sockets.into());
    let mut run = |scenario: &mut dyn Scenario, pacing: &Pacing| {
        drive(scenario, &mut net, arguments.users, pacing, &arguments.watch)
    };
    Ok(match arguments.unit {
        Unit::Options => run(&mut Options::new(users, &realm), pacing),
        Unit::Register => run(&mut Register::new(users, &realm, false), pacing),
        Unit::Reregister => {
            let mut register = Register::new(users, &realm, false);
            complete(&run(&mut register, &all(arguments.users)), "registration")?;
            register.reuse_nonces();
            run(&mut register, pacing)
        }
        Unit::BareOptions => run(&mut Bare::new(users, bare::OPTIONS), pacing),
        Unit::BareRegister => run(&mut Bare::new(users, bare::REGISTER), pacing),
        Unit::BareCall => run(&mut Bare::new(users, bare::CALL), pacing),
        _ => run(&mut Bare::new(users, bare::CALL_AUTHENTICATED), pacing),
    })
}

/// Registers the callees, then calls them.
fn calls(arguments: &Arguments, pacing: &Pacing) -> anyhow::Result<Report> {
    let (mut net, callers, callees) = telephones(arguments, arguments.users)?;
    let mut call = Call::new(
        callers,
        callees,
        rtp::addresses,
        &arguments.realm(),
        arguments.relay(),
    );
    Ok(drive(
        &mut call,
        &mut net,
        arguments.users,
        pacing,
        &arguments.watch,
    ))
}

/// Sets up the calls, exchanges media, and hangs up.
fn media(arguments: &Arguments, pacing: &Pacing) -> anyhow::Result<Report> {
    let relay = arguments.relay().context("rtp needs --relay-ports")?;
    let legs = rtp::Legs::open(arguments.calls)?;
    let (mut net, callers, callees) = telephones(arguments, arguments.calls)?;
    let mut call = Call::new(callers, callees, rtp::addresses, &arguments.realm(), Some(relay));
    call.set_part(Part::SetUp);
    complete(
        &drive(&mut call, &mut net, arguments.calls, &all(arguments.calls), &[]),
        "call set-up",
    )?;
    let mut report = legs.exchange(&call.media(), pacing.warmup, pacing.duration, &arguments.watch)?;
    call.set_part(Part::HangUp);
    let hung_up = drive(&mut call, &mut net, arguments.calls, &all(arguments.calls), &[]);
    report.failures.extend(hung_up.failures);
    Ok(report)
}

/// The same without signalling: `bare relay` has a pair of ports for each call, from --relay-ports' first on.
fn bare_media(arguments: &Arguments, pacing: &Pacing) -> anyhow::Result<Report> {
    let first = *arguments.relay().context("bare-rtp needs --relay-ports")?.start();
    let media: Vec<_> = (0..arguments.calls)
        .map(|index| {
            let (caller, callee) = rtp::addresses(index);
            let port = |leg: usize| SocketAddr::new(arguments.server.ip(), first + (2 * index + leg) as u16);
            call::Media {
                caller,
                callee,
                caller_sends_to: port(0),
                callee_sends_to: port(1),
            }
        })
        .collect();
    let legs = rtp::Legs::open(arguments.calls)?;
    // The bare relay learns the telephones' addresses from their first packets, and has to lose these.
    legs.exchange(&media, Duration::ZERO, Duration::from_millis(40), &[])?;
    legs.exchange(&media, pacing.warmup, pacing.duration, &arguments.watch)
}

/// Opens the sockets of `pairs` callers and callees, and registers the callees.
fn telephones(arguments: &Arguments, pairs: usize) -> anyhow::Result<(Net, Vec<User>, Vec<User>)> {
    let (realm, sockets) = (arguments.realm(), usize::from(arguments.sockets));
    let mut net = Net::open(arguments.server, &[1, 2], arguments.sockets)?;
    let callers = users(&realm, &net, 'u', pairs, 0, sockets);
    let callees = || users(&realm, &net, 'c', pairs, sockets, sockets);
    let (mut register, callees) = (Register::new(callees(), &realm, false), callees());
    complete(
        &drive(&mut register, &mut net, pairs, &all(pairs), &[]),
        "registration",
    )?;
    Ok((net, callers, callees))
}

/// Each slot once, as fast as it goes.
fn all(slots: usize) -> Pacing {
    let count = slots as u64;
    Pacing {
        rate: None,
        outstanding: 16,
        count,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(120),
    }
}

fn complete(report: &Report, what: &str) -> anyhow::Result<()> {
    if !report.failures.is_empty() {
        bail!(
            "{what} failed: {:?} ({} went well)",
            report.failures,
            report.completed_total
        );
    }
    Ok(())
}

impl Arguments {
    fn realm(&self) -> Realm {
        Realm {
            domain: self.domain.clone().into_bytes(),
            password: self.password.clone().into_bytes(),
        }
    }

    fn relay(&self) -> Option<RangeInclusive<u16>> {
        self.relay_ports.as_ref().map(|ports| ports.0.clone())
    }
}

impl FromStr for Ports {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Ports> {
        let (first, last) = text.split_once('-').context("expected FIRST-LAST")?;
        Ok(Ports(first.parse()?..=last.parse()?))
    }
}
