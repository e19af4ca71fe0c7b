//! `tests/bench` still works. What it measures is nobody's business here.

use std::path::Path;
use std::process::{Command, Stdio};

use mesh_tests::{binary, skip, target};
use serde_json::Value;

fn bench(arguments: &[&str], json: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    let mut command = Command::new(script);
    command.arg("--mesh").arg(binary()).arg("--json").arg(json).args(arguments);
    let output = command.env("CARGO_TARGET_DIR", target()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}", output.status);
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

#[test]
fn calls_and_opens_are_measured() {
    let place = tempfile::tempdir().unwrap();
    let json = place.path().join("figures.json");
    let found = bench(&["--rounds", "1", "--count", "3", "call", "opens"], &json);
    let results = found["results"].as_array().unwrap();
    let keys: Vec<&str> = results.iter().map(|result| result["key"].as_str().unwrap()).collect();
    for key in ["call.mesh", "call.mesh.cpu", "call.true", "opens.mesh", "opens"] {
        assert!(keys.contains(&key), "no {key} in {keys:?}");
    }
    if !keys.contains(&"call.ccache") {
        skip::missing("ccache is not installed; nothing was compared with it");
    }
    assert!(results.iter().all(|result| result["value"].is_number()), "{results:?}");
    assert!(found["machine"].as_str().is_some_and(|machine| !machine.is_empty()));
}
