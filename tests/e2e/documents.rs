//! What documents say of tests.

use std::fs;
use std::path::Path;

/// Each row of `docs/threats.md` names the tests that try it: a file, and functions in it.
#[test]
fn the_tests_that_the_table_of_threats_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let (mut rows, mut found) = (0, 0);
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let tried = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = tried.split('`').skip(1).step_by(2).collect();
        rows += usize::from(!names.is_empty());
        let mut source = String::new();
        for name in names {
            if name.ends_with(".rs") {
                source = fs::read_to_string(root.join(name)).unwrap_or_else(|_| panic!("{name}"));
            } else {
                assert!(source.contains(&format!("fn {name}(")), "{name}, in the row: {row}");
                found += 1;
            }
        }
    }
    assert!(rows > 20 && found > rows, "{found} tests in {rows} rows");
}
