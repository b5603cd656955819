//! Running the service: starting, ending, crashing, accounts, configuration, and what it says when it cannot.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::process::{Process, wait_until};
use crate::server::{CONFIG, DATA, Server, binary, password, text};
use crate::site::{DOMAIN, Site};
use crate::wire::{Request, Wire};

#[test]
fn nothing_acknowledged_is_lost_by_a_crash_under_load() {
    let site = Site::claim();
    let mut server = Server::configure(&site, "");
    let accounts: Vec<String> = (0..LOAD_ACCOUNTS).map(|number| format!("user{number}")).collect();
    let lines: String = accounts
        .iter()
        .map(|account| format!("{account},{}\n", password(account)))
        .collect();
    std::fs::write(
        site.folder().join("accounts.csv"),
        format!("account,password\n{lines}"),
    )
    .expect("a list of accounts can be written");
    let imported = server.command(&["account", "import", "accounts.csv"], "");
    assert!(imported.status.success(), "{}", text(&imported));

    let mut acknowledged = Vec::new();
    for crash in 0..CRASHES {
        server.serve();
        let share = &accounts[crash * LOAD_ACCOUNTS / CRASHES..(crash + 1) * LOAD_ACCOUNTS / CRASHES];
        acknowledged.extend(register_until_the_crash(&site, &mut server, share));
    }
    assert!(
        acknowledged.len() >= 10,
        "only {} registrations before the crashes",
        acknowledged.len()
    );

    server.serve();
    let bindings = server.ask(&["bindings"]);
    for (account, contact) in &acknowledged {
        assert!(
            bindings.contains(contact.as_str()),
            "{account} at {contact} was answered 200 and is lost:\n{bindings}"
        );
    }
}

/// Several phones register as fast as they can; in the middle the server is killed. What was answered 200 comes back.
fn register_until_the_crash(
    site: &Site,
    server: &mut Server<'_>,
    accounts: &[String],
) -> Vec<(String, String)> {
    let acknowledged = Mutex::new(Vec::new());
    let crashed = AtomicBool::new(false);
    scope(|scope| {
        for share in accounts.chunks(accounts.len().div_ceil(PHONES)) {
            let (acknowledged, crashed) = (&acknowledged, &crashed);
            scope.spawn(move || {
                for account in share {
                    if crashed.load(Ordering::Relaxed) {
                        return;
                    }
                    let wire = Wire::new(site.address(20), site.server());
                    if wire
                        .try_register(account, 300)
                        .is_some_and(|response| response.status() == 200)
                    {
                        let mut list = acknowledged.lock().expect("no phone panics");
                        list.push((account.clone(), wire.local().to_string()));
                    }
                }
            });
        }
        sleep(Duration::from_millis(60));
        server.crash();
        crashed.store(true, Ordering::Relaxed);
    });
    acknowledged.into_inner().expect("no phone panics")
}

#[test]
fn sigterm_ends_it_cleanly() {
    ends_cleanly_at("TERM");
}

#[test]
fn ctrl_c_ends_it_cleanly() {
    ends_cleanly_at("INT");
}

fn ends_cleanly_at(signal: &str) {
    let site = Site::claim();
    let mut server = Server::start(&site, &["alice"]);
    server.process().signal(signal);
    let status = server.process().wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", server.process().log());
}

#[test]
fn bindings_survive_a_clean_restart() {
    let site = Site::claim();
    let mut server = Server::start(&site, &["alice"]);
    let phone = Wire::new(site.address(20), site.server());
    assert_eq!(phone.register("alice", 300).status(), 200);
    server.process().terminate(Duration::from_secs(5));
    server.serve();
    assert!(server.ask(&["bindings"]).contains(&phone.local().to_string()));
}

