//! The commands as people run them: the real binary, what it prints, and its exit codes, with and without a service.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;
use tempfile::TempDir;

/// A data directory of its own.
struct Place {
    temp: TempDir,
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.temp.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A configuration of a service on one loopback address.
    fn listening(&self, address: &str) -> String {
        self.write(
            "listen.toml",
            &format!("[listen]\nudp = \"{address}\"\ntcp = \"{address}\"\n"),
        )
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        run(
            &[arguments, &["--data", self.data().to_str().unwrap()]].concat(),
            input,
        )
    }

    /// What a command that succeeds prints.
    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
        said.out
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ask(&[arguments, &["--json"]].concat())).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, error: &str) {
        let said = self.run(arguments);
        assert_eq!((said.code, said.err.as_str()), (code, error), "{arguments:?}");
        assert_eq!(said.out, "");
    }
}

/// A running service on an address of its own; killed when dropped.
struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts it and reads until it says that it listens.
    fn start(place: &Place, address: &str, more: &[&str]) -> (Self, String) {
        let config = place.listening(address);
        let mut child = Command::new(env!("CARGO_BIN_EXE_trapez"))
            .args([
                "serve",
                "--config",
                &config,
                "--data",
                place.data().to_str().unwrap(),
            ])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut service = Self { child, lines };
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            let line = service
                .lines
                .next()
                .expect("the service says that it listens")
                .unwrap();
            said.push_str(&line);
            said.push('\n');
        }
        (service, said)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The exit code; `None` when a signal ended it.
    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() > deadline => panic!("the service does not end"),
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address that no other test has, nor another run of these tests at the same time.
fn address(test: u8) -> String {
    format!("127.{}.{test}.1:5060", 100 + std::process::id() % 100)
}

fn run(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trapez"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_account_is_made_shown_and_removed_before_the_service_first_runs() {
    let place = Place::new();
    let made = place.ask(&["account", "add", "alice"]);
    let password = made.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap();
    assert!(
        password.len() >= 16 && password.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{made}"
    );
    assert_eq!(mode(&place.data()), 0o700);
    assert_eq!(mode(&place.data().join("trapez.db")), 0o600);

    let said = place.run_with(&["account", "add", "bob@trapez", "--password-stdin"], "secret\n");
    assert_eq!((said.code, said.out.as_str()), (0, "account bob@trapez made\n"));
    let list = place.ask(&["account", "list"]);
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["ACCOUNT", "alice@trapez", "bob@trapez"]);
    assert!(
        place
            .ask(&["account", "show", "bob"])
            .starts_with("account  bob@trapez\nuser     bob\n")
    );
    assert_eq!(
        place.ask(&["account", "remove", "alice"]),
        "account alice@trapez removed\n"
    );
    place.refused(
        &["account", "show", "alice"],
        7,
        "trapez: there is no account alice@trapez; `trapez account list` shows the accounts\n",
    );
}

#[test]
fn no_password_is_in_the_data_directory() {
    let place = Place::new();
    place.run_with(
        &["account", "add", "alice", "--password-stdin"],
        "a-password-to-look-for\n",
    );
    for file in fs::read_dir(place.data()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes
                .windows(22)
                .any(|window| window == b"a-password-to-look-for")
        );
    }
}

#[test]
fn json_has_the_fields_that_programs_rely_on() {
    let place = Place::new();
    let made = place.json(&["account", "add", "alice"]);
    assert_eq!(
        (&made["reply"], &made["name"], &made["domain"]),
        (&"account".into(), &"alice".into(), &"trapez".into())
    );
    assert_eq!(made["password"].as_str().unwrap().len(), 20);
    let list = place.json(&["account", "list"]);
    assert_eq!(list["accounts"][0]["name"], "alice");
    assert_eq!(list["accounts"][0]["served"], true);
    assert_eq!(
        place.json(&["bindings"]),
        serde_json::json!({"reply": "bindings", "bindings": [], "more": false})
    );
    assert_eq!(
        place.json(&["records"]),
        serde_json::json!({"reply": "records", "records": []})
    );
    let said = place.run(&["account", "show", "bob", "--json"]);
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["error"]["code"], 7);
    assert_eq!(error["error"]["message"], "there is no account bob@trapez");
}

#[test]
fn an_account_made_twice_is_refused_and_keeps_its_password() {
    let place = Place::new();
    place.ask(&["account", "add", "alice"]);
    let before = fs::read(place.data().join("trapez.db")).unwrap();
    place.refused(
        &["account", "add", "alice"],
        7,
        "trapez: the account alice@trapez exists already; set its password with `trapez account passwd`, or choose another name\n",
    );
    assert_eq!(fs::read(place.data().join("trapez.db")).unwrap(), before);
    assert!(
        place
            .ask(&["account", "passwd", "alice"])
            .starts_with("account  alice@trapez has a new password\npassword ")
    );
}

