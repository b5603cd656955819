//! What a binding costs in memory, all included: resident memory of the process before and after, divided by the bindings.
//!
//!     cargo run --release -p switch --example binding_memory

use switch::Location;
use switch::location::{Binding, BindingParts};

const BINDINGS: usize = 100_000;

fn main() -> std::io::Result<()> {
    let location = Location::new([1; 16]);
    let before = resident()?;
    for i in 0..BINDINGS {
        location.restore(&BindingParts {
            aor: &format!("user{i}@example.org"),
            contact: &format!(
                "sip:user{i}@192.168.178.{}:5060;transport=udp;line=1a2b3c4d5e",
                i % 250
            ),
            call_id: &format!("c1b8f0a2-3d4e-4f5a-9b6c-{i:012}"),
            cseq: 1,
            q: 1000,
            expires: 2_000_003_600,
            registered_at: 2_000_000_000,
            path: "",
            instance: &format!("<urn:uuid:00000000-0000-1000-8000-{i:012}>"),
            reg_id: 1,
            user_agent: "Yealink SIP-T46S 66.86.0.15",
            flow: sip::Flow {
                transport: sip::Transport::Udp,
                local: ([203, 0, 113, 2], 5060).into(),
                remote: ([198, 51, 100, (i % 250) as u8], 10_000 + (i % 50_000) as u16).into(),
                connection: None,
            },
            behind_nat: true,
        });
    }
    let after = resident()?;
    let mut contact_bytes = 0;
    location.for_each(0, |binding: &Binding| contact_bytes += binding.contact().len());
    println!(
        "{BINDINGS} bindings, contacts of {} bytes on average",
        contact_bytes / BINDINGS
    );
    println!(
        "{} bytes each, {} MB together",
        (after - before) / BINDINGS,
        (after - before) / 1_000_000
    );
    Ok(())
}

/// Resident memory of this process in bytes.
fn resident() -> std::io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or(std::io::ErrorKind::InvalidData.into())
}