#[test]
fn a_port_in_use_is_said_in_one_sentence() {
    let site = Site::claim();
    let _taken = std::net::UdpSocket::bind(site.server()).expect("the server's port is free");
    let server = Server::configure(&site, "");
    let output = server.command(&["serve"], "");
    assert_one_clear_sentence(&output, "5060");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_said_in_one_sentence() {
    let site = Site::claim();
    let server = Server::configure(&site, "");
    std::fs::remove_dir_all(site.folder().join(DATA)).expect("the folder is there");
    std::fs::write(site.folder().join(DATA), "in the way").expect("a file can be written");
    assert_one_clear_sentence(&server.command(&["serve"], ""), DATA);
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_the_nearest_key() {
    let site = Site::claim();
    let server = Server::configure(&site, "");
    let path = site.folder().join(CONFIG);
    let config = std::fs::read_to_string(&path).expect("the configuration was written");
    std::fs::write(&path, config.replace("ports =", "prots =")).expect("a configuration can be written");
    for command in [&["serve"][..], &["config", "check"]] {
        let output = server.command(command, "");
        assert!(!output.status.success(), "{command:?}: a misspelt key passed");
        let text = text(&output);
        assert!(
            text.contains("prots") && text.contains("ports") && text.contains(CONFIG),
            "{command:?}: {text}"
        );
    }
}

#[test]
fn the_sample_configuration_passes_its_own_check() {
    let site = Site::claim();
    let server = Server::configure(&site, "");
    let sample = server.ask(&["config", "sample"]);
    std::fs::write(site.folder().join(CONFIG), sample).expect("a configuration can be written");
    server.ask(&["config", "check"]);
    assert!(
        server
            .ask(&["config", "explain", "media.ports"])
            .contains("ports")
    );
}

#[test]
fn stopping_cancels_what_rings_and_tells_the_caller() {
    let site = Site::claim();
    let mut server = Server::start(&site, &["alice", "bob"]);
    let caller = Wire::new(site.address(33), site.server());
    let phone = Wire::new(site.address(20), site.server());
    assert_eq!(phone.register("bob", 300).status(), 200);
    let call = Request::new("INVITE", "alice", &format!("sip:bob@{DOMAIN}"))
        .with(format!("Contact: {}", caller.contact("alice")));
    caller.send(&caller.render(&call));
    let ringing = phone.request("INVITE", PATIENCE);
    phone.send(&ringing.respond(180, &[&format!("Contact: {}", phone.contact("bob"))]));
    let told = wait_until(PATIENCE, || {
        caller
            .receive(Duration::from_millis(100))
            .filter(|told| told.status() == 180)
    });
    assert!(told.is_some(), "it does not ring");
    server.ask(&["stop"]);
    assert_eq!(caller.final_response(PATIENCE).status(), 503);
    let cancel = phone.request("CANCEL", PATIENCE);
    let reason = cancel.header("Reason").unwrap_or_default();
    assert!(reason.contains("stopping"), "Reason of the CANCEL: {reason:?}");
    assert!(server.process().wait(PATIENCE).success());
    let records = server.ask(&["records"]);
    assert!(
        records.contains("503") && records.contains("stopping"),
        "{records}"
    );
}

#[test]
fn accounts_are_made_listed_and_removed_while_it_runs() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice"]);
    let phone = Wire::new(site.address(20), site.server());
    assert_ne!(phone.register("bob", 300).status(), 200, "bob does not exist yet");
    server.add_account("bob");
    assert_eq!(phone.register("bob", 300).status(), 200);
    let list = server.ask(&["account", "list"]);
    assert!(list.contains("alice") && list.contains("bob"), "{list}");
    let bob = format!("bob@{DOMAIN}");
    let shown = server.ask(&["account", "show", &bob]);
    assert!(
        shown.contains("bob") && !shown.contains(&password("bob")),
        "{shown}"
    );
    server.ask(&["account", "remove", &bob]);
    assert!(!server.ask(&["account", "list"]).contains("bob"));
    assert_ne!(phone.register("bob", 300).status(), 200, "bob was removed");
}

#[test]
fn a_disabled_account_is_refused_and_unregistered_until_it_is_enabled() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice", "bob"]);
    let phone = Wire::new(site.address(20), site.server());
    let bob = format!("bob@{DOMAIN}");
    assert_eq!(phone.register("bob", 300).status(), 200);
    server.ask(&["account", "disable", &bob]);
    assert!(server.ask(&["account", "list"]).contains("disabled"));
    assert!(
        !server.ask(&["bindings"]).contains("bob"),
        "bob is still registered"
    );
    assert_eq!(phone.register("bob", 300).status(), 403);
    let message = |from: &str, to: &str| Request::new("MESSAGE", from, &format!("sip:{to}@{DOMAIN}"));
    assert_eq!(phone.ask(&message("bob", "alice"), "bob").status(), 403);
    assert_eq!(phone.ask(&message("alice", "bob"), "alice").status(), 480);
    server.ask(&["account", "enable", &bob]);
    assert!(!server.ask(&["account", "list"]).contains("disabled"));
    assert_eq!(phone.register("bob", 300).status(), 200);
}

