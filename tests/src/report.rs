//! What `mesh build --report FILE` writes.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The figures of one build.
#[derive(Clone, Debug)]
pub struct Report {
    /// Calls that became thunks, each thunk counted once.
    pub thunks: u64,
    /// Thunks that ran.
    pub executed: u64,
    /// Thunks whose result was remembered.
    pub reused: u64,
    /// Thunks that failed.
    pub failed: u64,
    /// Calls that ran as if mesh were absent.
    pub local: Vec<Local>,
    /// The whole of it.
    pub json: Value,
}

/// A call that did not become a thunk.
#[derive(Clone, Debug)]
pub struct Local {
    /// The call's words.
    pub argv: Vec<String>,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Reads the report at `path`.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("no report {}: {error}", path.display()));
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let count =
            |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("no count {key} in {json}"));
        let local = json["local"].as_array().unwrap_or_else(|| panic!("no local in {json}"));
        Self {
            thunks: count("thunks"),
            executed: count("executed"),
            reused: count("reused"),
            failed: count("failed"),
            local: local.iter().map(Local::of).collect(),
            json,
        }
    }

    /// The reasons for local calls, one a line, for messages.
    pub fn reasons(&self) -> String {
        let lines = self.local.iter().map(|l| format!("{}: {}", l.argv.join(" "), l.reason));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Local {
    fn of(json: &Value) -> Self {
        let words = json["argv"].as_array().unwrap_or_else(|| panic!("no argv in {json}"));
        let word = |word: &Value| word.as_str().unwrap_or_default().to_owned();
        Self { argv: words.iter().map(word).collect(), reason: word(&json["reason"]) }
    }
}
