//! The report's form, and how it reaches its file.

use serde_json::{Value, json};

use super::*;

fn report() -> Report {
    let summary = Summary {
        thunks: 5,
        executed: 2,
        reused: 2,
        failed: 1,
        retried: 3,
        retries: vec![Retry { reason: "no memory".into(), count: 3 }],
        speculated: 1,
        checked: 3,
        wasted_us: 2_999,
        shares: std::collections::BTreeMap::new(),
        learned: [(None, 1)].into(),
        local: 1,
        elapsed: Duration::from_micros(38_200_900),
        cpu_us: 1_999,
        calls: vec![LocalCall { argv: vec!["sed".into(), "s/a/b/".into()], reason: "why".into() }],
    };
    let peer = Peer {
        peer: Some("ab".into()),
        name: None,
        executed: 2,
        busy_ms: 4,
        bytes_in: 5,
        bytes_out: 6,
    };
    let ahead = Ahead { taken_back: true, ended_because: None };
    Report::new(&summary, vec![peer], Duration::from_millis(7), (11, 13), ahead)
}

fn expected() -> Value {
    json!({
        "thunks": 5, "executed": 2, "reused": 2, "failed": 1,
        "retried": 3, "retries": [{"reason": "no memory", "count": 3}],
        "learned": [{"peer": null, "count": 1}],
        "speculated": 1, "checked": 3, "wasted_ms": 2,
        "ahead": {"taken_back": true, "ended_because": null},
        "peers": [{"peer": "ab", "name": null, "executed": 2, "busy_ms": 4, "bytes_in": 5, "bytes_out": 6}],
        "local_count": 1, "local": [{"argv": ["sed", "s/a/b/"], "reason": "why"}],
        "wall_ms": 38_200, "cpu_ms": 1, "infer_ms": 7, "bytes_in": 11, "bytes_out": 13,
    })
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_report_replaces_the_last_one_and_leaves_nothing_beside() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("report.json");
    fs::write(&path, "an older one").unwrap();
    let old = fs::File::open(&path).unwrap();
    report().write(&path).unwrap();
    assert_eq!(read(&path), expected());
    let before = std::io::read_to_string(old).unwrap();
    assert_eq!(before, "an older one", "whoever had it open keeps the whole old one");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn links_and_devices_stay_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let (file, link) = (place.path().join("file"), place.path().join("link"));
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    report().write(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(read(&file), expected());

    let pipe = place.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || read(&pipe)
    });
    report().write(&pipe).unwrap();
    assert_eq!(reader.join().unwrap(), expected());
}

#[test]
fn an_absent_directory_is_an_error_with_the_path() {
    let place = tempfile::tempdir().unwrap();
    let error = report().write(&place.path().join("absent/report.json")).unwrap_err();
    assert_eq!(error.code(), exit::NOT_FOUND);
}
