//! Holds the layering of the workspace: reads `cargo metadata --format-version 1` and the crates' sources, and fails
//! where an arrow points the wrong way, where a protocol crate reaches the operating system, or where a crate other
//! than `net` could contain `unsafe`. What is allowed stands in [`rules`].
#![forbid(unsafe_code)]

mod metadata;
mod rules;
mod sources;

use std::io::Read;
use std::process::{Command, ExitCode};

use metadata::Metadata;

/// `layering` asks cargo itself; `layering -` reads the metadata from standard input.
fn main() -> ExitCode {
    let json = match read_metadata() {
        Ok(json) => json,
        Err(why) => {
            eprintln!("layering: no metadata: {why}");
            return ExitCode::from(2);
        }
    };
    let metadata: Metadata = match serde_json::from_slice(&json) {
        Ok(metadata) => metadata,
        Err(why) => {
            eprintln!("layering: cargo's metadata is not as expected: {why}");
            return ExitCode::from(2);
        }
    };
    let mut faults = rules::check(&metadata);
    faults.extend(sources::check(&metadata));
    for fault in &faults {
        eprintln!("layering: {fault}");
    }
    if faults.is_empty() {
        println!(
            "layering: {} crates, every arrow points the right way",
            metadata.workspace_members.len()
        );
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn read_metadata() -> std::io::Result<Vec<u8>> {
    if std::env::args().nth(1).as_deref() == Some("-") {
        let mut json = Vec::new();
        std::io::stdin().read_to_end(&mut json)?;
        return Ok(json);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()?;
    if !output.status.success() {
        return Err(std::io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    Ok(output.stdout)
}
