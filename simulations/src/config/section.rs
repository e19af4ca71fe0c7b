//! One table of a document, read key by key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::error::{ConfigError, Origin};
use super::tree::{Document, Node, Value};
use super::units;

/// What a number counts, which decides the texts that may stand for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A plain number.
    Plain,
    /// Seconds, or a text with ns, us, ms, s, min, h, d.
    Seconds,
    /// Bytes, or a text with B, kB, MB, GB, TB, KiB, MiB, GiB, TiB.
    Bytes,
    /// Bytes a second, or a text with bit/s, Mbit/s, Gbit/s, MB/s and the like.
    Rate,
}

impl Unit {
    fn parse(self, text: &str) -> Option<f64> {
        match self {
            Self::Plain => None,
            Self::Seconds => units::seconds(text),
            Self::Bytes => units::bytes(text),
            Self::Rate => units::bytes_per_second(text),
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Plain => "a number",
            Self::Seconds => "seconds, or text such as \"5 ms\", \"2 h\", \"1 d\"",
            Self::Bytes => "bytes, or text such as \"90 MB\", \"16 GiB\"",
            Self::Rate => "bytes a second, or text such as \"100 Mbit/s\", \"12 MB/s\"",
        }
    }
}

/// A table of the document.
#[derive(Debug)]
pub struct Section<'a> {
    document: &'a Document,
    path: String,
    table: &'a BTreeMap<String, Node>,
    origin: Origin,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        document: &'a Document,
        path: String,
        table: &'a BTreeMap<String, Node>,
        origin: Origin,
    ) -> Self {
        Self { document, path, table, origin, asked: RefCell::new(Vec::new()) }
    }

    /// Whether the key is there.
    pub fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// A whole number.
    pub fn integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        match node.value {
            Value::Integer(number) => match u64::try_from(number) {
                Ok(number) if range.contains(&number) => Ok(Some(number)),
                _ => Err(self.wrong(key, format!("{number} is out of range"), allowed())),
            },
            ref other => Err(self.wrong(key, other.kind(), allowed())),
        }
    }

    /// A number, in the base unit.
    pub fn number(
        &self,
        key: &'static str,
        unit: Unit,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ConfigError> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let number = match &node.value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            Value::Text(text) => match unit.parse(text) {
                Some(number) => number,
                None => return Err(self.wrong(key, format!("{text:?}"), unit.describe())),
            },
            other => return Err(self.wrong(key, other.kind(), unit.describe())),
        };
        if range.contains(&number) {
            return Ok(Some(number));
        }
        let (low, high) = (range.start(), range.end());
        let bounds = match (*low <= f64::MIN_POSITIVE, *high < f64::MAX) {
            (_, true) => format!("from {low} to {high}"),
            (true, false) if *low > 0.0 => "above 0".to_owned(),
            _ => format!("{low} or more"),
        };
        Err(self.wrong(
            key,
            format!("{number} is out of range"),
            format!("{}, {bounds}", unit.describe()),
        ))
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key).map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other.kind(), "text")),
        }
    }

    /// What `parse` makes of a text, or of a whole number as it is written.
    pub fn parsed<T, E>(
        &self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let (parsed, shown) = match self.get(key).map(|node| &node.value) {
            None => return Ok(None),
            Some(Value::Text(text)) => (parse(text), format!("{text:?}")),
            Some(Value::Integer(number)) => (parse(&number.to_string()), number.to_string()),
            Some(other) => return Err(self.wrong(key, other.kind(), allowed)),
        };
        parsed.map(Some).map_err(|_| self.wrong(key, shown, allowed))
    }

    /// The line of a key, from 1; `None` if it is missing or not from the file.
    pub fn line(&self, key: &str) -> Option<usize> {
        match self.table.get(key)?.origin {
            Origin::Line(line) => Some(line),
            Origin::Override => None,
        }
    }

    /// True or false.
    pub fn bool(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        match self.get(key).map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Bool(yes)) => Ok(Some(*yes)),
            Some(other) => Err(self.wrong(key, other.kind(), "true or false")),
        }
    }

    /// One of some words.
    pub fn choice<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let allowed = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        match self.get(key).map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Text(text)) => match words.iter().find(|(word, _)| word == text) {
                Some((_, meaning)) => Ok(Some(*meaning)),
                None => Err(self.wrong(key, format!("{text:?} is unknown"), allowed())),
            },
            Some(other) => Err(self.wrong(key, other.kind(), allowed())),
        }
    }

    /// Some texts, at least one and at most `most`.
    pub fn texts(
        &self,
        key: &'static str,
        most: usize,
        allowed: &str,
    ) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let items = match self.get(key).map(|node| &node.value) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(key, other.kind(), allowed)),
        };
        if items.is_empty() || items.len() > most {
            return Err(self.wrong(key, format!("{} of them", items.len()), allowed));
        }
        let texts = items.iter().map(|item| match &item.value {
            Value::Text(text) => Ok(text.as_str()),
            other => Err(self.wrong(key, format!("{} in the array", other.kind()), allowed)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// The directory of the scenario: empty for the current one.
    pub fn directory(&self) -> PathBuf {
        self.document.resolve("")
    }

    /// The path of a file, relative to the scenario's directory.
    pub fn file(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(key)?.map(|path| self.document.resolve(path)))
    }

    /// A table.
    pub fn section(&self, key: &'static str) -> Result<Option<Section<'a>>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Node { origin, value: Value::Table(table) }) => {
                Ok(Some(Section::new(self.document, self.path_of(key), table, *origin)))
            }
            Some(other) => Err(self.wrong(key, other.value.kind(), "a table")),
        }
    }

    /// Some tables; none if the key is missing.
    pub fn sections(&self, key: &'static str) -> Result<Vec<Section<'a>>, ConfigError> {
        let allowed = "an array of tables";
        let items = match self.get(key).map(|node| &node.value) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(key, other.kind(), allowed)),
        };
        let tables = items.iter().enumerate().map(|(n, item)| match &item.value {
            Value::Table(table) => {
                let path = format!("{}.{n}", self.path_of(key));
                Ok(Section::new(self.document, path, table, item.origin))
            }
            other => Err(self.wrong(key, other.kind(), allowed)),
        });
        tables.collect()
    }

    /// Refuses a missing key.
    pub fn need<T>(
        &self,
        key: &'static str,
        value: Option<T>,
        allowed: &str,
    ) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.wrong(key, "missing", allowed))
    }

    /// Whether a key holds a table.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        matches!(self.get(key), Some(Node { value: Value::Table(_), .. }))
    }

    /// Refuses keys that nobody asked for.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let Some((key, node)) = self.table.iter().find(|(key, _)| !asked.contains(&key.as_str()))
        else {
            return Ok(());
        };
        Err(ConfigError {
            file: self.document.file().to_owned(),
            origin: Some(node.origin),
            key: self.path_of(key),
            problem: "unknown key".to_owned(),
            allowed: asked.join(", "),
        })
    }

    /// A mistake in the value of `key`.
    pub fn wrong(
        &self,
        key: &'static str,
        problem: impl Display,
        allowed: impl Display,
    ) -> ConfigError {
        ConfigError {
            file: self.document.file().to_owned(),
            origin: Some(self.table.get(key).map_or(self.origin, |node| node.origin)),
            key: self.path_of(key),
            problem: problem.to_string(),
            allowed: allowed.to_string(),
        }
    }

    fn get(&self, key: &'static str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
