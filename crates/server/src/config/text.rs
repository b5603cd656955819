//! What people read about the configuration: the commented sample, the reference page, the explanation of a key, and
//! what a misspelt name may have meant.

use std::fmt::Write;

use super::declare::{Key, Section};
use super::keys::SECTIONS;

/// A file that says what holds without it: every key with its default, commented out, and one line about it.
pub fn sample() -> String {
    let mut out = String::from(SAMPLE_HEAD);
    for section in SECTIONS {
        out.push('\n');
        if !section.name.is_empty() {
            let _ = writeln!(out, "#{}\n[{}]", section.about.join("\n#"), section.name);
        }
        for (i, key) in section.keys.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let summary = key.about.first().copied().unwrap_or_default();
            let _ = writeln!(out, "#{summary}\n# {}", key.kind);
            let _ = writeln!(out, "#{} = {}", key.name, key.default);
        }
    }
    out
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut out = String::from(REFERENCE_HEAD);
    for section in SECTIONS {
        let title = if section.name.is_empty() {
            "Before the first table"
        } else {
            section.name
        };
        let _ = writeln!(out, "\n## {title}\n\n{}", paragraphs(section.about));
        for key in section.keys {
            let _ = writeln!(out, "\n### {}\n\n{}\n", key.path(), paragraphs(key.about));
            for (name, value) in facts(key) {
                // As code: the brackets of a list would be read as a link.
                let _ = match name {
                    "value" => writeln!(
                        out,
                        "- {name}: {}",
                        value.replace("[\"", "`[\"").replace("\"]", "\"]`")
                    ),
                    _ => writeln!(out, "- {name}: `{value}`"),
                };
            }
        }
    }
    out
}

/// What there is to say about a key (`listen.udp`), a table (`listen`), or a key named without its table (`udp`).
pub fn explain(name: &str) -> Result<String, Unexplained> {
    let named = |key: &&Key| key.path() == name || key.name == name;
    let keys: Vec<&Key> = SECTIONS
        .iter()
        .flat_map(|section| section.keys)
        .filter(named)
        .collect();
    if !keys.is_empty() {
        let texts: Vec<String> = keys.into_iter().map(explain_key).collect();
        return Ok(texts.join("\n"));
    }
    let section = SECTIONS
        .iter()
        .find(|section| !section.name.is_empty() && section.name == name);
    section.map(explain_section).ok_or_else(|| {
        let paths: Vec<String> = SECTIONS
            .iter()
            .flat_map(|section| section.keys)
            .map(Key::path)
            .collect();
        let sections = SECTIONS.iter().map(|section| section.name);
        let nearest = nearest(name, paths.iter().map(String::as_str).chain(sections)).map(str::to_owned);
        Unexplained {
            name: name.to_owned(),
            nearest,
        }
    })
}

/// There is no such key or table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key or table {name}; {}", match nearest {
    Some(nearest) => format!("did you mean {nearest}?"),
    None => "`trapez config sample` shows them all".to_owned(),
})]
pub struct Unexplained {
    /// What was asked for.
    pub name: String,
    /// The most similar name that there is.
    pub nearest: Option<String>,
}

/// What to do about a key that is not declared.
pub(super) fn suggest_key(section: &str, name: &str) -> String {
    let Some(home) = SECTIONS.iter().find(|declared| declared.name == section) else {
        return suggest_section(section);
    };
    let elsewhere = SECTIONS
        .iter()
        .find(|section| section.keys.iter().any(|key| key.name == name));
    if let Some(elsewhere) = elsewhere {
        return match elsewhere.name {
            "" => format!("move {name} to before the first table"),
            table => format!("move {name} to the table [{table}]"),
        };
    }
    match nearest(name, home.keys.iter().map(|key| key.name)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if section.is_empty() => "`trapez config sample` shows every key".to_owned(),
        None => {
            let names: Vec<&str> = home.keys.iter().map(|key| key.name).collect();
            format!("the keys of [{section}] are {}", names.join(", "))
        }
    }
}

/// What to do about a table that is not declared.
pub(super) fn suggest_section(name: &str) -> String {
    let names = || {
        SECTIONS
            .iter()
            .map(|section| section.name)
            .filter(|name| !name.is_empty())
    };
    match nearest(name, names()) {
        Some(nearest) => format!("did you mean [{nearest}]?"),
        None => format!("the tables are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

fn explain_key(key: &Key) -> String {
    let mut out = format!("{}\n\n{}\n\n", key.path(), paragraphs(key.about));
    for (name, value) in facts(key) {
        let _ = writeln!(out, "  {name:<8} {value}");
    }
    out
}

fn explain_section(section: &Section) -> String {
    let mut out = format!("[{}]\n\n{}\n\n", section.name, paragraphs(section.about));
    let width = section.keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for key in section.keys {
        let _ = writeln!(
            out,
            "  {:<width$} {}",
            key.name,
            key.about.first().copied().unwrap_or_default()
        );
    }
    out
}

fn facts(key: &Key) -> Vec<(&'static str, String)> {
    let mut facts = vec![("value", key.kind.to_owned())];
    if let Some((low, high)) = key.bounds {
        facts.push(("bounds", format!("{low} to {high}")));
    }
    facts.push(("default", key.default.to_owned()));
    facts.push(("since", key.since.to_owned()));
    facts
}

/// Lines of documentation, which begin with a space, as text.
fn paragraphs(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n")
}

/// The candidate that is the fewest changes away, if so few that it may have been meant: one in three letters.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, nearest) = candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(nearest)
}

/// How many letters must be added, dropped, changed or swapped with their neighbour (Damerau and Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (
        a.to_lowercase().chars().collect(),
        b.to_lowercase().chars().collect(),
    );
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

const SAMPLE_HEAD: &str = "\
# Configuration of Trapez. Every key is shown with its default: take the # away from what you change.
# `trapez config explain KEY` says more about a key, `trapez config check` reads this file and reports every mistake.
";

const REFERENCE_HEAD: &str = "\
# Configuration reference

The configuration is one TOML file, given with `--config FILE`; without that, `trapez.toml` in the data directory is read
if it is there. Every key has a default, and an empty file is valid. A key or table that is not listed here is refused.
`trapez config check` reads a file and reports every mistake in it, `trapez config sample` prints a file to start from,
and `trapez config explain KEY` prints a part of this page, which is made from the same source as the program.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters_added_dropped_changed_and_swapped() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("udp", "upd", 1),
            ("ports", "port", 1),
            ("relay", "realm", 2),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_what_is_similar_is_suggested() {
        assert_eq!(
            nearest("tracsted", ["trusted", "realm"].into_iter()),
            Some("trusted")
        );
        assert_eq!(nearest("tls", ["udp", "tcp"].into_iter()), None);
    }
}
