//! Changes written in one transaction.

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use crate::{Account, Binding, Change, EndedBy, Record, StoreError, StreamCounters};

pub(super) fn apply<'a>(
    connection: &mut Connection,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<(), StoreError> {
    // Immediate: a lock held by another process shows now, not half-way.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        write(&transaction, change)?;
    }
    Ok(transaction.commit()?)
}

fn write(connection: &Connection, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::AddAccount(account) => add_account(connection, account),
        Change::PutAccount(account) => put_account(connection, PUT_ACCOUNT, account),
        Change::RemoveAccount { name, domain } => execute(
            connection,
            "DELETE FROM account WHERE domain = ?1 AND name = ?2",
            params![domain, name],
        ),
        Change::PutBinding { binding, .. } => put_binding(connection, binding),
        Change::RemoveBinding { aor, contact, .. } => execute(
            connection,
            "DELETE FROM binding WHERE aor = ?1 AND contact = ?2",
            params![aor, contact],
        ),
        Change::RemoveBindings { aor } => {
            execute(connection, "DELETE FROM binding WHERE aor = ?1", params![aor])
        }
        Change::RemoveExpired { at } => execute(
            connection,
            "DELETE FROM binding WHERE expires_at <= ?1",
            params![integer(*at)],
        ),
        Change::PutRecord(record) => put_record(connection, record),
        Change::CloseOpenRecords { at } => execute(
            connection,
            "UPDATE record SET ended_at = ?1, ended_by = ?2 WHERE ended_at IS NULL",
            params![integer(*at), EndedBy::Restart.as_str()],
        ),
        Change::RemoveRecords { before } => execute(
            connection,
            "DELETE FROM record WHERE id IN
                (SELECT id FROM record WHERE started_at < ?1 ORDER BY started_at LIMIT ?2)",
            params![integer(*before), Change::REMOVED_AT_ONCE],
        ),
    }
}

fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

fn add_account(connection: &Connection, account: &Account) -> Result<(), StoreError> {
    put_account(connection, ADD_ACCOUNT, account).map_err(|error| match error {
        StoreError::Statement(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            StoreError::AccountExists { aor: account.aor() }
        }
        error => error,
    })
}

fn put_account(connection: &Connection, sql: &str, account: &Account) -> Result<(), StoreError> {
    let ha1 = &account.ha1;
    execute(
        connection,
        sql,
        params![
            account.domain,
            account.name,
            ha1.md5,
            ha1.sha256,
            ha1.sha512_256,
            integer(account.created),
            account.disabled,
        ],
    )
}

fn put_binding(connection: &Connection, binding: &Binding) -> Result<(), StoreError> {
    let b = binding.fields();
    execute(
        connection,
        PUT_BINDING,
        params![
            b.aor,
            b.contact,
            integer(b.expires_at),
            integer(b.registered_at),
            b.cseq,
            b.reg_id,
            b.q,
            b.call_id,
            b.flow,
            b.path,
            b.instance,
            b.user_agent,
        ],
    )
}

fn put_record(connection: &Connection, r: &Record) -> Result<(), StoreError> {
    let StreamCounters {
        packets,
        bytes,
        lost,
        late,
        jitter_us,
        first_at,
        last_at,
    } = r.from_caller;
    let caller = [
        packets,
        bytes,
        lost,
        late,
        u64::from(jitter_us),
        first_at,
        last_at,
    ]
    .map(integer);
    let StreamCounters {
        packets,
        bytes,
        lost,
        late,
        jitter_us,
        first_at,
        last_at,
    } = r.from_callee;
    let callee = [
        packets,
        bytes,
        lost,
        late,
        u64::from(jitter_us),
        first_at,
        last_at,
    ]
    .map(integer);
    execute(
        connection,
        PUT_RECORD,
        params![
            // The id is a name, not a quantity: all 64 bits of it count.
            r.id.cast_signed(),
            integer(r.started_at),
            r.ringing_at.map(integer),
            r.answered_at.map(integer),
            r.ended_at.map(integer),
            r.ended_by.as_str(),
            r.status,
            r.call_id,
            r.from,
            r.to,
            r.reason,
            r.codec,
            r.media.as_str(),
            caller[0],
            caller[1],
            caller[2],
            caller[3],
            caller[4],
            caller[5],
            caller[6],
            callee[0],
            callee[1],
            callee[2],
            callee[3],
            callee[4],
            callee[5],
            callee[6],
        ],
    )
}

/// SQLite's integers are signed; times and counters beyond that are cut to the largest.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const ADD_ACCOUNT: &str = "INSERT INTO account VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const PUT_ACCOUNT: &str = "REPLACE INTO account VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
// REPLACE and not ON CONFLICT DO UPDATE: the table has no further index, and the row is written once.
const PUT_BINDING: &str = "REPLACE INTO binding VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const PUT_RECORD: &str = "REPLACE INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
    ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)";
