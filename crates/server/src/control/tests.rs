use std::future::ready;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use sip::digest::{Algorithm, Ha1};
use store::{Change, DataDir, RecordQuery, Store};

use super::*;
use crate::config::Config;

/// Answers from a store, as the service does.
struct FromStore(Mutex<Offline>);

impl Handler for FromStore {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + '_>> {
        Box::pin(ready(self.0.lock().unwrap().handle(&request, NOW)))
    }
}

/// Runs a socket in a directory while the function runs.
fn with_service(dir: &Path, run: impl FnOnce(&Path)) {
    let data = DataDir::open(dir).unwrap();
    let offline = Offline::open(&data, Config::default()).unwrap();
    let path = data.file(SOCKET_NAME);
    let socket = ControlSocket::bind(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(socket.serve(Arc::new(FromStore(Mutex::new(offline)))));
    run(&path);
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    assert!(!path.exists(), "the socket's file outlives it");
}

fn add(account: &str) -> Request {
    Request::AccountAdd {
        account: account.to_owned(),
        password: Password::new("secret"),
    }
}

#[test]
fn requests_are_answered_in_order_over_a_socket_of_mode_0600() {
    let temp = tempfile::tempdir().unwrap();
    with_service(temp.path(), |path| {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = Client::connect(path).unwrap();
        let Reply::Account(alice) = client.ask(&add("alice")).unwrap() else {
            panic!("no account")
        };
        assert_eq!(
            (alice.name.as_str(), alice.domain.as_str(), alice.created),
            ("alice", "trapez", NOW)
        );
        let error = client.ask(&add("alice")).unwrap_err();
        assert!(
            matches!(&error, ClientError::Refused(r) if r.kind == RefusalKind::Refused),
            "{error}"
        );
        assert_eq!(error.to_string(), "the account alice@trapez exists already");
        let list = client.ask(&Request::AccountList).unwrap();
        assert_eq!(
            list,
            Reply::Accounts {
                accounts: vec![alice]
            }
        );
        let records = client
            .ask(&Request::Records(RecordQuery {
                limit: Some(5),
                ..Default::default()
            }))
            .unwrap();
        assert_eq!(records, Reply::Records { records: vec![] });
    });
}

#[test]
fn several_commands_are_answered_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    with_service(temp.path(), |path| {
        let silent = UnixStream::connect(path).unwrap();
        thread::scope(|scope| {
            for i in 0..40 {
                scope.spawn(move || {
                    let mut client = Client::connect(path).unwrap();
                    client.ask(&add(&format!("user{i}"))).unwrap();
                });
            }
        });
        let Reply::Accounts { accounts } = Client::connect(path).unwrap().ask(&Request::AccountList).unwrap()
        else {
            panic!("no accounts")
        };
        assert_eq!(accounts.len(), 40);
        drop(silent);
    });
}

#[test]
fn a_line_that_is_no_request_is_answered_and_the_next_one_served() {
    let temp = tempfile::tempdir().unwrap();
    with_service(temp.path(), |path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream
            .write_all(b"{\"request\":\"dance\"}\n\xff\xfe\n{\"request\":\"account-list\"}\n")
            .unwrap();
        let mut lines = BufReader::new(stream).lines();
        for _ in 0..2 {
            let response: Response = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            assert!(matches!(
                response,
                Response::Error(Refusal {
                    kind: RefusalKind::Protocol,
                    ..
                })
            ));
        }
        assert_eq!(
            lines.next().unwrap().unwrap(),
            r#"{"ok":{"reply":"accounts","accounts":[]}}"#
        );
    });
}

#[test]
fn a_socket_left_behind_by_a_killed_service_is_replaced_and_a_living_one_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join(SOCKET_NAME);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(matches!(
        Client::connect(&path),
        Err(ClientError::NotRunning { .. })
    ));
    let socket = ControlSocket::bind(&path).unwrap();
    assert!(matches!(
        ControlSocket::bind(&path),
        Err(SocketError::InUse { .. })
    ));
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn an_account_is_stored_with_the_hashes_that_the_switch_checks() {
    let (store, config) = (
        Store::memory().unwrap(),
        Config::parse("", "domains = ['example.org']").unwrap(),
    );
    let plan = plan(&add("alice@Example.Org"), &store, &config, NOW)
        .unwrap()
        .unwrap();
    let [Change::AddAccount(account)] = &plan.changes[..] else {
        panic!("{plan:?}")
    };
    let known = directory_account(account).unwrap();
    for algorithm in Algorithm::STRONGEST_FIRST {
        let expected = Ha1::new(algorithm, "alice", "example.org", "secret");
        assert_eq!(known.ha1(algorithm).unwrap().as_str(), expected.as_str());
    }
    assert!(!known.disabled);
}