#[test]
fn an_import_is_all_or_nothing_and_names_the_bad_lines() {
    let place = Place::new();
    let config = place.write("trapez.toml", "domains = [\"example.org\"]\n");
    let bad = place.write(
        "bad.csv",
        "account,password\nalice,one\nbob bob,two\ncarol@example.com,three\n",
    );
    place.refused(
        &["account", "import", &bad, "--config", &config],
        7,
        "trapez: 2 of the lines cannot be imported:\n  \
         line 3: \"bob bob\" is no account name: expected 1 to 64 bytes without spaces, control characters and any of : @ \" < > \\\n  \
         line 4: the service does not answer for the domain example.com\n\
         correct these lines and import the file again; nothing was imported\n",
    );
    assert!(
        place
            .ask(&["account", "list", "--config", &config])
            .starts_with("no accounts")
    );
    let good = place.write(
        "good.csv",
        "account,password\nalice,one\nbob@example.org,\"t,wo\"\n",
    );
    assert_eq!(
        place.ask(&["account", "import", &good, "--config", &config]),
        "2 accounts made\n"
    );
    let list = place.json(&["account", "list", "--config", &config]);
    assert_eq!(list["accounts"][1]["domain"], "example.org");
    let headless = place.write("headless.csv", "alice,one\n");
    let said = place.run(&["account", "import", &headless, "--config", &config]);
    assert_eq!(said.code, 7);
    assert!(
        said.err
            .contains("line 1: expected the header account,password, found \"alice,one\""),
        "{}",
        said.err
    );
}

#[test]
fn commands_at_the_same_time_wait_for_one_another() {
    let place = Place::new();
    thread::scope(|scope| {
        for i in 0..8 {
            let place = &place;
            scope.spawn(move || place.ask(&["account", "add", &format!("user{i}")]));
        }
    });
    assert_eq!(
        place.json(&["account", "list"])["accounts"]
            .as_array()
            .unwrap()
            .len(),
        8
    );
}

