//! Passwords: a good one made, or one read from standard input.

use std::io::{self, BufRead};

use server::ExitCode;
use server::control::Password;

use crate::failure::Failure;

/// Makes a password of [`LENGTH`] letters and digits that are not mistaken for one another when read out or typed: about
/// 112 bits.
pub(crate) fn generate() -> Result<Password, Failure> {
    let mut password = String::with_capacity(LENGTH);
    let mut random = [0; 64];
    while password.len() < LENGTH {
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("the operating system gives no random numbers: {error}"),
                "give a password with --password-stdin",
            )
        })?;
        // A byte beyond the last whole multiple would make the first letters likelier than the others.
        let fair = random
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = fair.map(|byte| char::from(ALPHABET[byte % ALPHABET.len()]));
        password.extend(letters.take(LENGTH - password.len()));
    }
    Ok(Password::new(password))
}

/// Reads the first line of standard input.
pub(crate) fn from_stdin() -> Result<Password, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| {
        Failure::new(
            ExitCode::Usage,
            format!("no password can be read from standard input: {error}"),
            "write it there as one line of UTF-8",
        )
    })?;
    Ok(Password::new(line.trim_end_matches(['\n', '\r'])))
}

/// Without 0 and O, 1, l and I.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
/// Letters of a password.
const LENGTH: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn made_passwords_are_long_unambiguous_and_each_another() {
        let passwords: HashSet<String> = (0..100)
            .map(|_| generate().unwrap().reveal().to_owned())
            .collect();
        assert_eq!(passwords.len(), 100);
        for password in &passwords {
            assert_eq!(password.len(), LENGTH);
            assert!(!password.contains(['0', 'O', '1', 'l', 'I']), "{password}");
        }
        let letters: HashSet<char> = passwords.iter().flat_map(|password| password.chars()).collect();
        assert_eq!(letters.len(), ALPHABET.len(), "every letter occurs");
    }
}
