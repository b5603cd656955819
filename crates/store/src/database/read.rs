//! What is in the tables.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::write::integer;
use crate::{
    Account, BindingFields, EndedBy, Ha1, MediaPath, Record, RecordQuery, StoreError, StreamCounters,
};

pub(super) fn accounts(connection: &Connection) -> Result<Vec<Account>, StoreError> {
    let sql = "SELECT * FROM account ORDER BY domain, name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], account_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn account(
    connection: &Connection,
    name: &str,
    domain: &str,
) -> Result<Option<Account>, StoreError> {
    let sql = "SELECT * FROM account WHERE domain = ?1 AND name = ?2";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([domain, name], account_of)
        .optional()?)
}

fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        domain: row.get(0)?,
        name: row.get(1)?,
        ha1: Ha1 {
            md5: row.get(2)?,
            sha256: row.get(3)?,
            sha512_256: row.get(4)?,
        },
        created: unsigned(row, 5)?,
        disabled: row.get(6)?,
    })
}

pub(super) fn each_binding(
    connection: &Connection,
    aor: Option<&str>,
    now: u64,
    mut each: impl FnMut(BindingFields<'_>) -> bool,
) -> Result<(), StoreError> {
    let sql = match aor {
        None => "SELECT * FROM binding WHERE expires_at > ?1 AND ?2 IS NULL ORDER BY aor, contact",
        Some(_) => "SELECT * FROM binding WHERE expires_at > ?1 AND aor = ?2 ORDER BY contact",
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![integer(now), aor])?;
    while let Some(row) = rows.next()? {
        if !each(binding_of(row)?) {
            break;
        }
    }
    Ok(())
}

fn binding_of<'a>(row: &'a Row<'_>) -> Result<BindingFields<'a>, StoreError> {
    Ok(BindingFields {
        aor: text(row, 0)?,
        contact: text(row, 1)?,
        expires_at: unsigned(row, 2)?,
        registered_at: unsigned(row, 3)?,
        cseq: row.get(4)?,
        reg_id: row.get(5)?,
        q: row.get(6)?,
        call_id: text(row, 7)?,
        flow: row.get_ref(8)?.as_blob().map_err(|_| wrong_type("flow"))?,
        path: text(row, 9)?,
        instance: text(row, 10)?,
        user_agent: text(row, 11)?,
    })
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column)?
        .as_str()
        .map_err(|_| wrong_type("a text column"))
}

/// The program never writes such a value, so that somebody else or a failing disk did.
fn wrong_type(column: &str) -> StoreError {
    StoreError::Corrupt {
        detail: format!("{column} of table binding has a value of the wrong type"),
    }
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

pub(super) fn records(connection: &Connection, query: &RecordQuery) -> Result<Vec<Record>, StoreError> {
    let sql = "SELECT * FROM record
        WHERE (?1 IS NULL OR caller = ?1 OR callee = ?1) AND (?2 IS NULL OR call_id = ?2)
          AND started_at >= ?3 AND started_at < ?4
        ORDER BY started_at DESC, id DESC LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(
        params![
            query.aor,
            query.call_id,
            integer(query.since.unwrap_or(0)),
            integer(query.until.unwrap_or(u64::MAX)),
            query.limit.map_or(-1, i64::from),
        ],
        record_of,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<Record> {
    let moment = |column| {
        row.get::<_, Option<i64>>(column)
            .map(|t| t.map(|t| u64::try_from(t).unwrap_or(0)))
    };
    let counters = |first: usize| {
        Ok::<_, rusqlite::Error>(StreamCounters {
            packets: unsigned(row, first)?,
            bytes: unsigned(row, first + 1)?,
            lost: unsigned(row, first + 2)?,
            late: unsigned(row, first + 3)?,
            jitter_us: row.get(first + 4)?,
            first_at: unsigned(row, first + 5)?,
            last_at: unsigned(row, first + 6)?,
        })
    };
    let ended_by: String = row.get(5)?;
    let media: String = row.get(12)?;
    Ok(Record {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        started_at: unsigned(row, 1)?,
        ringing_at: moment(2)?,
        answered_at: moment(3)?,
        ended_at: moment(4)?,
        ended_by: EndedBy::ALL
            .into_iter()
            .find(|by| by.as_str() == ended_by)
            .unwrap_or_default(),
        status: row.get(6)?,
        call_id: row.get(7)?,
        from: row.get(8)?,
        to: row.get(9)?,
        reason: row.get(10)?,
        codec: row.get(11)?,
        media: MediaPath::ALL
            .into_iter()
            .find(|path| path.as_str() == media)
            .unwrap_or_default(),
        from_caller: counters(13)?,
        from_callee: counters(20)?,
    })
}
