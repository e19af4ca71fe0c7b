//! The parsed document: values that remember their lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::section::Section;
use crate::limits::SCENARIO_BYTES_MAX;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// A scenario file, with overrides.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    directory: PathBuf,
    root: BTreeMap<String, Node>,
    fingerprint: u64,
    /// Shared by the many copies that a sweep makes.
    text: Arc<str>,
    settings: Vec<String>,
}

impl Document {
    /// Reads a file. Paths inside are relative to its directory.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display();
        let size = std::fs::metadata(path).map_err(|e| ConfigError::file(&file, e))?.len();
        if size > SCENARIO_BYTES_MAX {
            return Err(ConfigError::file(&file, "larger than it may be (1 MiB)"));
        }
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::file(&file, e))?;
        Self::parse(&text, &file.to_string(), path.parent().unwrap_or(Path::new("")))
    }

    /// Parses `text`; `file` is what errors call it.
    pub fn parse(text: &str, file: &str, directory: &Path) -> Result<Self, ConfigError> {
        let lines = Lines(text);
        let table = DeTable::parse(text).map_err(|error| ConfigError {
            file: file.to_owned(),
            origin: error.span().map(|span| Origin::Line(lines.of(span.start))),
            key: String::new(),
            problem: error.message().to_owned(),
            allowed: String::new(),
        })?;
        let line = |at: usize| Origin::Line(lines.of(at));
        let root = convert_table(table.get_ref(), &line)
            .map_err(|mistake| mistake.located(file, String::new()))?;
        let fingerprint = hash(0xcbf2_9ce4_8422_2325, text);
        Ok(Self {
            file: file.to_owned(),
            directory: directory.to_owned(),
            root,
            fingerprint,
            text: text.into(),
            settings: Vec::new(),
        })
    }

    /// Lays `key=value` over the document. The key is a path whose steps are keys or, in arrays,
    /// positions from 0; the value is TOML, and text where it is not.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(self.bad_override(assignment, "no = in it", "key=value"));
        };
        let (key, value) = (key.trim(), value.trim());
        let node = parse_override(value);
        self.fingerprint = hash(self.fingerprint, assignment);
        match place(&mut self.root, key, node) {
            Ok(()) => {
                self.settings.push(assignment.to_owned());
                Ok(())
            }
            Err((problem, allowed)) => Err(self.bad_override(key, &problem, &allowed)),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was laid over it, in order.
    pub fn settings(&self) -> &[String] {
        &self.settings
    }

    /// The whole document.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, String::new(), &self.root, Origin::Line(1))
    }

    /// A number that changes with the text and the overrides.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What errors call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A path written in the document.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn bad_override(&self, key: &str, problem: &str, allowed: &str) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            origin: Some(Origin::Override),
            key: key.to_owned(),
            problem: problem.to_owned(),
            allowed: allowed.to_owned(),
        }
    }
}

/// FNV-1a: tells changes, not attacks.
fn hash(start: u64, text: &str) -> u64 {
    text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn parse_override(value: &str) -> Node {
    let origin = |_| Origin::Override;
    DeValue::parse(value)
        .ok()
        .and_then(|parsed| convert(parsed.get_ref(), Origin::Override, &origin).ok())
        .unwrap_or_else(|| Node {
            origin: Origin::Override,
            value: Value::Text(value.trim_matches('"').to_owned()),
        })
}

/// Writes `node` at `path`, making tables on the way.
fn place(
    root: &mut BTreeMap<String, Node>,
    path: &str,
    node: Node,
) -> Result<(), (String, String)> {
    let steps: Vec<&str> = path.split('.').collect();
    match steps.as_slice() {
        steps if steps.iter().any(|step| step.is_empty()) => {
            Err(("an empty step".to_owned(), "keys with dots between".to_owned()))
        }
        [first, rest @ ..] => {
            place_below(root.entry((*first).to_owned()).or_insert_with(empty), rest, node)
        }
        [] => Ok(()),
    }
}

fn place_below(at: &mut Node, steps: &[&str], node: Node) -> Result<(), (String, String)> {
    let [step, rest @ ..] = steps else {
        *at = node;
        return Ok(());
    };
    if !matches!(at.value, Value::Table(_) | Value::Array(_)) {
        // A plain value makes room for a table: `speed` may become `speed.distribution`.
        *at = empty();
    }
    match &mut at.value {
        Value::Array(items) => {
            let allowed = format!("0 to {}", items.len().saturating_sub(1));
            let item = step.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            place_below(item.ok_or_else(|| (format!("no item {step}"), allowed))?, rest, node)
        }
        Value::Table(table) => {
            place_below(table.entry((*step).to_owned()).or_insert_with(empty), rest, node)
        }
        _ => Ok(()),
    }
}

fn empty() -> Node {
    Node { origin: Origin::Override, value: Value::Table(BTreeMap::new()) }
}

/// A value that this format does not use.
struct Mistake {
    origin: Origin,
    path: Vec<String>,
    problem: &'static str,
}

impl Mistake {
    fn below(mut self, step: impl ToString) -> Self {
        self.path.insert(0, step.to_string());
        self
    }

    fn located(self, file: &str, allowed: String) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            origin: Some(self.origin),
            key: self.path.join("."),
            problem: self.problem.to_owned(),
            allowed,
        }
    }
}

fn convert_table(
    table: &DeTable<'_>,
    line: &dyn Fn(usize) -> Origin,
) -> Result<BTreeMap<String, Node>, Mistake> {
    table
        .iter()
        .map(|(key, value)| {
            // The line of the key: what a table header opens begins there.
            let origin = line(key.span().start);
            let node =
                convert(value.get_ref(), origin, line).map_err(|m| m.below(key.get_ref()))?;
            Ok((key.get_ref().to_string(), node))
        })
        .collect()
}

fn convert(
    value: &DeValue<'_>,
    origin: Origin,
    line: &dyn Fn(usize) -> Origin,
) -> Result<Node, Mistake> {
    let wrong = |problem| Mistake { origin, path: Vec::new(), problem };
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.map_err(|_| wrong("does not fit into 64 bits"))?)
        }
        DeValue::Float(number) => {
            Value::Float(number.as_str().parse().map_err(|_| wrong("not a number"))?)
        }
        DeValue::Datetime(_) => return Err(wrong("a date, which no key takes")),
        DeValue::Table(table) => Value::Table(convert_table(table, line)?),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(n, item)| {
                convert(item.get_ref(), line(item.span().start), line).map_err(|m| m.below(n))
            });
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { origin, value })
}

struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn of(&self, byte: usize) -> usize {
        self.0.as_bytes().iter().take(byte).filter(|&&b| b == b'\n').count() + 1
    }
}