#[test]
fn commands_that_need_the_service_say_that_it_does_not_run() {
    let place = Place::new();
    for command in ["calls", "status", "stop"] {
        let said = place.run(&[command]);
        assert_eq!(said.code, 6);
        assert!(
            said.err.contains("the service does not run") && said.err.contains("`trapez serve`"),
            "{}",
            said.err
        );
    }
    assert!(!place.data().exists(), "asking makes no directory");
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_at_once() {
    let place = Place::new();
    let config = place.write(
        "trapez.toml",
        "[media]\nprots = \"30000-30999\"\nrelay = \"sometimes\"\n",
    );
    let expected = format!(
        "trapez: the configuration has 2 mistakes:\n\
         {config}:2:1: media.prots: there is no such key; did you mean ports?\n\
         {config}:3:9: media.relay: expected \"auto\", \"always\" or \"never\", found \"sometimes\"; the default is relay = \"auto\"\n\
         `trapez config explain KEY` tells more about a key\n"
    );
    place.refused(&["config", "check", &config], 3, &expected);
    place.refused(&["serve", "--config", &config], 3, &expected);
    assert!(
        !place.data().exists(),
        "a service that does not start makes no directory"
    );
    let missing = format!("{}/none.toml", place.temp.path().display());
    assert_eq!(place.run(&["config", "check", &missing]).code, 3);
}

#[test]
fn the_sample_is_a_correct_configuration() {
    let place = Place::new();
    let sample = place.ask(&["config", "sample"]);
    let file = place.write("sample.toml", &sample);
    assert_eq!(
        place.ask(&["config", "check", &file]),
        format!("{file} is correct\n")
    );
}

#[test]
fn a_configuration_in_the_data_directory_is_found() {
    let place = Place::new();
    place.ask(&["account", "add", "alice"]);
    fs::write(place.data().join("trapez.toml"), "domains = [\"example.org\"]\n").unwrap();
    assert!(
        place
            .ask(&["account", "add", "alice"])
            .starts_with("account  alice@example.org made\n")
    );
    let list = place.ask(&["account", "list"]);
    assert!(list.contains("domain not configured"), "{list}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_its_remedy() {
    let place = Place::new();
    fs::write(place.data(), "a file").unwrap();
    let said = place.run(&["serve"]);
    assert_eq!(said.code, 4);
    assert!(
        said.err.contains(place.data().to_str().unwrap()) && said.err.contains("--data"),
        "{}",
        said.err
    );
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
}

#[test]
fn a_damaged_store_is_told_and_left_alone() {
    let place = Place::new();
    place.ask(&["account", "add", "alice"]);
    let file = place.data().join("trapez.db");
    fs::write(&file, "no database ".repeat(1000)).unwrap();
    let said = place.run(&["account", "list"]);
    assert_eq!(said.code, 4);
    assert!(
        said.err.contains("damaged") && said.err.contains("backup"),
        "{}",
        said.err
    );
    assert!(fs::read_to_string(&file).unwrap().starts_with("no database"));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_help_with_0() {
    for (arguments, code) in [
        (&["accuont"][..], 2),
        (&["account", "add"], 2),
        (&["records", "--since", "12"], 2),
        (&["--help"], 0),
    ] {
        assert_eq!(run(arguments, "").code, code, "{arguments:?}");
    }
}

#[test]
fn the_demo_shows_passwords_once_and_later_how_to_set_new_ones() {
    let place = Place::new();
    let address = &address(1);
    let (mut service, said) = Service::start(&place, address, &["--demo"]);
    let shown = |said: &str, what: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.trim().strip_prefix(what));
        lines.map(|rest| rest.trim().to_owned()).collect()
    };
    assert_eq!(shown(&said, "user"), ["alice", "bob"]);
    assert_eq!(shown(&said, "domain"), [address.trim_end_matches(":5060")]);
    assert_eq!(shown(&said, "transport"), ["UDP port 5060, TCP port 5060"]);
    let passwords = shown(&said, "password");
    assert!(passwords.iter().all(|password| password.len() == 20), "{said}");
    assert_ne!(passwords[0], passwords[1]);
    assert!(
        said.contains(place.data().join("trapez.db").to_str().unwrap()),
        "{said}"
    );
    service.signal("INT");
    assert_eq!(service.wait(), Some(0));

    let (_service, said) = Service::start(&place, address, &["--demo"]);
    assert!(
        said.contains("account passwd alice") && said.contains("account passwd bob"),
        "{said}"
    );
    assert!(
        passwords.iter().all(|password| !said.contains(password)),
        "{said}"
    );
}

#[test]
fn a_port_in_use_is_told_in_one_sentence_and_the_next_demo_still_shows_its_passwords() {
    let place = Place::new();
    let address = &address(2);
    let taken = UdpSocket::bind(address).unwrap();
    let config = place.listening(address);
    let said = place.run(&["serve", "--demo", "--config", &config]);
    assert_eq!((said.code, said.out.as_str()), (5, ""), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(
        said.err.contains(address) && said.err.contains("in use"),
        "{}",
        said.err
    );
    drop(taken);
    let (_service, said) = Service::start(&place, address, &["--demo"]);
    assert!(said.contains("shown this once"), "{said}");
}

#[test]
fn commands_reach_the_running_service_and_end_it() {
    let place = Place::new();
    let (mut service, said) = Service::start(&place, &address(3), &[]);
    assert!(said.contains(&address(3)), "{said}");
    assert_eq!(mode(&place.data().join("trapez.sock")), 0o600);
    place.ask(&["account", "add", "alice"]);
    let status = place.json(&["status"]);
    assert_eq!((&status["accounts"], &status["calls"]), (&1.into(), &0.into()));
    assert_eq!(status["pid"], service.child.id());
    assert_eq!(
        place.json(&["calls"]),
        serde_json::json!({"reply": "calls", "calls": [], "more": false})
    );
    assert_eq!(place.ask(&["bindings", "alice"]), "nobody is registered\n");
    place.refused(
        &["account", "add", "alice"],
        7,
        "trapez: the account alice@trapez exists already; set its password with `trapez account passwd`, or choose another name\n",
    );
    let second = place.run(&["serve", "--config", &place.listening(&address(5))]);
    assert_eq!(second.code, 4);
    assert!(
        second.err.contains("in use by another trapez process"),
        "{}",
        second.err
    );
    assert_eq!(place.ask(&["stop"]), "the service ends\n");
    assert_eq!(service.wait(), Some(0));
    assert!(!place.data().join("trapez.sock").exists());
    assert!(place.ask(&["account", "list"]).contains("alice@trapez"));
}

#[test]
fn a_killed_service_leaves_nothing_behind_that_hinders_commands_or_the_next_start() {
    let place = Place::new();
    let (mut service, _) = Service::start(&place, &address(4), &[]);
    place.ask(&["account", "add", "alice"]);
    service.signal("KILL");
    assert_eq!(service.wait(), None);
    assert!(
        place.data().join("trapez.sock").exists(),
        "what a killed service cannot remove"
    );
    assert!(place.ask(&["account", "list"]).contains("alice@trapez"));
    let (mut service, _) = Service::start(&place, &address(4), &[]);
    assert_eq!(place.json(&["status"])["accounts"], 1);
    service.signal("TERM");
    assert_eq!(service.wait(), Some(0));
}
