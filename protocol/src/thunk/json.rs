//! The JSON form of a thunk: for people, scripts and other languages.
//!
//! It is the [`super::ThunkSpec`] with what is usual left out:
//!
//! ```json
//! { "function": { "executable": "/bin/cp", "arguments": ["cp", "/in", "/out"] },
//!   "inputs":   { "/in": { "source": { "value": "V…" }, "mode": "file" },
//!                 "/lib": "V…", "/bin": { "source": { "output": "T…#bin" }, "mode": "tree" } },
//!   "outputs":  { "out": "/out", "log": { "path": "/log", "required": false } } }
//! ```
//!
//! An input may be a bare name (a file), an output a bare path (required, not dynamic); the
//! working directory is `/`, the limits one core for a day on this platform, unless they are given.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Formatter};
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::spec::{Function, Input, InputMode, Limits, Output, Platform, Source, ThunkSpec};
use super::{Thunk, ThunkError};
use crate::limits;
use crate::name::{ObjectName, OutputRef, Tag};
use crate::path::AbsPath;

/// Why a JSON text is not a thunk.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Not JSON, or not of this form.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// Of this form, but it breaks a rule.
    #[error(transparent)]
    Rule(#[from] ThunkError),
    /// No platform is given, and this machine is none of those that run thunks.
    #[error("limits.platform is not given, and this machine runs no thunks")]
    Platform,
    /// `T…` without the tag of one of its outputs.
    #[error("{0} is a whole thunk: name one output as T…#tag")]
    Untagged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonThunk {
    function: JsonFunction,
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<AbsPath, JsonInput>,
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "BTreeMap::is_empty")]
    symlinks: BTreeMap<AbsPath, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    directories: BTreeSet<AbsPath>,
    #[serde(deserialize_with = "distinct")]
    outputs: BTreeMap<Tag, JsonOutput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<String>,
    #[serde(default)]
    limits: JsonLimits,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFunction {
    executable: AbsPath,
    arguments: Vec<String>,
    #[serde(default, deserialize_with = "distinct", skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    #[serde(default = "AbsPath::root")]
    working_directory: AbsPath,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "an input is a name, or `source` and `mode` and nothing else"
)]
enum JsonInput {
    File(String),
    Full { source: Source, mode: InputMode },
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "an output is a path, or `path`, `required`, `dynamic` and nothing else"
)]
enum JsonOutput {
    Path(AbsPath),
    Full {
        path: AbsPath,
        #[serde(default = "yes")]
        required: bool,
        #[serde(default)]
        dynamic: bool,
    },
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpus: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

fn yes() -> bool {
    true
}

/// Reads a map in which no key stands twice: of two, one would be lost without a word.
fn distinct<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    struct Distinct<K, V>(PhantomData<(K, V)>);

    impl<'de, K, V> Visitor<'de> for Distinct<K, V>
    where
        K: Deserialize<'de> + Ord + Display,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<K, V>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("{key} is given twice")));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Distinct(PhantomData))
}

fn source_of(text: &str) -> Result<Source, JsonError> {
    match text.parse::<ObjectName>().map_err(serde::de::Error::custom) {
        Ok(ObjectName::Value(name)) => Ok(Source::Value(name)),
        Ok(ObjectName::Thunk(thunk, Some(tag))) => Ok(Source::Output(OutputRef { thunk, tag })),
        Ok(ObjectName::Thunk(..)) => Err(JsonError::Untagged(text.to_owned())),
        Err(error) => Err(JsonError::Form(error)),
    }
}

fn text_of(source: &Source) -> String {
    match source {
        Source::Value(name) => name.to_string(),
        Source::Output(output) => output.to_string(),
    }
}

impl Thunk {
    /// Reads the JSON form.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        let json: JsonThunk = serde_json::from_str(text)?;
        Self::from_form(json)
    }

    fn from_form(json: JsonThunk) -> Result<Self, JsonError> {
        let input = |input| match input {
            JsonInput::File(text) => Ok(Input { source: source_of(&text)?, mode: InputMode::File }),
            JsonInput::Full { source, mode } => Ok::<_, JsonError>(Input { source, mode }),
        };
        let inputs = json.inputs.into_iter().map(|(path, given)| Ok((path, input(given)?)));
        let output = |output| match output {
            JsonOutput::Path(path) => Output::required(path),
            JsonOutput::Full { path, required, dynamic } => Output { path, required, dynamic },
        };
        let platform = json.limits.platform.or_else(Platform::host).ok_or(JsonError::Platform)?;
        let spec = ThunkSpec {
            function: Function {
                executable: json.function.executable,
                arguments: json.function.arguments,
                environment: json.function.environment,
                working_directory: json.function.working_directory,
            },
            inputs: inputs.collect::<Result<_, JsonError>>()?,
            symlinks: json.symlinks,
            directories: json.directories,
            outputs: json.outputs.into_iter().map(|(tag, given)| (tag, output(given))).collect(),
            stdin: json.stdin.as_deref().map(source_of).transpose()?,
            limits: Limits {
                timeout_ms: json.limits.timeout_ms.unwrap_or(limits::TIMEOUT_MS_DEFAULT),
                memory_bytes: json.limits.memory_bytes,
                cpus: json.limits.cpus.unwrap_or(1),
                platform,
            },
        };
        Ok(Self::try_from(spec)?)
    }

    /// Writes the JSON form, on one line or on many.
    pub fn to_json(&self, pretty: bool) -> Result<String, JsonError> {
        let spec = self.spec();
        let input = |input: &Input| match input.mode {
            InputMode::File => JsonInput::File(text_of(&input.source)),
            mode => JsonInput::Full { source: input.source.clone(), mode },
        };
        let output = |output: &Output| match (output.required, output.dynamic) {
            (true, false) => JsonOutput::Path(output.path.clone()),
            (required, dynamic) => {
                JsonOutput::Full { path: output.path.clone(), required, dynamic }
            }
        };
        let json = JsonThunk {
            function: JsonFunction {
                executable: spec.function.executable.clone(),
                arguments: spec.function.arguments.clone(),
                environment: spec.function.environment.clone(),
                working_directory: spec.function.working_directory.clone(),
            },
            inputs: spec.inputs.iter().map(|(path, i)| (path.clone(), input(i))).collect(),
            symlinks: spec.symlinks.clone(),
            directories: spec.directories.clone(),
            outputs: spec.outputs.iter().map(|(tag, o)| (tag.clone(), output(o))).collect(),
            stdin: spec.stdin.as_ref().map(text_of),
            limits: JsonLimits {
                timeout_ms: Some(spec.limits.timeout_ms),
                memory_bytes: spec.limits.memory_bytes,
                cpus: Some(spec.limits.cpus),
                platform: Some(spec.limits.platform),
            },
        };
        Ok(if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }?)
    }
}
