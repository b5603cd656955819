//! The tables, and the steps that lead to them. `user_version` counts the steps that a file has taken.

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;

/// Takes the steps that the file has not yet taken, in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = STEPS.len() as i64;
    // Read before writing: the usual start finds nothing to do and takes no lock.
    if version(connection)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// A step is never changed once it was released: what is to be different comes as a further step.
const STEPS: &[&str] = &["
CREATE TABLE account (
    domain     TEXT NOT NULL,
    name       TEXT NOT NULL,
    md5        TEXT,
    sha256     TEXT,
    sha512_256 TEXT,
    created    INTEGER NOT NULL,
    disabled   INTEGER NOT NULL,
    PRIMARY KEY (domain, name)
) WITHOUT ROWID;

CREATE TABLE binding (
    aor           TEXT NOT NULL,
    contact       TEXT NOT NULL,
    expires_at    INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    cseq          INTEGER NOT NULL,
    reg_id        INTEGER NOT NULL,
    q             INTEGER NOT NULL,
    call_id       TEXT NOT NULL,
    flow          BLOB NOT NULL,
    path          TEXT NOT NULL,
    instance      TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    PRIMARY KEY (aor, contact)
) WITHOUT ROWID;

CREATE TABLE record (
    id          INTEGER PRIMARY KEY,
    started_at  INTEGER NOT NULL,
    ringing_at  INTEGER,
    answered_at INTEGER,
    ended_at    INTEGER,
    ended_by    TEXT NOT NULL,
    status      INTEGER NOT NULL,
    call_id     TEXT NOT NULL,
    caller      TEXT NOT NULL,
    callee      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    codec       TEXT NOT NULL,
    media       TEXT NOT NULL,
    caller_packets INTEGER NOT NULL, caller_bytes INTEGER NOT NULL, caller_lost INTEGER NOT NULL,
    caller_late INTEGER NOT NULL, caller_jitter_us INTEGER NOT NULL,
    caller_first_at INTEGER NOT NULL, caller_last_at INTEGER NOT NULL,
    callee_packets INTEGER NOT NULL, callee_bytes INTEGER NOT NULL, callee_lost INTEGER NOT NULL,
    callee_late INTEGER NOT NULL, callee_jitter_us INTEGER NOT NULL,
    callee_first_at INTEGER NOT NULL, callee_last_at INTEGER NOT NULL
);
CREATE INDEX record_started ON record (started_at);
CREATE INDEX record_call_id ON record (call_id);
CREATE INDEX record_open ON record (id) WHERE ended_at IS NULL;
"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(
            migrate(&mut connection),
            Err(StoreError::Newer { found: 999, .. })
        ));
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(version(&connection).unwrap(), STEPS.len() as i64);
    }
}
