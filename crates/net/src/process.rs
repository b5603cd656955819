//! What a process asks of its system: cores to run on, how many files it may hold open, which pages its memory is made of.

use std::{io, mem, thread};

use crate::sys::check;

/// The cores that this process may run on, in ascending order; never empty.
pub fn cores() -> Vec<usize> {
    // SAFETY: cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set lives through the call and its size is given.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if check(result).is_err() {
        // More than 1,024 cores: number them as the library counts them.
        return (0..thread::available_parallelism().map_or(1, usize::from)).collect();
    }
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: the index is below CPU_SETSIZE.
    (0..limit)
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &set) })
        .collect()
}

/// Keeps the calling thread on one core. A worker that stays where its caches are answers faster; on a machine shared
/// with other programs it may have to wait for them instead.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: as above; the index was checked.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the set lives through the call and its size is given; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }).map(drop)
}

/// Raises the limit of open files as far as the process may; returns the limit that holds now. Each relayed call takes
/// four sockets or more, so the usual soft limit of 1,024 ends at 250 calls.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the struct lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the struct lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// Keeps the kernel from backing this process's memory with huge pages. To clear 2 MiB takes milliseconds, in which no message is
/// answered; small pages are cleared as they are needed, and none is held for the sake of its neighbours.
pub fn decline_huge_pages() -> io::Result<()> {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: PR_SET_THP_DISABLE takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_declined() {
        decline_huge_pages().unwrap();
        // SAFETY: PR_GET_THP_DISABLE takes integers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }, 1);
    }

    #[test]
    fn a_thread_stays_on_the_core_it_was_pinned_to() {
        let core = *cores().last().expect("at least one core");
        let seen = thread::spawn(move || {
            pin_to_core(core).expect("a core of this process");
            cores()
        });
        assert_eq!(seen.join().expect("the thread"), [core]);
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error() {
        assert!(pin_to_core(usize::MAX).is_err());
    }

    #[test]
    fn the_file_limit_only_goes_up() {
        let limit = raise_open_files().expect("the limit");
        assert!(limit > 0);
        assert_eq!(raise_open_files().expect("the limit again"), limit);
    }
}
