//! Child processes that cannot outlive their owner, and bounded waits.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running program, its output in a file. Killed when dropped; the kernel does so when the test's thread dies.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with its output in `folder/NAME.log`.
    pub(crate) fn start(name: &str, folder: &Path, program: &[&str], environment: &[(&str, &Path)]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).expect("a log file can be made");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(program)
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file handle can be doubled"))
            .stderr(output)
            .spawn();
        let mut child = child.unwrap_or_else(|why| panic!("{name}: setpriv cannot be started: {why}"));
        let stdin = child.stdin.take();
        Self {
            name: name.to_owned(),
            child,
            stdin,
            log,
        }
    }

    /// Everything it has said so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// One line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("standard input is open until the process is dropped");
        let written = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        written.unwrap_or_else(|why| panic!("{}: does not take {line:?}: {why}\n{}", self.name, self.log()));
    }

    /// Waits until its output from `offset` on contains `text`; returns the offset behind it.
    pub(crate) fn wait_for(&mut self, text: &str, offset: usize, patience: Duration) -> usize {
        let found = wait_until(patience, || {
            self.log()
                .get(offset..)
                .and_then(|log| log.find(text))
                .map(|at| offset + at + text.len())
        });
        found.unwrap_or_else(|| {
            panic!(
                "{}: no {text:?} within {patience:?} in\n{}",
                self.name,
                self.log()
            )
        })
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits.
    pub(crate) fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(patience)
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        wait_until(patience, || {
            self.child.try_wait().expect("a child can be waited for")
        })
        .unwrap_or_else(|| panic!("{}: does not end within {patience:?}\n{}", self.name, self.log()))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let command = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh")
            .args(["-c", &command])
            .status()
            .expect("sh can be started");
        assert!(status.success(), "{command} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, tail(&self.log()));
        }
    }
}

/// Looks again and again until `look` finds something or `patience` is over.
pub(crate) fn wait_until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(TAIL);
    (start..log.len()).find_map(|at| log.get(at..)).unwrap_or(log)
}

/// Bytes of a process's output that a failing test shows.
const TAIL: usize = 60_000;
