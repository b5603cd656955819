//! baresip as a telephone: speaks a tone from a file, records what it hears, controlled through its `ctrl_tcp` module.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{Process, wait_until};
use crate::server::password;
use crate::site::{DOMAIN, Site};
use crate::tone::{Recording, Tone};

/// A running baresip.
pub(crate) struct Baresip {
    process: Process,
    control: TcpStream,
    received: Vec<u8>,
    folder: PathBuf,
}

/// How a baresip is set up.
pub(crate) struct Settings<'a> {
    pub(crate) account: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) password: String,
    /// `udp` or `tcp`.
    pub(crate) transport: &'a str,
    /// Where it sends everything.
    pub(crate) proxy: SocketAddr,
    /// Its own signalling address.
    pub(crate) listen: SocketAddr,
    /// First of six ports for its audio.
    pub(crate) rtp_ports: u16,
    /// Its audio address, where it must not find one itself.
    pub(crate) interface: Option<String>,
    /// Where it takes commands, and where we reach that.
    pub(crate) control: SocketAddr,
    pub(crate) control_reached_at: SocketAddr,
    pub(crate) tone: Tone,
    pub(crate) answers_itself: bool,
    pub(crate) calls_at_once: u32,
    /// Put in front of the command line: how to get into a host of the laboratory.
    pub(crate) prefix: Vec<String>,
}

impl<'a> Settings<'a> {
    /// Telephone `slot` (0 to 4) of a site, on ports of its own. All are at 127.0.0.1, because that is where the kernel
    /// lets packets to any loopback address come from, unless a socket is bound to one: baresip's RTP is not.
    pub(crate) fn of(site: &Site, slot: u16, account: &'a str, tone: Tone) -> Self {
        let address = site.localhost();
        let ports = site.phone_ports(slot);
        Self {
            account,
            domain: DOMAIN,
            password: password(account),
            transport: "udp",
            proxy: site.server(),
            // It listens for TLS on the port above, whether wanted or not.
            listen: SocketAddr::new(address, ports + 6),
            rtp_ports: ports,
            interface: Some(address.to_string()),
            control: SocketAddr::new(address, ports + 9),
            control_reached_at: SocketAddr::new(address, ports + 9),
            tone,
            answers_itself: false,
            calls_at_once: 4,
            prefix: Vec::new(),
        }
    }
}

impl Baresip {
    /// Starts it and waits until it is registered.
    pub(crate) fn registered(site: &Site, settings: &Settings<'_>) -> Self {
        let mut phone = Self::start(site, settings);
        // Its event may come before anybody is connected to hear it.
        phone.process.wait_for("registered successfully", 0, PATIENCE);
        phone
    }

    /// Starts it; it registers by itself.
    pub(crate) fn start(site: &Site, settings: &Settings<'_>) -> Self {
        let folder = site.make_folder(&format!(
            "baresip-{}-{}",
            settings.account,
            settings.listen.port()
        ));
        configure(&folder, settings);
        let path = folder.to_str().expect("the temporary folder's path is text");
        let mut program: Vec<&str> = settings.prefix.iter().map(String::as_str).collect();
        let family = if settings.listen.is_ipv4() { "-4" } else { "-6" };
        program.extend(["baresip", family, "-s", "-f", path]);
        let process = Process::start(&format!("baresip-{}", settings.account), &folder, &program, &[]);
        let control = wait_until(PATIENCE, || TcpStream::connect(settings.control_reached_at).ok());
        let Some(control) = control else {
            panic!("baresip does not open its control port\n{}", process.log());
        };
        let mut phone = Self {
            process,
            control,
            received: Vec::new(),
            folder,
        };
        // Only its answer shows that it hears us: a connection may be taken long before, and events be lost.
        phone.command("help", "");
        let end = Instant::now() + PATIENCE;
        while phone
            .next_message(end)
            .unwrap_or_else(|| panic!("baresip does not answer"))["response"]
            != true
        {}
        phone
    }

    /// Calls `target`: a user of our domain, or a whole URI.
    pub(crate) fn dial(&mut self, target: &str) {
        if target.contains(':') {
            self.command("dial", target);
        } else {
            self.command("dial", &format!("sip:{target}@{DOMAIN}"));
        }
    }

    /// Sends a command of its menu (`accept`, `hangup`, `hold`, `resume`…).
    pub(crate) fn command(&mut self, command: &str, parameters: &str) {
        let message = json!({"command": command, "params": parameters}).to_string();
        let sent = write!(self.control, "{}:{message},", message.len());
        sent.unwrap_or_else(|why| panic!("baresip takes no command: {why}\n{}", self.process.log()));
    }

