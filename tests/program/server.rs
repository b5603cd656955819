//! The product: its binary, with a configuration and data of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::process::{Process, wait_until};
use crate::site::{DOMAIN, Site};
use crate::wire::Wire;

/// A running server, and the folder in which it keeps its data.
pub(crate) struct Server<'a> {
    site: &'a Site,
    process: Option<Process>,
    starts: u32,
}

/// The binary under test: another build can be named, for example an installed one.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TRAPEZ_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_trapez").into(), PathBuf::from)
}

impl<'a> Server<'a> {
    /// Makes the accounts, each with [`password`], and starts serving.
    pub(crate) fn start(site: &'a Site, accounts: &[&str]) -> Self {
        Self::start_with(site, accounts, "")
    }

    /// The same with more configuration; `more` begins with keys of `[auth]`, tables may follow.
    pub(crate) fn start_with(site: &'a Site, accounts: &[&str], more: &str) -> Self {
        let mut server = Self::configure(site, more);
        for account in accounts {
            server.add_account(account);
        }
        server.serve();
        server
    }

    /// Writes the configuration, starts nothing.
    pub(crate) fn configure(site: &'a Site, more: &str) -> Self {
        let (first, last) = site.relay_ports();
        let mut config = String::new();
        let address = site.server();
        writeln!(config, "domains = [\"{DOMAIN}\"]").expect("a string takes text");
        writeln!(config, "[listen]\nudp = [\"{address}\"]\ntcp = [\"{address}\"]")
            .expect("a string takes text");
        writeln!(config, "[media]\nports = \"{first}-{last}\"").expect("a string takes text");
        let trusted = match address {
            SocketAddr::V4(_) => format!("\"{}/27\"", site.address(TRUSTED)),
            SocketAddr::V6(_) => String::new(),
        };
        writeln!(config, "[auth]\ntrusted = [{trusted}]\n{more}").expect("a string takes text");
        std::fs::write(site.folder().join(CONFIG), config).expect("a configuration can be written");
        site.make_folder(DATA);
        Self {
            site,
            process: None,
            starts: 0,
        }
    }

    /// Puts `new` in the place of `old` in the configuration.
    pub(crate) fn reconfigure(&self, old: &str, new: &str) {
        let path = self.site.folder().join(CONFIG);
        let config = std::fs::read_to_string(&path).expect("the configuration was written");
        assert!(config.contains(old), "{config}");
        std::fs::write(path, config.replace(old, new)).expect("a configuration can be written");
    }

    /// Starts the binary and waits until it answers.
    pub(crate) fn serve(&mut self) {
        self.starts += 1;
        let name = format!("trapez-{}", self.starts);
        let binary = binary();
        let binary = binary.to_str().expect("the binary's path is text");
        let program = [binary, "serve", "--config", CONFIG, "--data", DATA];
        let mut process = Process::start(&name, self.site.folder(), &program, &[]);
        let probe = Wire::new(self.site.address(2), self.site.server());
        let up = wait_until(START, || {
            assert!(
                process.is_running(),
                "the server ended at once: {}",
                process.log()
            );
            probe.send(&probe.options(&format!("sip:{DOMAIN}")));
            probe.receive(Duration::from_millis(100))
        });
        assert!(
            up.is_some(),
            "the server does not answer within {START:?}\n{}",
            process.log()
        );
        self.process = Some(process);
    }

    /// `trapez account add`, with the password from standard input.
    pub(crate) fn add_account(&self, account: &str) {
        let line = password(account);
        let output = self.command(
            &[
                "account",
                "add",
                &format!("{account}@{DOMAIN}"),
                "--password-stdin",
            ],
            &line,
        );
        assert!(
            output.status.success(),
            "account add {account}: {}",
            text(&output)
        );
    }

    /// Runs a command of the product on this server's configuration and data.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(binary())
            .args(arguments)
            .args(["--config", CONFIG, "--data", DATA])
            .current_dir(self.site.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A command that wants no input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("a child can be waited for")
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// As a crash: SIGKILL.
    pub(crate) fn crash(&mut self) {
        self.process().kill();
        self.process = None;
    }
}

/// The password that tests give to `account`.
pub(crate) fn password(account: &str) -> String {
    format!("secret-of-{account}")
}

/// Everything a finished command said.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Hosts from this one on (32 of them) are trusted: nobody asks them for a password. On IPv6 nobody is.
pub(crate) const TRUSTED: u8 = 32;
pub(crate) const CONFIG: &str = "trapez.toml";
pub(crate) const DATA: &str = "data";
const START: Duration = Duration::from_secs(10);
