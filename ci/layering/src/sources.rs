//! What the graph cannot show: each crate's `#![forbid(unsafe_code)]`, and calls of the standard library that reach the
//! operating system from a protocol crate.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::metadata::Metadata;
use crate::rules;

/// Every fault in the workspace's sources, as a sentence with the file's name.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for member in metadata.members() {
        for target in &member.targets {
            if !rules::may_be_unsafe(&member.name) && is_product(&target.kind) {
                with_source(&target.src_path, &mut faults, |path, text| {
                    (!forbids_unsafe(text))
                        .then(|| format!("{}: #![forbid(unsafe_code)] is missing", path.display()))
                });
            }
        }
        if rules::is_pure(&member.name) {
            let Some(folder) = member.manifest_path.parent() else {
                continue;
            };
            let files = rust_files(&folder.join("src"));
            let only_tests = modules_for_tests(&files);
            for path in files {
                let within = path.strip_prefix(folder).unwrap_or(&path);
                if within.components().any(|part| {
                    only_tests
                        .iter()
                        .any(|module| is_module(part.as_os_str(), module))
                }) {
                    continue;
                }
                with_source(&path, &mut faults, |path, text| {
                    reaches_system(text).map(|word| {
                        format!(
                            "{}: `{word}`: a protocol crate takes time and input as arguments",
                            path.display()
                        )
                    })
                });
            }
        }
    }
    faults
}

/// The names of the modules that exist only in tests: `#[cfg(test)]`, then `mod NAME;`.
fn modules_for_tests(files: &[PathBuf]) -> Vec<String> {
    let mut modules = Vec::new();
    for text in files.iter().flat_map(fs::read_to_string) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let name = pair[1].strip_suffix(';').and_then(|rest| rest.rsplit(' ').next());
            modules.extend(name.filter(|_| pair[1].contains("mod ")).map(str::to_owned));
        }
    }
    modules
}

/// `NAME.rs` or the folder `NAME`.
fn is_module(part: &OsStr, module: &str) -> bool {
    part.to_str()
        .is_some_and(|part| part.strip_suffix(".rs").unwrap_or(part) == module)
}

fn with_source(path: &Path, faults: &mut Vec<String>, look: impl FnOnce(&Path, &str) -> Option<String>) {
    match fs::read_to_string(path) {
        Ok(text) => faults.extend(look(path, &text)),
        Err(why) => faults.push(format!("{}: cannot be read: {why}", path.display())),
    }
}

fn is_product(kinds: &[String]) -> bool {
    kinds
        .iter()
        .any(|kind| matches!(kind.as_str(), "lib" | "bin" | "proc-macro" | "custom-build"))
}

/// The attribute must be code: not in a comment, not `deny`, which a module may lift.
fn forbids_unsafe(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]")
}

/// The first name of the operating system outside comments and tests.
fn reaches_system(text: &str) -> Option<&'static str> {
    text.lines()
        .map(str::trim_start)
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.starts_with("//"))
        .find_map(|line| SYSTEM.iter().find(|word| line.contains(**word)).copied())
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

const SYSTEM: &[&str] = &[
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_must_be_a_line_of_its_own() {
        assert!(forbids_unsafe("//! A crate.\n#![forbid(unsafe_code)]\n"));
        assert!(!forbids_unsafe("// #![forbid(unsafe_code)]\n"));
        assert!(!forbids_unsafe("#![deny(unsafe_code)]\n"));
        assert!(!forbids_unsafe("//! A crate.\n"));
    }

    #[test]
    fn the_clock_and_sockets_are_found() {
        assert_eq!(reaches_system("let now = Instant::now();"), Some("Instant::now"));
        assert_eq!(
            reaches_system("use std::net::{SocketAddr, UdpSocket};"),
            Some("UdpSocket")
        );
    }

    #[test]
    fn comments_tests_and_addresses_are_left_alone() {
        assert_eq!(
            reaches_system("use std::net::SocketAddr;\nuse std::time::Instant;"),
            None
        );
        assert_eq!(reaches_system("/// Never calls Instant::now.\nfn f() {}"), None);
        assert_eq!(
            reaches_system("#[cfg(test)]\nmod tests { fn t() { Instant::now(); } }"),
            None
        );
    }

    #[test]
    fn faults_are_reported_by_file_and_modules_for_tests_are_free() {
        let folder = std::env::temp_dir().join(format!("layering-{}", std::process::id()));
        fs::create_dir_all(folder.join("src")).expect("a temporary folder can be made");
        let root = folder.join("src/lib.rs");
        fs::write(&root, "//! A crate.\nfn f() { std::thread::yield_now() }\n")
            .expect("a file can be written");
        let document = serde_json::json!({
            "packages": [{"id": "sip#1", "name": "sip", "manifest_path": folder.join("Cargo.toml"),
                "targets": [{"kind": ["lib"], "src_path": root}]}],
            "workspace_members": ["sip#1"], "resolve": {"nodes": []}});
        let faults = check(&serde_json::from_value(document).expect("the right shape"));
        fs::remove_dir_all(&folder).expect("the folder can be taken away");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].contains("forbid(unsafe_code)") && faults[1].contains("std::thread"),
            "{faults:?}"
        );
    }
}
