//! A file per command: its arguments, what it asks, and what it prints.

pub(crate) mod account;
pub(crate) mod bindings;
pub(crate) mod calls;
pub(crate) mod config;
pub(crate) mod records;
pub(crate) mod serve;
pub(crate) mod status;