    /// Waits for an event of this type (those before it are passed over) and returns its parameter.
    #[track_caller]
    pub(crate) fn wait_for_event(&mut self, kind: &str) -> String {
        self.wait_for_event_within(kind, PATIENCE)
    }

    #[track_caller]
    pub(crate) fn wait_for_event_within(&mut self, kind: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        let mut others = Vec::new();
        while let Some(event) = self.next_message(end) {
            if event["type"] == kind {
                return event["param"].as_str().unwrap_or_default().to_owned();
            }
            others.push(event);
        }
        panic!("baresip: no {kind} within {patience:?}, only {others:?}");
    }

    /// Waits for a call to come in, then answers it.
    #[track_caller]
    pub(crate) fn answer(&mut self) {
        self.wait_for_event("CALL_INCOMING");
        self.command("accept", "");
        self.wait_for_event("CALL_ESTABLISHED");
    }

    /// What it has heard so far, in all calls.
    pub(crate) fn heard(&self) -> Recording {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .expect("the telephone's folder can be read")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        files.sort();
        Recording::read(&files)
    }

    /// Waits until it has heard `seconds` of `tone`.
    #[track_caller]
    pub(crate) fn wait_to_hear(&self, tone: Tone, seconds: f64) {
        let heard = wait_until(PATIENCE, || {
            (self.heard().seconds_of(tone) >= seconds).then_some(())
        });
        let recording = self.heard();
        assert!(
            heard.is_some(),
            "baresip: no {seconds} s of {tone:?} within {PATIENCE:?}: {:.1} s of it in {:.1} s",
            recording.seconds_of(tone),
            recording.seconds()
        );
    }

    /// Everything it printed, with the SIP messages.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// As if its battery were taken out.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// The next event or answer on the control connection.
    fn next_message(&mut self, end: Instant) -> Option<Value> {
        loop {
            if let Some((message, length)) = netstring(&self.received) {
                let value = serde_json::from_slice(message).expect("baresip speaks JSON");
                self.received.drain(..length);
                return Some(value);
            }
            let patience = end.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return None;
            }
            self.control
                .set_read_timeout(Some(patience))
                .expect("a timeout above zero is accepted");
            let mut buffer = [0; 4096];
            match self.control.read(&mut buffer) {
                Ok(0) => panic!("baresip ended\n{}", self.process.log()),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(_) => return None,
            }
        }
    }
}

/// The first complete `LENGTH:TEXT,` and how long it is altogether.
fn netstring(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    (bytes.len() > end).then(|| (&bytes[colon + 1..end], end + 1))
}

fn configure(folder: &Path, settings: &Settings<'_>) {
    let tone = folder.join("tone.wav");
    settings.tone.write(&tone);
    let interface = settings
        .interface
        .as_ref()
        .map(|name| format!("net_interface {name}\n"))
        .unwrap_or_default();
    let config = format!(
        "poll_method epoll\nsip_listen {}\ncall_local_timeout 120\ncall_max_calls {}\n{interface}\
         audio_source aufile,{}\naudio_player aubridge,nobody\naudio_alert aubridge,nobody\naudio_path /nowhere\n\
         ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\nrtp_ports {}-{}\n\
         jitter_buffer_delay 1-5\nmodule_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule stdio.so\nmodule ctrl_tcp.so\n\
         module_app account.so\nmodule_app menu.so\nsnd_path {}\nctrl_tcp_listen {}\n",
        settings.listen,
        settings.calls_at_once,
        tone.display(),
        settings.rtp_ports,
        settings.rtp_ports + 5,
        folder.display(),
        settings.control,
    );
    let account = format!(
        "<sip:{user}@{domain}>;auth_user={user};auth_pass={password};outbound=\"sip:{proxy};transport={transport}\";\
         regint=300;audio_codecs=PCMU,PCMA;answermode={mode}\n",
        user = settings.account,
        domain = settings.domain,
        password = settings.password,
        proxy = settings.proxy,
        transport = settings.transport,
        mode = if settings.answers_itself { "auto" } else { "manual" },
    );
    for (name, text) in [
        ("config", config.as_str()),
        ("accounts", account.as_str()),
        ("contacts", ""),
    ] {
        std::fs::write(folder.join(name), text).expect("a telephone can be configured");
    }
}

/// How long a telephone may take for anything; a wait ends as soon as it can.
const PATIENCE: Duration = Duration::from_secs(15);