#[test]
fn an_import_with_bad_lines_names_them_all_and_changes_nothing() {
    let (mut store, config) = (Store::memory().unwrap(), Config::default());
    let existing = plan(&add("dora"), &store, &config, NOW).unwrap().unwrap();
    store.apply(&existing.changes).unwrap();
    let new = |line, account: &str, password: &str| NewAccount {
        line,
        account: account.to_owned(),
        password: Password::new(password),
    };
    let accounts = vec![
        new(2, "alice", "one"),
        new(3, "bob smith", "two"),
        new(4, "carol@example.org", "three"),
        new(5, "alice", "four"),
        new(6, "dora", "five"),
        new(7, "echo", "six"),
        new(8, "emil", ""),
        new(9, "fritz@no domain", "x"),
    ];
    let error = plan(&Request::AccountImport { accounts }, &store, &config, NOW)
        .unwrap()
        .unwrap_err();
    let expected = "\
7 of the lines cannot be imported:
  line 3: \"bob smith\" is no account name: expected 1 to 64 bytes without spaces, control characters and any of : @ \" < > \\
  line 4: the service does not answer for the domain example.org
  line 5: the account alice@trapez exists already
  line 6: the account dora@trapez exists already
  line 7: echo is the name of the service's own user agent
  line 8: the password is no good: expected 1 to 128 bytes without control characters
  line 9: \"no domain\" is no domain";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn removing_an_account_removes_its_registrations_and_a_new_password_keeps_its_age() {
    let (mut store, config) = (Store::memory().unwrap(), Config::default());
    store
        .apply(
            &plan(&add("alice"), &store, &config, NOW)
                .unwrap()
                .unwrap()
                .changes,
        )
        .unwrap();
    let passwd = Request::AccountPasswd {
        account: "alice".into(),
        password: Password::new("other"),
    };
    let before = store.accounts().unwrap();
    store
        .apply(&plan(&passwd, &store, &config, NOW + 9).unwrap().unwrap().changes)
        .unwrap();
    let after = store.accounts().unwrap();
    assert_eq!(after[0].created, before[0].created);
    assert_ne!(after[0].ha1, before[0].ha1);
    let binding = store::BindingFields {
        aor: "alice@trapez",
        expires_at: NOW + 60,
        ..Default::default()
    };
    let binding = binding.into();
    store.apply(&[Change::PutBinding { binding, order: 0 }]).unwrap();
    let remove = Request::AccountRemove {
        account: "alice@trapez".into(),
    };
    store
        .apply(&plan(&remove, &store, &config, NOW).unwrap().unwrap().changes)
        .unwrap();
    assert!(store.accounts().unwrap().is_empty());
    store
        .each_binding(0, |binding| panic!("left behind: {binding:?}"))
        .unwrap();
    let error = plan(&remove, &store, &config, NOW).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "there is no account alice@trapez");
}

#[test]
fn a_disabled_account_loses_its_registrations_and_keeps_everything_else() {
    let (mut store, config) = (Store::memory().unwrap(), Config::default());
    let mut carry_out = |request: &Request| {
        let plan = plan(request, &store, &config, NOW).unwrap().unwrap();
        store.apply(&plan.changes).unwrap();
        let Reply::Account(info) = plan.reply else {
            panic!("{:?}", plan.reply)
        };
        let mut bindings = 0;
        store
            .each_binding(0, |_| {
                bindings += 1;
                true
            })
            .unwrap();
        let accounts = store.accounts().unwrap();
        let binding = store::BindingFields {
            aor: "alice@trapez",
            expires_at: NOW + 60,
            ..Default::default()
        };
        let binding = binding.into();
        store.apply(&[Change::PutBinding { binding, order: 0 }]).unwrap();
        (info.disabled, bindings, accounts[0].clone())
    };
    let (_, _, made) = carry_out(&add("alice"));
    let set = |disabled| Request::AccountDisable {
        account: "alice".into(),
        disabled,
    };
    let (disabled, bindings, account) = carry_out(&set(true));
    assert_eq!((disabled, bindings), (true, 0));
    assert_eq!((account.disabled, &account.ha1), (true, &made.ha1));
    let (disabled, bindings, account) = carry_out(&set(false));
    assert_eq!((disabled, bindings, account), (false, 1, made));
}

#[test]
fn a_password_shows_in_no_debug_text() {
    assert!(!format!("{:?}", add("alice")).contains("secret"));
}

const NOW: u64 = 1_800_000_000;
