//! `serve --demo`: two accounts, and what to type into two phones.

use std::env;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use server::config::StoreUrl;
use server::control::{Offline, Password, RefusalKind, Request};
use server::{Config, Ready, Transport};
use store::DataDir;

use crate::failure::Failure;
use crate::globals::{Globals, unix_seconds};
use crate::password;

/// The accounts of the demonstration, each with its password if it was made just now.
pub(crate) type Accounts = Vec<(&'static str, Option<Password>)>;

/// Makes the accounts that are missing.
pub(crate) fn make_accounts(config: &Config, dir: &DataDir) -> Result<Accounts, Failure> {
    let mut offline = Offline::open(dir, config.clone())?;
    let mut accounts = Vec::new();
    for account in ACCOUNTS {
        let password = password::generate()?;
        let add = Request::AccountAdd {
            account: account.to_owned(),
            password: password.clone(),
        };
        match offline.handle(&add, unix_seconds()) {
            Ok(_) => accounts.push((account, Some(password))),
            // There since an earlier start.
            Err(refusal) if refusal.kind == RefusalKind::Refused => accounts.push((account, None)),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(accounts)
}

/// Removes the accounts that were made just now: the service did not start, and nobody saw their passwords.
pub(crate) fn unmake_accounts(config: &Config, dir: &DataDir, accounts: &Accounts) {
    // What made the service fail may make this fail too; then the next start says how to set a password.
    let Ok(mut offline) = Offline::open(dir, config.clone()) else {
        return;
    };
    for (account, _) in accounts.iter().filter(|(_, password)| password.is_some()) {
        let remove = Request::AccountRemove {
            account: (*account).to_owned(),
        };
        let _ = offline.handle(&remove, unix_seconds());
    }
}

/// What to type into the phones, where the data is, and what to run next.
pub(crate) fn instructions(program: &Program, config: &Config, ready: &Ready, accounts: &Accounts) -> String {
    let mut out = String::from("Type this into two phones:\n\n");
    let (address, transports) = reached_at(config, ready);
    let port = transports.first().map_or(5060, |(_, port)| *port);
    let server = match (address, port) {
        (address, 5060) if address.is_ipv4() => address.to_string(),
        (address, 5060) => format!("[{address}]"),
        (address, port) => SocketAddr::from((address, port)).to_string(),
    };
    let domain = config
        .domains
        .first()
        .map_or_else(|| server.clone(), ToString::to_string);
    let fact = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<10} {value}");
    };
    fact(&mut out, "domain", &domain);
    if domain != server {
        fact(&mut out, "proxy", &server);
    }
    let named: Vec<String> = transports
        .iter()
        .map(|(transport, port)| format!("{} port {port}", transport.as_via()))
        .collect();
    fact(&mut out, "transport", &named.join(", "));
    for (account, password) in accounts {
        let _ = writeln!(out);
        fact(&mut out, "user", account);
        match password {
            Some(password) => fact(&mut out, "password", password.reveal()),
            None => {
                let passwd = program.call(&format!("account passwd {account}"));
                fact(
                    &mut out,
                    "password",
                    &format!("as it was; to set a new one: {passwd}"),
                );
            }
        }
    }
    if accounts.iter().any(|(_, password)| password.is_some()) {
        let _ = writeln!(out, "\nThe passwords are shown this once: they are not stored.");
    }
    let _ = writeln!(
        out,
        "\nCall echo to hear yourself (sip:echo@{domain}); then let alice call bob.\n"
    );
    let StoreUrl::Sqlite(file) = &config.store.url;
    let _ = writeln!(
        out,
        "The data is in {}. In another terminal:\n",
        ready.data_dir.join(file).display()
    );
    let calls = NEXT.map(|(command, what)| (program.call(command), what));
    let width = calls
        .iter()
        .map(|(call, _)| call.chars().count())
        .max()
        .unwrap_or(0);
    for (call, what) in calls {
        let _ = writeln!(out, "  {call:<width$}  {what}");
    }
    out.push_str("\nCtrl-C ends the service.\n\n");
    out
}

/// How this program is to be called again, so that it finds the same data and configuration.
pub(crate) struct Program {
    name: String,
    place: String,
}

impl Program {
    pub(crate) fn of(globals: &Globals) -> Self {
        let name = env::args()
            .next()
            .filter(|name| name.contains('/'))
            .unwrap_or_else(|| "trapez".to_owned());
        let mut place = String::new();
        for (option, path) in [("--config", &globals.config), ("--data", &globals.data)] {
            if let Some(path) = path {
                let _ = write!(place, " {option} {}", quoted(&path.display().to_string()));
            }
        }
        Self {
            name: quoted(&name),
            place,
        }
    }

    fn call(&self, command: &str) -> String {
        format!("{} {command}{}", self.name, self.place)
    }
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The address that phones of the same network reach, and the transports there with their ports: what is advertised, or
/// else the address that packets to elsewhere leave from, if the service listens on it.
fn reached_at(config: &Config, ready: &Ready) -> (IpAddr, Vec<(Transport, u16)>) {
    let listens = |ip: &IpAddr| ready.listen.iter().any(|(_, at)| at.ip() == *ip);
    let mut addresses = ready.listen.iter().map(|(_, at)| at.ip());
    let local = outward_address()
        .filter(listens)
        .or_else(|| addresses.clone().find(|ip| ip.is_ipv4() && !ip.is_loopback()))
        .or_else(|| addresses.next())
        .unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let there = ready.listen.iter().filter(|(_, at)| at.ip() == local);
    let transports = there.map(|(transport, at)| (*transport, at.port())).collect();
    (
        config.listen.advertise.first().copied().unwrap_or(local),
        transports,
    )
}

fn outward_address() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: the kernel only looks up the route. The addresses are reserved for
    // documentation (RFC 5737, RFC 3849), so that it is the default route.
    let from = |local: &str, remote: &str| {
        let socket = UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    from("0.0.0.0:0", "192.0.2.1:9").or_else(|| from("[::]:0", "[2001:db8::1]:9"))
}

const ACCOUNTS: [&str; 2] = ["alice", "bob"];

/// What to look at next.
const NEXT: [(&str, &str); 4] = [
    ("bindings", "who is registered"),
    ("calls", "who talks to whom"),
    ("records", "the calls that were"),
    ("config sample", "a configuration to start from"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(config: &str, listen: &[(Transport, &str)], accounts: Accounts) -> String {
        let program = Program {
            name: "target/release/trapez".to_owned(),
            place: " --data /srv/t".to_owned(),
        };
        let config = Config::parse("", config).unwrap();
        let listen = listen
            .iter()
            .map(|(transport, at)| (*transport, at.parse().unwrap()))
            .collect();
        instructions(
            &program,
            &config,
            &Ready {
                listen,
                data_dir: "/srv/t".into(),
            },
            &accounts,
        )
    }

    #[test]
    fn the_first_start_shows_what_to_type_and_what_to_run_next() {
        let expected = "\
Type this into two phones:

  domain     198.51.100.7
  transport  UDP port 5060, TCP port 5060

  user       alice
  password   one

  user       bob
  password   two

The passwords are shown this once: they are not stored.

Call echo to hear yourself (sip:echo@198.51.100.7); then let alice call bob.

The data is in /srv/t/trapez.db. In another terminal:

  target/release/trapez bindings --data /srv/t       who is registered
  target/release/trapez calls --data /srv/t          who talks to whom
  target/release/trapez records --data /srv/t        the calls that were
  target/release/trapez config sample --data /srv/t  a configuration to start from

Ctrl-C ends the service.

";
        let accounts = vec![
            ("alice", Some(Password::new("one"))),
            ("bob", Some(Password::new("two"))),
        ];
        let listen = [
            (Transport::Udp, "127.0.0.1:5060"),
            (Transport::Udp, "198.51.100.7:5060"),
            (Transport::Tcp, "198.51.100.7:5060"),
        ];
        assert_eq!(shown("", &listen, accounts), expected);
    }

    #[test]
    fn a_later_start_says_how_to_set_a_password() {
        let config = "domains = ['example.org']\n[listen]\nadvertise = '203.0.113.7'";
        let accounts = vec![("alice", None), ("bob", None)];
        let text = shown(config, &[(Transport::Udp, "198.51.100.7:5080")], accounts);
        assert!(
            text.contains("  domain     example.org\n  proxy      203.0.113.7:5080\n"),
            "{text}"
        );
        assert!(text.contains("  transport  UDP port 5080\n"), "{text}");
        assert!(
            text.contains("to set a new one: target/release/trapez account passwd bob --data /srv/t"),
            "{text}"
        );
        assert!(!text.contains("shown this once"), "{text}");
    }
}