#[test]
fn old_call_records_are_removed() {
    let site = Site::claim();
    let mut server = Server::start_with(&site, &["alice", "bob"], "[records]\nkeep = \"1s\"");
    let phone = Wire::new(site.address(20), site.server());
    let call = Request::new("INVITE", "alice", &format!("sip:bob@{DOMAIN}"))
        .with(format!("Contact: {}", phone.contact("alice")));
    assert_eq!(phone.ask(&call, "alice").status(), 480);
    let recorded = |server: &Server<'_>, wanted: bool| {
        let is_so = || (server.ask(&["records"]).contains("480") == wanted).then_some(());
        wait_until(Duration::from_secs(5), is_so).is_some()
    };
    assert!(recorded(&server, true), "{}", server.ask(&["records"]));
    sleep(Duration::from_millis(1100));
    // It looks for them at the start, and then every few seconds.
    server.crash();
    server.serve();
    assert!(recorded(&server, false), "{}", server.ask(&["records"]));
}

#[test]
fn a_new_password_replaces_the_old_one() {
    let site = Site::claim();
    let server = Server::start(&site, &["alice"]);
    let phone = Wire::new(site.address(20), site.server());
    assert_eq!(phone.register("alice", 300).status(), 200);
    let changed = server.command(
        &[
            "account",
            "passwd",
            &format!("alice@{DOMAIN}"),
            "--password-stdin",
        ],
        "another",
    );
    assert!(changed.status.success(), "{}", text(&changed));
    assert_ne!(
        phone.register("alice", 300).status(),
        200,
        "the old password still serves"
    );
}

#[test]
fn an_account_without_a_given_password_gets_one_that_is_shown_once() {
    let site = Site::claim();
    let server = Server::configure(&site, "");
    let first = server.ask(&["account", "add", &format!("alice@{DOMAIN}")]);
    let second = server.ask(&["account", "add", &format!("bob@{DOMAIN}")]);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let made = words(&first)
        .into_iter()
        .find(|word| word.len() >= 12 && !word.contains('@') && !second.contains(word));
    let made = made.unwrap_or_else(|| panic!("no password in {first:?}"));
    assert!(
        !server
            .ask(&["account", "show", &format!("alice@{DOMAIN}")])
            .contains(&made)
    );
}

#[test]
fn an_import_with_a_bad_line_changes_nothing_and_names_it() {
    let site = Site::claim();
    let server = Server::configure(&site, "");
    let list = format!("account,password\ncarol@{DOMAIN},long-enough-1\n@@@,x\n");
    std::fs::write(site.folder().join("bad.csv"), list).expect("a list can be written");
    let output = server.command(&["account", "import", "bad.csv"], "");
    assert!(!output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains('3'),
        "the bad line is not named: {}",
        text(&output)
    );
    assert!(!server.ask(&["account", "list"]).contains("carol"));
}

#[test]
fn the_version_and_help_need_no_configuration() {
    let site = Site::claim();
    for argument in ["--version", "--help"] {
        let binary = binary();
        let program = [binary.to_str().expect("the binary's path is text"), argument];
        let mut process = Process::start("trapez", site.folder(), &program, &[]);
        assert!(
            process.wait(Duration::from_secs(5)).success(),
            "{}",
            process.log()
        );
        assert!(process.log().contains("trapez"), "{}", process.log());
    }
}

#[track_caller]
fn assert_one_clear_sentence(output: &std::process::Output, must_name: &str) {
    let all = text(output);
    assert!(
        output.status.code().is_some_and(|code| code != 0 && code != 101),
        "{all}"
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(must_name), "does not name {must_name}: {all}");
    assert!(
        error.trim().lines().count() <= 2 && !error.contains("panicked"),
        "{all}"
    );
}

const LOAD_ACCOUNTS: usize = 600;
const CRASHES: usize = 3;
const PHONES: usize = 8;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(5);
