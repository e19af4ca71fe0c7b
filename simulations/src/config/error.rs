//! What is wrong with a scenario.

use std::fmt;

/// Where a value was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// `--set` on the command line.
    Override,
}

/// A mistake in a scenario file or an override.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub(super) file: String,
    pub(super) origin: Option<Origin>,
    /// The path of the key, such as `platform.hosts.0.cores`; empty for mistakes of syntax.
    pub(super) key: String,
    pub(super) problem: String,
    /// What would be right; may be empty where the problem says it.
    pub(super) allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Some(Origin::Line(line)) => write!(f, "{}:{line}: ", self.file)?,
            Some(Origin::Override) => write!(f, "--set: ")?,
            None => write!(f, "{}: ", self.file)?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// A file that the scenario names, or the scenario itself, cannot be used.
    pub fn file(file: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            file: file.to_string(),
            origin: None,
            key: String::new(),
            problem: problem.to_string(),
            allowed: String::new(),
        }
    }
}
