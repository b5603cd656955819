//! From the text of a file to values, with the place of everything that is wrong.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::declare::Section;
use super::keys::{self, Config, GENERAL, SECTIONS};
use super::value::Value;
use super::{ConfigErrors, text};

/// Something in the file that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// The key, as `table.key`; empty when the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            key,
            message,
            remedy,
        } = self;
        write!(f, "{file}:{line}:{column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{message}; {remedy}")
    }
}

pub(super) fn read(file: &str, text: &str) -> Result<Config, ConfigErrors> {
    let (root, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        file,
        text,
        root: root.into_inner(),
        errors: Vec::new(),
    };
    for error in &syntax {
        let message = error.message().replace('\n', ", ");
        reader.fault(
            error.span().unwrap_or(0..0),
            "",
            message,
            "correct the TOML here".to_owned(),
        );
    }
    // What could not be parsed would be reported again as missing or misplaced.
    if reader.errors.is_empty() {
        reader.refuse_unknown();
        let mut config = Config::read(&mut reader);
        if reader.errors.is_empty() {
            keys::check(&mut config, &mut reader);
        }
        if reader.errors.is_empty() {
            return Ok(config);
        }
    }
    reader.errors.sort_by_key(|error| (error.line, error.column));
    Err(ConfigErrors(reader.errors))
}

/// A file that is being read.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    root: DeTable<'a>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// The value of a key, or its default.
    pub(super) fn read<T: Value>(&mut self, section: &str, key: &str, default: &str) -> T {
        let problem = match self.find(section, key).map(|(_, value)| T::read(value)) {
            Some(Ok(value)) => return value,
            Some(Err(problem)) => Some(problem),
            None => None,
        };
        if let Some(problem) = problem {
            let message = format!("expected {}, found {}", problem.expected, problem.found);
            let remedy = format!("the default is {key} = {default}");
            self.fault(problem.span, &path(section, key), message, remedy);
        }
        of_toml(default)
    }

    /// The value, if it lies between the bounds, which are TOML. A value that does not is reported.
    pub(super) fn within<T: Value + PartialOrd>(
        &mut self,
        section: &str,
        key: &str,
        value: T,
        low: &str,
        high: &str,
    ) -> T {
        if value < of_toml(low) || value > of_toml(high) {
            let span = self.find(section, key).map_or(0..0, |(_, value)| value.span());
            let found = self.text.get(span.clone()).unwrap_or_default().to_owned();
            let message = format!("expected {} from {low} to {high}, found {found}", T::KIND);
            self.fault(
                span,
                &path(section, key),
                message,
                "choose a value in between".to_owned(),
            );
        }
        value
    }

    /// Reports a value that does not go with another one; `key` as `table.key`.
    pub(super) fn refuse(&mut self, key: &str, message: &str, remedy: &str) {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        // A key that is not in the file: the table that it would be in.
        let place = self.find(section, name).or_else(|| entry(&self.root, section));
        let span = place.map_or(0..0, |(key, _)| key);
        self.fault(span, key, message.to_owned(), remedy.to_owned());
    }

    /// Where the key stands, and its value.
    fn find(&self, section: &str, key: &str) -> Option<(Range<usize>, &Spanned<DeValue<'_>>)> {
        let table = match section {
            "" => &self.root,
            section => entry(&self.root, section)?.1.get_ref().as_table()?,
        };
        entry(table, key)
    }

    /// Whether the file has the key.
    pub(super) fn has(&self, section: &str, key: &str) -> bool {
        self.find(section, key).is_some()
    }

    /// Reports every table and key that is not declared.
    fn refuse_unknown(&mut self) {
        let mut faults = Vec::new();
        let no_key = |section: &str, key: &Spanned<DeString<'_>>| {
            let name = key.get_ref();
            let message = "there is no such key".to_owned();
            (
                key.span(),
                path(section, name),
                message,
                text::suggest_key(section, name),
            )
        };
        for (key, value) in &self.root {
            let name = key.get_ref();
            let section = SECTIONS
                .iter()
                .find(|section| !section.name.is_empty() && section.name == *name);
            match (section, value.get_ref()) {
                (Some(section), DeValue::Table(table)) => {
                    let strangers = table.keys().filter(|key| !declares(section, key.get_ref()));
                    faults.extend(strangers.map(|key| no_key(section.name, key)));
                }
                (Some(_), _) => {
                    let message = "expected a table, found a value".to_owned();
                    faults.push((
                        key.span(),
                        name.to_string(),
                        message,
                        format!("write [{name}] and its keys below"),
                    ));
                }
                (None, _) if declares(GENERAL, name) => {}
                (None, DeValue::Table(_)) => {
                    let message = "there is no such table".to_owned();
                    faults.push((key.span(), name.to_string(), message, text::suggest_section(name)));
                }
                (None, _) => faults.push(no_key("", key)),
            }
        }
        for (span, key, message, remedy) in faults {
            self.fault(span, &key, message, remedy);
        }
    }

    fn fault(&mut self, span: Range<usize>, key: &str, message: String, remedy: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.errors.push(ConfigError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            key: key.to_owned(),
            message,
            remedy,
        });
    }
}

fn entry<'a>(table: &'a DeTable<'_>, name: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    Some((key.span(), value))
}

fn declares(section: &Section, key: &str) -> bool {
    section.keys.iter().any(|declared| declared.name == key)
}

fn path(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// A default or a bound, which are declared as TOML.
fn of_toml<T: Value>(toml: &str) -> T {
    DeValue::parse(toml)
        .ok()
        .and_then(|value| T::read(&value).ok())
        .expect("every default and bound is a value of its kind, as the tests show")
}
