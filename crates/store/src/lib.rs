//! Accounts, bindings and call records: memory and SQLite.
#![forbid(unsafe_code)]
