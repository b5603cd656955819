//! A change of the store: what the service and the commands ask to be written.

use crate::{Account, Binding, Record};

/// One change. Several of them are applied in order, all or none.
///
/// They are written in the order in which they are handed over. Bindings are changed by several threads, and two that
/// change the same one may hand over in the wrong order: the [`Writer`](crate::Writer) leaves out a change whose `order`
/// is lower than that of one that it has written. 0 says that there is none.
#[derive(Clone, Debug)]
pub enum Change {
    /// Make a new account; fails with [`StoreError::AccountExists`](crate::StoreError::AccountExists).
    AddAccount(Box<Account>),
    /// Make an account, or replace what it was.
    PutAccount(Box<Account>),
    /// Remove an account; its bindings are removed by [`Change::RemoveBindings`].
    RemoveAccount {
        /// The name of the account.
        name: String,
        /// The domain of the account.
        domain: String,
    },
    /// Make a binding, or replace the one with the same address-of-record and Contact.
    PutBinding {
        /// The binding.
        binding: Binding,
        /// Its place among the changes of this binding since the start.
        order: u64,
    },
    /// Remove one binding, if it is there.
    RemoveBinding {
        /// The address-of-record.
        aor: Box<str>,
        /// The Contact URI, byte for byte as it was put.
        contact: Box<str>,
        /// Its place among the changes of this binding since the start.
        order: u64,
    },
    /// Remove every binding of an address-of-record.
    RemoveBindings {
        /// The address-of-record.
        aor: Box<str>,
    },
    /// Remove the bindings that expired at this time (unix seconds) or before.
    RemoveExpired {
        /// Unix seconds.
        at: u64,
    },
    /// Write a call record, or replace the one with the same id.
    PutRecord(Box<Record>),
    /// End the records that a crash left open: done once at start, before the first call.
    CloseOpenRecords {
        /// When they ended as far as anybody knows: unix milliseconds of the start.
        at: u64,
    },
    /// Remove the oldest records of calls that started before this time, [`Change::REMOVED_AT_ONCE`] at most: nobody is to wait
    /// long for the disk.
    RemoveRecords {
        /// Unix milliseconds.
        before: u64,
    },
}

impl Change {
    /// Records that one [`Change::RemoveRecords`] removes at most: a few milliseconds of work.
    pub const REMOVED_AT_ONCE: u32 = 1000;
}
