//! The file of `account import`: comma-separated values (RFC 4180) with the header `account,password`.

use server::control::{NewAccount, Password};

/// A line that is not as it must be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(crate) struct BadLine {
    /// Line of the file, from 1.
    pub(crate) line: u64,
    pub(crate) fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("expected the header account,password, found {0:?}")]
    Header(String),
    #[error("expected account and password separated by a comma, found {0} fields")]
    Fields(usize),
    #[error("a quoted field does not end")]
    Quote,
}

/// Reads the accounts; empty lines are passed over. Every bad line is reported, not only the first.
pub(crate) fn accounts(text: &str) -> Result<Vec<NewAccount>, Vec<BadLine>> {
    let mut lines = (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines());
    let header = lines.next().map_or("", |(_, line)| line.trim());
    if !header.eq_ignore_ascii_case("account,password") {
        return Err(vec![BadLine {
            line: 1,
            fault: Fault::Header(header.to_owned()),
        }]);
    }
    let (mut accounts, mut bad) = (Vec::new(), Vec::new());
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        match fields(text) {
            Ok(fields) => match <[String; 2]>::try_from(fields) {
                Ok([account, password]) => {
                    let account = account.trim().to_owned();
                    accounts.push(NewAccount {
                        line,
                        account,
                        password: Password::new(password),
                    });
                }
                Err(fields) => bad.push(BadLine {
                    line,
                    fault: Fault::Fields(fields.len()),
                }),
            },
            Err(fault) => bad.push(BadLine { line, fault }),
        }
    }
    if bad.is_empty() { Ok(accounts) } else { Err(bad) }
}

/// The fields of a line. One in quotes may hold commas, and quotes doubled; line breaks are in no account.
fn fields(line: &str) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, next) = rest
                .split_once(',')
                .map_or((rest, None), |(field, next)| (field, Some(next)));
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut parts = quoted;
        rest = loop {
            let (part, after) = parts.split_once('"').ok_or(Fault::Quote)?;
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    parts = more;
                }
                None => break after,
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(Fault::Quote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_at_commas_and_unquoted() {
        let text =
            "\u{feff}account,password\r\nalice,secret\r\n\r\n bob@example.org ,\"a,\"\"b\"\"\"\ncarol,\n";
        let accounts = accounts(text).unwrap();
        let read: Vec<_> = accounts
            .iter()
            .map(|new| (new.line, new.account.as_str(), new.password.reveal()))
            .collect();
        assert_eq!(
            read,
            [
                (2, "alice", "secret"),
                (4, "bob@example.org", "a,\"b\""),
                (5, "carol", "")
            ]
        );
    }

    #[test]
    fn every_bad_line_is_named() {
        let bad = accounts("account,password\nalice\nbob,x\ncarol,x,y\ndora,\"x\nemil,\"x\"y\n").unwrap_err();
        let texts: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "line 2: expected account and password separated by a comma, found 1 fields",
                "line 4: expected account and password separated by a comma, found 3 fields",
                "line 5: a quoted field does not end",
                "line 6: a quoted field does not end",
            ]
        );
        assert_eq!(
            accounts("alice,x\n").unwrap_err()[0].fault,
            Fault::Header("alice,x".to_owned())
        );
        assert_eq!(accounts("").unwrap_err()[0].line, 1);
    }
}
