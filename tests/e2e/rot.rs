//! Objects that rotted on the disk: their length and times are as they were, a byte is not.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mesh_tests::{Mesh, Project, With, finished};

/// The files of objects, or of what was made of them.
fn objects(mesh: &Mesh, top: &str) -> Vec<PathBuf> {
    let below = |directory: &Path| {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let fan_out = below(&mesh.home().join("store").join(top));
    fan_out.iter().flat_map(|directory| below(directory)).collect()
}

/// Flips a byte in the middle; whoever looks at lengths and times sees nothing. Empty ones stay.
fn rot(path: &Path) {
    let before = fs::metadata(path).unwrap();
    if before.len() == 0 {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], before.len() / 2);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let times = FileTimes::new().set_accessed(before.accessed().unwrap());
    file.set_times(times.set_modified(before.modified().unwrap())).unwrap();
    fs::set_permissions(path, before.permissions()).unwrap();
}

fn project() -> Project {
    let makefile = "all: program\n\
                    part.a: one.o two.o\n\tar rcs $@ $^\n\
                    program: main.o part.a\n\t$(CC) -o $@ $^\n\
                    %.o: %.c part.h\n\t$(CC) -O1 -c -o $@ $<\n";
    let main = "#include \"part.h\"\nint main(void) { return one() + two() - 3; }\n";
    Project::made([
        ("Makefile", makefile),
        ("part.h", "int one(void);\nint two(void);\n"),
        ("one.c", "#include \"part.h\"\nint one(void) { return 1; }\n"),
        ("two.c", "#include \"part.h\"\nint two(void) { return 2; }\n"),
        ("main.c", main),
    ])
}

const BUILD: &str = "make -j2";

/// Outputs that a full memo gives out.
#[test]
fn builds_notice_rotten_outputs_and_make_them_again() {
    let project = project();
    let plain = project.build(With::Plain, BUILD).ok().snapshot;
    for is_eager in [false, true] {
        let mesh = Mesh::new();
        let with = if is_eager { With::Eager(&mesh) } else { With::Lazy(&mesh) };
        project.reset();
        project.build(with, BUILD).ok();
        for output in ["one.o", "part.a", "program"] {
            let path = project.directory().join(output);
            let name = mesh.ok(["put".as_ref(), path.as_os_str()]);
            let name = name.split_whitespace().next().unwrap();
            rot(&mesh.home().join("store/blobs").join(&name[1..3]).join(&name[3..]));
        }
        project.reset();
        let again = project.build(with, BUILD).ok();
        plain.differences(&again.snapshot, &[]).assert_none(&again.finished.stderr);
        assert!(again.finished.stderr.contains("were damaged"), "{:?}", again.finished);
        mesh.ok(["store", "verify"]);
        project.reset();
        let healed = project.build(with, BUILD).ok();
        plain.differences(&healed.snapshot, &[]).assert_none(&healed.finished.stderr);
        let report = healed.report.unwrap();
        assert_eq!((report.executed, report.local.len()), (0, 0), "all of it is in the memo again");
    }
}

/// Headers, programs, trees, thunks, what was printed: nothing of it is trusted.
#[test]
fn a_build_is_right_with_all_of_its_store_rotten() {
    let project = project();
    let plain = project.build(With::Plain, BUILD).ok().snapshot;
    for is_eager in [false, true] {
        let mesh = Mesh::new();
        let with = if is_eager { With::Eager(&mesh) } else { With::Lazy(&mesh) };
        project.reset();
        project.build(with, BUILD).ok();
        let all = ["blobs", "exec"].map(|top| objects(&mesh, top)).concat();
        assert!(all.len() > 20, "{all:?}");
        all.iter().for_each(|path| rot(path));
        project.reset();
        let again = project.build(with, BUILD).ok();
        plain.differences(&again.snapshot, &[]).assert_none(&again.finished.stderr);
    }
}

/// A job reads the files of the store themselves: they are checked before it begins.
#[test]
fn jobs_never_read_a_rotten_input() {
    let mesh = Mesh::new();
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("input"), "x".repeat(300_000)).unwrap();
    let run = || {
        let words = ["run", "-i", "input", "-i", "/usr/bin/cksum", "--", "sh", "-c", "cksum input"];
        finished(mesh.command(words).current_dir(place.path()).output().unwrap())
    };
    let expected = run();
    assert_eq!(expected.code, Some(0), "{expected:?}");
    for top in ["blobs", "exec"] {
        // Without the memo, so that it runs.
        objects(&mesh, top).iter().for_each(|path| rot(path));
        fs::remove_file(mesh.home().join("store/log")).unwrap();
        let again = run();
        let is_right = again.code == Some(0) && again.stdout == expected.stdout;
        assert!(is_right || again.code != Some(0), "{again:?}");
    }
    // Whatever it met is gone by and by, and it runs.
    let mut again = run();
    for _ in 0..objects(&mesh, "blobs").len() {
        if again.code == Some(0) {
            break;
        }
        again = run();
    }
    assert_eq!((again.code, &again.stdout), (Some(0), &expected.stdout), "{again:?}");
}

#[test]
fn nothing_rotten_is_printed_or_exported() {
    let mesh = Mesh::new();
    for length in [10, 3_000_000] {
        let name = mesh.run_with(["put", "-"], &vec![b'a'; length]).ok();
        let path = mesh.home().join("store/blobs").join(&name[1..3]).join(&name[3..]);
        let to = mesh.home().join("exported");
        rot(&path);
        let got = mesh.run(["get".as_ref(), name.as_ref(), to.as_os_str()]);
        assert!(got.code != Some(0) && !to.exists(), "{got:?}");
        let name = mesh.run_with(["put", "-"], &vec![b'a'; length]).ok();
        rot(&path);
        let printed = mesh.run(["cat", &name]);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{}", printed.stderr);
    }
}
