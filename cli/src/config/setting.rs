//! A value, and who says so.

use std::fmt;

use serde_json::Value;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Nobody said anything else.
    Default,
    /// This line of the config file.
    File(usize),
    /// This variable.
    Environment(&'static str),
    /// The command line.
    Flag,
}

impl Origin {
    /// For programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(_) => "file",
            Self::Environment(_) => "environment",
            Self::Flag => "flag",
        }
    }
}

/// For people.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(line) => write!(f, "line {line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Default | Self::Flag => f.write_str(self.word()),
        }
    }
}

/// A value with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    /// What the flag says, else the file, else the default.
    pub(super) fn pick(
        flag: Option<T>,
        file: &Option<Setting<T>>,
        default: impl FnOnce() -> T,
    ) -> Self
    where
        T: Clone,
    {
        match (flag, file) {
            (Some(value), _) => Self { value, origin: Origin::Flag },
            (None, Some(file)) => file.clone(),
            (None, None) => Self { value: default(), origin: Origin::Default },
        }
    }

    /// As it could be written in the file.
    pub(crate) fn row(&self, key: &'static str, write: impl FnOnce(&T) -> Value) -> Row {
        Row { key, value: write(&self.value), origin: self.origin }
    }
}

/// A setting as it is shown.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    /// A text, a number, true, false or an array of texts: as JSON and as TOML the same.
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}
