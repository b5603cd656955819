//! linphone as a telephone: its console client, with files in place of a sound card.

use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Process, wait_until};
use crate::server::password;
use crate::site::{DOMAIN, Site};
use crate::tone::{Recording, Tone};

/// A running `linphonec`.
pub(crate) struct Linphone {
    process: Process,
    recording: PathBuf,
    /// How far its output was read.
    read: usize,
}

impl Linphone {
    /// Telephone `slot` (0 to 4) of a site, registered.
    pub(crate) fn registered(site: &Site, slot: u16, account: &str, transport: &str, tone: Tone) -> Self {
        let folder = site.make_folder(&format!("linphone-{account}"));
        // Without these folders it cannot make its database, and stays off the network without a word.
        let home = site.make_folder(&format!("linphone-{account}/home"));
        site.make_folder(&format!("linphone-{account}/home/.local/share/linphone"));
        site.make_folder(&format!("linphone-{account}/home/.config/linphone"));
        let ports = site.phone_ports(slot);
        let (sip, proxy, password) = (ports + 8, site.server(), password(account));
        let config = format!(
            "[sip]\nsip_port={sip}\nsip_tcp_port={sip}\nsip_tls_port=0\nuse_ipv6=0\nguess_hostname=0\ndefault_proxy=0\n\
             [rtp]\naudio_rtp_port={ports}-{last}\n[sound]\nechocancellation=0\n\
             [video]\nenabled=0\ncapture=0\ndisplay=0\n\
             [proxy_0]\nreg_proxy=<sip:{proxy};transport={transport}>\nreg_route=<sip:{proxy};transport={transport};lr>\n\
             reg_identity=sip:{account}@{DOMAIN}\nreg_expires=300\nreg_sendregister=1\npublish=0\n\
             [auth_info_0]\nusername={account}\npasswd={password}\nrealm={DOMAIN}\ndomain={DOMAIN}\n",
            last = ports + 7,
        );
        let (file, sound) = (folder.join("linphonerc"), folder.join("tone.wav"));
        std::fs::write(&file, config).expect("a telephone can be configured");
        tone.write(&sound);
        let recording = folder.join("heard.wav");
        let file = file.to_str().expect("the temporary folder's path is text");
        let environment = [("HOME", home.as_path())];
        let program = ["stdbuf", "-o0", "linphonec", "-c", file, "-S", "-d", "0"];
        let process = Process::start(&format!("linphone-{account}"), &folder, &program, &environment);
        let mut phone = Self {
            process,
            recording,
            read: 0,
        };
        phone.wait_for("linphonec> ");
        phone.say("soundcard use files");
        phone.say(&format!("play {}", sound.display()));
        phone.say(&format!("record {}", phone.recording.display()));
        let registered = wait_until(PATIENCE, || {
            phone.say("status register");
            std::thread::sleep(Duration::from_millis(200));
            phone.process.log().contains("registered, identity").then_some(())
        });
        assert!(
            registered.is_some(),
            "linphone does not register (it wants a default route to be on the network)\n{}",
            phone.process.log()
        );
        phone.read = phone.process.log().len();
        phone
    }

    /// A command of its console (`call`, `answer`, `terminate`, `pause`, `resume`…).
    pub(crate) fn say(&mut self, command: &str) {
        self.process.say(command);
    }

    pub(crate) fn dial(&mut self, account: &str) {
        self.say(&format!("call sip:{account}@{DOMAIN}"));
    }

    /// Waits until it prints this, after what was waited for before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.read = self.process.wait_for(text, self.read, PATIENCE);
    }

    /// What it heard in the last call; complete only after its end.
    pub(crate) fn heard(&self) -> Recording {
        Recording::read(std::slice::from_ref(&self.recording))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
