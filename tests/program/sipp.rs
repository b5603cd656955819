//! SIPp: one side of a call, played from a scenario in `tests/program/sipp/`.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Process, wait_until};
use crate::site::{DOMAIN, Site};
use crate::wire::Wire;

/// A running scenario: one call.
pub(crate) struct Sipp {
    process: Process,
    folder: PathBuf,
    scenario: &'static str,
}

impl Sipp {
    /// Starts `scenario` on host `host` of the site, towards the server. `[service]` is the account `callee`, `[field0]`
    /// the account `caller`, `[field1]` the domain. SIPp answers no challenge: callers sit on a trusted host.
    pub(crate) fn start(site: &Site, scenario: &'static str, host: u8, caller: &str, callee: &str) -> Self {
        let folder = site.make_folder(&format!("sipp-{scenario}-{host}"));
        std::fs::write(
            folder.join("fields.csv"),
            format!("SEQUENTIAL\n{caller};{DOMAIN}\n"),
        )
        .expect("a scenario's fields can be written");
        let file = format!("{}/tests/program/sipp/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
        let (address, server) = (site.address(host).to_string(), site.server().to_string());
        let media = (site.phone_ports(4) + u16::from(host % 2) * 4).to_string();
        let program = [
            "sipp",
            &server,
            "-sf",
            &file,
            "-inf",
            "fields.csv",
            "-s",
            callee,
            "-i",
            &address,
            "-p",
            "5060",
            "-mi",
            "127.0.0.1",
            "-mp",
            &media,
            "-m",
            "1",
            "-timeout",
            "25",
            "-timeout_error",
            "-nostdin",
            "-trace_msg",
            "-message_file",
            "messages.log",
            "-trace_err",
            "-error_file",
            "errors.log",
        ];
        let process = Process::start(&format!("sipp-{scenario}"), &folder, &program, &[]);
        Self {
            process,
            folder,
            scenario,
        }
    }

    /// The same for a side that waits for a call: `account` is registered from its address first, and the port is open
    /// when this returns.
    pub(crate) fn registered(site: &Site, scenario: &'static str, host: u8, account: &str) -> Self {
        let address = SocketAddr::new(site.address(host), 5060);
        let registration = Wire::at(address, site.server()).register(account, 300);
        assert_eq!(registration.status(), 200, "{}", registration.text);
        let sipp = Self::start(site, scenario, host, "nobody", account);
        let open = wait_until(Duration::from_secs(10), || UdpSocket::bind(address).err());
        assert!(
            open.is_some(),
            "SIPp does not open its port\n{}",
            sipp.process.log()
        );
        sipp
    }

    /// Waits until the scenario is through, as written.
    #[track_caller]
    pub(crate) fn passes(mut self) -> String {
        let status = self.process.wait(Duration::from_secs(40));
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let messages = read("messages.log");
        assert!(
            status.success(),
            "scenario {}: {status}\n{}\n{messages}",
            self.scenario,
            read("errors.log")
        );
        messages
    }
}
