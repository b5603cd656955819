//! The configuration: one TOML file, in which everything has a default, so that an empty one is valid.
//!
//! Every key is declared once, in `config/keys.rs`, with its type, default, bounds and explanation; parsing, the
//! commented sample, the reference page and `config explain` all come from there. What is not declared is refused,
//! with its place in the file and the nearest name that is.

mod declare;
mod keys;
mod read;
mod text;
mod value;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

pub use keys::{
    Auth, Config, Limits, Listen, Log, Media, Nat, Proxy, Records, RegistrarSection, Server, StoreSection,
};
pub use read::ConfigError;
pub use text::{Unexplained, explain, reference, sample};
pub use value::{Domain, PortRange, StoreUrl, parse_duration};

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text).map_err(LoadError::Invalid)
    }

    /// Reads the text of a file; `file` names it in errors. All errors are found, not only the first.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        read::read(file, text)
    }

    /// The domain of an account that is named without one: the first of `domains`, or, when the service answers for
    /// its own addresses, [`switch::directory::DEFAULT_DOMAIN`].
    pub fn default_domain(&self) -> &str {
        self.domains
            .first()
            .map_or(switch::directory::DEFAULT_DOMAIN, Domain::as_str)
    }

    /// Whether accounts of this domain (in lower case) are served.
    pub fn serves(&self, domain: &str) -> bool {
        if self.domains.is_empty() {
            domain == switch::directory::DEFAULT_DOMAIN
        } else {
            self.domains.iter().any(|served| served.as_str() == domain)
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::parse("", "").expect("every default of a key parses, as the tests show")
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}; name an existing file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file says what it must not.
    #[error(transparent)]
    Invalid(ConfigErrors),
}

/// All that is wrong with a file, in the order of its lines; one line of text each. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests;
