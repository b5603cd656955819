//! Two telephones behind NAT routers, in the laboratory of `lab/`, and the demo as a newcomer has it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

use crate::baresip::{Baresip, Settings};
use crate::process::Process;
use crate::server::{binary, text};
use crate::site::Site;
use crate::tone::{HIGH, LOW};

#[test]
fn phones_behind_two_routers_hear_each_other_with_what_the_demo_prints() {
    phones_hear_each_other("demo", &[], "udp", "udp");
}

#[test]
fn phones_behind_symmetric_nat_hear_each_other() {
    phones_hear_each_other("symmetric", &["--set", "*.nat=symmetric"], "udp", "tcp");
}

#[test]
fn a_phone_whose_router_forgets_its_binding_after_seconds_can_still_be_called() {
    let site = Site::claim();
    let forgetful = ["--set", "*.udp_timeout=2"];
    let Some(lab) = Lab::up("forgetful", &forgetful) else {
        return;
    };
    let (_server, printed) = lab.demo(&site, "[nat]\nkeepalive = \"1s\"");
    let (mut alice, _relay) = lab.phone(&site, 0, "alice", "udp", &printed);
    let (mut bob, _relay) = lab.phone(&site, 1, "bob", "udp", &printed);
    sleep(3 * Duration::from_secs(2));
    alice.dial(&format!("sip:bob@{}", printed.domain));
    bob.answer();
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.0);
    // Longer than the routers remember, within the call.
    sleep(Duration::from_secs(3));
    alice.command("hangup", "");
    bob.wait_for_event("CALL_CLOSED");
}

fn phones_hear_each_other(name: &str, shape: &[&str], caller_transport: &str, callee_transport: &str) {
    let site = Site::claim();
    let Some(lab) = Lab::up(name, shape) else { return };
    let (mut server, printed) = lab.demo(&site, "");
    let (mut alice, _relay) = lab.phone(&site, 0, "alice", caller_transport, &printed);
    let (mut bob, _relay) = lab.phone(&site, 1, "bob", callee_transport, &printed);
    alice.dial(&format!("sip:bob@{}", printed.domain));
    bob.answer();
    alice.wait_for_event("CALL_ESTABLISHED");
    alice.wait_to_hear(HIGH, 1.5);
    bob.wait_to_hear(LOW, 1.5);
    bob.command("hangup", "");
    alice.wait_for_event("CALL_CLOSED");
    alice.heard().assert_holds(HIGH, LOW);
    bob.heard().assert_holds(LOW, HIGH);
    assert!(
        server.terminate(Duration::from_secs(5)).success(),
        "{}",
        server.log()
    );
}

/// What the demo tells a newcomer to type into a telephone.
struct Printed {
    text: String,
    domain: String,
}

impl Printed {
    fn parse(text: &str) -> Self {
        let domain = value_of(text, "domain").unwrap_or_else(|| panic!("the demo prints no domain:\n{text}"));
        Self {
            text: text.to_owned(),
            domain,
        }
    }

    /// The word behind `password` in the lines that follow `user ACCOUNT`.
    fn password(&self, account: &str) -> String {
        let of_account = |line: &str| line.split_whitespace().eq(["user", account]);
        let lines: Vec<&str> = self.text.lines().skip_while(|line| !of_account(line)).collect();
        value_of(&lines.join("\n"), "password")
            .unwrap_or_else(|| panic!("no password of {account} in\n{}", self.text))
    }
}

/// The word behind the first `label`.
fn value_of(text: &str, label: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == label).then(|| words.next().map(str::to_owned))?
    })
}

/// A laboratory of two homes, each with one host; taken down when dropped.
struct Lab {
    name: String,
}

impl Lab {
    /// None, with a message, where network namespaces cannot be made.
    fn up(name: &str, shape: &[&str]) -> Option<Self> {
        let name = format!("{name}-{}", std::process::id());
        let allowed = Command::new("unshare")
            .args(["--net", "true"])
            .status()
            .is_ok_and(|status| status.success());
        let root = Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"0\n"));
        if !allowed || !root {
            eprintln!("skipped: no permission for network namespaces");
            return None;
        }
        let lab = Self { name };
        let mut arguments = vec!["up", "two-homes", "--name", &lab.name];
        arguments.extend(shape);
        let output = lab.run(&arguments);
        assert!(
            output.status.success(),
            "the laboratory does not come up: {}",
            text(&output)
        );
        Some(lab)
    }

    /// The demo on the server's host, with a configuration, and what it printed.
    fn demo(&self, site: &Site, config: &str) -> (Process, Printed) {
        let binary = binary();
        let data = site.make_folder("data");
        std::fs::write(data.join("trapez.toml"), config).expect("a configuration can be written");
        let arguments = [
            binary.to_str().expect("the binary's path is text"),
            "serve",
            "--demo",
            "--data",
            data.to_str().expect("the folder's path is text"),
        ];
        let mut server = self.start("server", "trapez", site.folder(), &arguments);
        server.wait_for("Ctrl-C", 0, Duration::from_secs(10));
        let printed = Printed::parse(&server.log());
        (server, printed)
    }

    fn start(&self, host: &str, name: &str, folder: &Path, program: &[&str]) -> Process {
        let prefix = self.prefix(host);
        let all: Vec<&str> = prefix
            .iter()
            .map(String::as_str)
            .chain(program.iter().copied())
            .collect();
        Process::start(name, folder, &all, &[])
    }

    /// baresip in its home, with the account that the demo printed, and the relay to its control port.
    fn phone(
        &self,
        site: &Site,
        slot: u16,
        account: &str,
        transport: &str,
        printed: &Printed,
    ) -> (Baresip, Process) {
        let inside = SocketAddr::from(([127, 0, 0, 1], 4444));
        let reached_at = SocketAddr::new(site.address(10), site.phone_ports(slot) + 9);
        let namespace = self.namespace(account);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/relay.py");
        let (address, port) = (reached_at.ip().to_string(), reached_at.port().to_string());
        let script = script.to_str().expect("the checkout's path is text");
        let program = [
            "python3",
            script,
            &address,
            &port,
            &namespace,
            "127.0.0.1",
            "4444",
        ];
        let relay = Process::start(&format!("relay-{account}"), site.folder(), &program, &[]);
        let settings = Settings {
            domain: &printed.domain,
            password: printed.password(account),
            transport,
            proxy: SocketAddr::from((SERVER, 5060)),
            listen: SocketAddr::from(([0, 0, 0, 0], 5060)),
            interface: None,
            control: inside,
            control_reached_at: reached_at,
            prefix: self.prefix(account),
            ..Settings::of(site, slot, account, if account == "alice" { LOW } else { HIGH })
        };
        (Baresip::registered(site, &settings), relay)
    }

    fn prefix(&self, host: &str) -> Vec<String> {
        ["ip", "netns", "exec", &self.namespace(host)]
            .map(str::to_owned)
            .to_vec()
    }

    fn namespace(&self, host: &str) -> String {
        format!("natlab.{}.{host}", self.name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(program())
            .args(arguments)
            .output()
            .expect("the laboratory's program can be started")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Where it never came up there is nothing to take down.
        let _ = Command::new(program()).args(["down", &self.name]).output();
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/lab")
}

/// The server's address in every laboratory.
const SERVER: [u8; 4] = [203, 0, 113, 2];
