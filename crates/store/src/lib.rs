//! Accounts, bindings and call records: one SQLite file in one directory, or memory.
//!
//! This crate knows neither SIP nor the network: an address-of-record, a Contact or a flow is a text or a blob that
//! the caller understands. How it is used:
//!
//! 1. [`DataDir::open`] makes the directory, [`DataDir::lock`] sees to it that one process at a time writes there;
//! 2. [`Store::open`] opens the file and brings its tables up to date;
//! 3. at start, [`Store::accounts`] and [`Store::each_binding`] read what there is;
//! 4. a service hands the store to a [`Writer`]: one thread, which commits everything that is waiting in one
//!    transaction and then says so; a command that runs alone calls [`Store::apply`] itself.
//!
//! A change that was reported as written is on the disk (`synchronous=FULL`): neither `kill -9` nor a power cut
//! takes it back.
#![forbid(unsafe_code)]

mod account;
mod binding;
mod change;
mod data_dir;
mod database;
mod error;
mod record;
mod writer;

pub use account::{Account, Ha1};
pub use binding::{Binding, BindingFields};
pub use change::Change;
pub use data_dir::{DataDir, DataLock};
pub use database::Store;
pub use error::StoreError;
pub use record::{EndedBy, MediaPath, Record, RecordQuery, StreamCounters};
pub use writer::{Rejected, Sink, Writer, WriterHandle, WriterOptions};
