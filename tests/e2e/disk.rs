//! A store on a disk that becomes full.

use std::path::Path;
use std::process::Command;

use mesh_tests::{Finished, Mesh, Project, With, binary, finished, skip};

/// Runs a script where a file system may be mounted that nobody else sees; `None` if this machine
/// allows none.
fn with_own_mounts(
    project: &Project,
    home: &Path,
    size_kib: u64,
    script: &str,
) -> Option<Finished> {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let how: &[&str] = if is_root { &["-m"] } else { &["-U", "-r", "-m"] };
    let script = format!(
        "mount -t tmpfs -o size={size_kib}k tmpfs \"$MESH_HOME\" || exit {CANNOT}\n{script}"
    );
    let mut command = project.command("unshare");
    command.args(how).args(["sh", "-uc", &script]);
    command.env("MESH_HOME", home).env("MESH", binary()).env("REPORT", project.report_path());
    let output = command.output().unwrap();
    let finished = finished(output);
    match finished.code {
        Some(CANNOT) | None => None,
        // unshare's own trouble.
        Some(1) if finished.stderr.starts_with("unshare:") => None,
        _ => Some(finished),
    }
}

const CANNOT: i32 = 99;

/// A build on the full disk, then the store's state and the build with more room.
const SCRIPT: &str = r#"
"$MESH" build --report "$REPORT" -- make plain cxx 2> ../said > /dev/null
echo "full $?"
grep -qiE 'no space left|disk is full' ../said "$REPORT" && echo named || echo hidden
mount -o remount,size=1g "$MESH_HOME"
"$MESH" store verify >> ../said 2>&1; echo "verify $?"
"$MESH" build -- make plain cxx > /dev/null 2>> ../said; echo "again $?"
cat ../said "$REPORT" >&2
"#;

fn size_kib(path: &Path) -> u64 {
    let asked = Command::new("du").args(["-sk", "--apparent-size"]).arg(path).output().unwrap();
    let text = String::from_utf8(asked.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_full_disk_is_named_and_leaves_a_good_store() {
    let project = Project::own("corner");
    let plain = project.build(With::Plain, "make plain cxx").ok().snapshot;
    let roomy = Mesh::new();
    project.reset();
    project.build(With::Lazy(&roomy), "make plain cxx").ok();
    let needed = size_kib(roomy.home());
    for percent in [2, 25, 40] {
        project.reset();
        let mesh = Mesh::new();
        let Some(done) = with_own_mounts(&project, mesh.home(), needed * percent / 100, SCRIPT)
        else {
            return skip::unable("no file system can be mounted here");
        };
        let context = format!("{percent} % of {needed} KiB: {done:#?}");
        let lines: Vec<&str> = done.stdout.lines().collect();
        // Whether the build does without the store or gives up, it says why.
        assert!(["full 0", "full 2", "full 73"].contains(&lines[0]), "{context}");
        assert_eq!(lines[1..], ["named", "verify 0", "again 0"], "{context}");
        plain.differences(&project.snapshot(), &[]).assert_none(context);
    }
}
