//! How keys are declared: a table of the file and a struct of the program at once.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Name of the table; empty for the keys before the first table.
    pub(super) name: &'static str,
    /// Lines of explanation.
    pub(super) about: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// Name of the table; empty for none.
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// Lines of explanation: the first says what it is in one sentence, the long text follows after an empty one.
    pub(super) about: &'static [&'static str],
    /// What kind of value it takes, in words.
    pub(super) kind: &'static str,
    /// Least and largest value, as TOML.
    pub(super) bounds: Option<(&'static str, &'static str)>,
    /// The default, as TOML.
    pub(super) default: &'static str,
    /// The version that first knew it.
    pub(super) since: &'static str,
}

impl Key {
    /// `listen.udp`.
    pub(super) fn path(&self) -> String {
        match self.section {
            "" => self.name.to_owned(),
            section => format!("{section}.{}", self.name),
        }
    }
}

/// Declares a table: the struct that holds its values, how it is read, and what is told about it. Defaults and bounds
/// are written as they would be in the file.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $Name:ident in $table:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:expr $(, from $low:literal to $high:literal)?, since $since:literal;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $Name {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl $Name {
            pub(super) const SECTION: Section = Section {
                name: $table,
                about: &[$($about),+],
                keys: &[$(Key {
                    section: $table,
                    name: stringify!($key),
                    about: &[$($doc),+],
                    kind: <$type as Value>::KIND,
                    bounds: bounds!($($low, $high)?),
                    default: stringify!($default),
                    since: $since,
                }),+],
            };

            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $($key: {
                        let value = reader.read::<$type>($table, stringify!($key), stringify!($default));
                        $(let value = reader.within($table, stringify!($key), value, stringify!($low), stringify!($high));)?
                        value
                    },)+
                }
            }
        }
    };
}

macro_rules! bounds {
    () => {
        None
    };
    ($low:literal, $high:literal) => {
        Some((stringify!($low), stringify!($high)))
    };
}

/// Declares the whole: the keys before the first table are of the first section and fields of the struct itself.
macro_rules! configuration {
    (
        $(#[doc = $about:literal])+
        pub struct Config { ..$General:ident { $($key:ident: $type:ty),+ }, $($field:ident: $Section:ident),+ $(,)? }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = "A key before the first table."] pub $key: $type,)+
            $(#[doc = "The table of this name."] pub $field: $Section,)+
        }

        pub(super) const GENERAL: &Section = &$General::SECTION;
        pub(super) const SECTIONS: &[Section] = &[$General::SECTION, $($Section::SECTION),+];

        impl Config {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                let $General { $($key),+ } = $General::read(reader);
                Self { $($key,)+ $($field: $Section::read(reader)),+ }
            }
        }
    };
}

pub(super) use {bounds, configuration, section};
