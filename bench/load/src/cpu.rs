//! CPU time of the measured processes, read from `/proc/PID/task/*/schedstat` in the generator itself, so that the interval
//! is exactly the one in which the units are counted.

use std::{fs, str::FromStr};

use anyhow::{Context, ensure};

/// A named group of processes whose CPU time is added up, written `NAME=PID,PID,…`.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) name: String,
    pids: Vec<u32>,
}

impl Watch {
    /// User and system time of all threads of the group so far, in nanoseconds.
    pub(crate) fn sample(&self) -> u64 {
        self.pids.iter().map(|pid| threads(*pid)).sum()
    }
}

impl FromStr for Watch {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Watch> {
        let (name, pids) = text.split_once('=').context("expected NAME=PID,PID")?;
        let pids = pids.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        ensure!(
            pids.iter().all(|pid| threads(*pid) > 0),
            "no such process among {pids:?}"
        );
        Ok(Watch {
            name: name.to_owned(),
            pids,
        })
    }
}

fn threads(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_its_own_time() {
        let watch: Watch = format!("self={}", std::process::id()).parse().unwrap();
        let before = watch.sample();
        let mut sum = 0u64;
        while watch.sample() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(watch.sample() > before);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert!("x=4294967295".parse::<Watch>().is_err());
        assert!("x".parse::<Watch>().is_err());
    }
}
