//! What comes with a variable of `mesh run --env`: the files that it names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesh_tests::{Finished, Mesh, finished, skip};

/// A home, and a directory to work in.
struct Place {
    mesh: Mesh,
    directory: tempfile::TempDir,
}

/// What a command said with variables of its own, without mesh and with it.
struct Said {
    plain: String,
    mesh: String,
}

impl Place {
    fn new() -> Self {
        Self { mesh: Mesh::new(), directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, variables: &[(&str, &str)], options: &[&str], words: &[&str]) -> Finished {
        let mut command = self.mesh.command(["run"]);
        for (name, value) in variables {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.args(options).arg("--").args(words);
        finished(command.current_dir(self.directory.path()).output().unwrap())
    }

    /// Runs a command that reads `in`.
    #[track_caller]
    fn said(&self, variables: &[(&str, &str)], words: &[&str]) -> Said {
        let mut plain = Command::new(words[0]);
        plain.args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin");
        plain.envs(variables.iter().copied()).current_dir(self.directory.path());
        self.write("in", "é\nZ\n");
        let mesh = self.run(variables, &["-q", "-i", "in"], words);
        assert_eq!((mesh.code, mesh.stderr.as_str()), (Some(0), ""), "{variables:?} {words:?}");
        Said { plain: text(plain.output().unwrap()), mesh: mesh.stdout }
    }

    /// A command that says the same with mesh as without, and not what it says without variables.
    #[track_caller]
    fn matters(&self, variables: &[(&str, &str)], words: &[&str]) {
        let (with, without) = (self.said(variables, words), self.said(&[], words));
        assert_eq!(with.mesh, with.plain, "{variables:?} {words:?}");
        assert_ne!(with.mesh, without.mesh, "{variables:?} make no difference to {words:?}");
    }
}

#[track_caller]
fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A time zone of one offset (RFC 8536, version 1).
fn zone(offset_s: i32, name: &str) -> Vec<u8> {
    let mut file = b"TZif".to_vec();
    file.extend([0; 16]);
    for count in [0, 0, 0, 0, 1, name.len() as u32 + 1] {
        file.extend(count.to_be_bytes());
    }
    file.extend(offset_s.to_be_bytes());
    file.extend([0, 0]);
    file.extend(name.bytes().chain([0]));
    file
}

const DATE: &[&str] = &["date", "-d", "@1700000000", "+%F %T %Z"];

#[test]
fn a_time_zone_brings_its_rules() {
    let place = Place::new();
    let file = place.write("zones/Mars/Base", zone(37 * 60, "MST"));
    let (file, zones) = (file.to_str().unwrap(), place.directory.path().join("zones"));
    let colon = format!(":{file}");
    place.matters(&[("TZ", file)], DATE);
    place.matters(&[("TZ", &colon)], DATE);
    place.matters(&[("TZ", "Mars/Base"), ("TZDIR", zones.to_str().unwrap())], DATE);
    place.matters(&[("TZ", ":Mars/Base"), ("TZDIR", "zones")], DATE);
    // What names no file is a rule, or nothing at all.
    place.matters(&[("TZ", "CET-1CEST")], DATE);
    let nowhere = place.said(&[("TZ", "Mars/Nowhere")], DATE);
    assert_eq!(nowhere.mesh, nowhere.plain);
    // Other rules are another input.
    fs::write(file, zone(7200, "NEW")).unwrap();
    assert_eq!(place.said(&[("TZ", file)], DATE).mesh, "2023-11-15 00:13:20 NEW\n");
    if !Path::new("/usr/share/zoneinfo/Europe/Berlin").exists() {
        return skip::missing("no time zones are installed (tzdata)");
    }
    place.matters(&[("TZ", "Europe/Berlin")], DATE);
    place.matters(&[("TZ", ":Asia/Tokyo")], DATE);
    let empty = place.said(&[("TZ", "")], DATE);
    assert_eq!(empty.mesh, empty.plain);
}

#[test]
fn a_locale_brings_its_files() {
    let place = Place::new();
    let installed = Path::new("/usr/lib/locale/C.utf8");
    if !installed.is_dir() {
        return skip::missing("no C.UTF-8 locale is installed");
    }
    let count = ["wc", "-m", "in"];
    for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
        place.matters(&[(name, "C.UTF-8")], &count);
    }
    place.matters(&[("LC_ALL", "C.UTF-8"), ("LANG", "C")], &count);
    for (name, value) in [("LC_ALL", "C"), ("LC_ALL", "POSIX"), ("LANG", "xx_XX.UTF-8")] {
        let said = place.said(&[(name, value)], &count);
        assert_eq!(said.mesh, said.plain, "{name}={value}");
    }
    let own = place.directory.path().join("locales");
    fs::create_dir(&own).unwrap();
    let copied = Command::new("cp").arg("-r").arg(installed).arg(own.join("xx_YY.utf8")).status();
    assert!(copied.unwrap().success());
    let own = own.to_str().unwrap();
    place.matters(&[("LOCPATH", own), ("LC_ALL", "xx_YY.UTF-8")], &count);
}

#[test]
fn search_paths_bring_what_is_in_them() {
    let place = Place::new();
    place.write("python/answer.py", "value = 42\n");
    place.write("perl/Answer.pm", "package Answer; sub value { 43 } 1;\n");
    let python = ["python3", "-c", "import answer; print(answer.value)"];
    let perl = ["perl", "-MAnswer", "-e", "print Answer::value()"];
    for (variable, directory, words, answer) in
        [("PYTHONPATH", "python", &python[..], "42\n"), ("PERL5LIB", "perl", &perl[..], "43")]
    {
        let absolute = place.directory.path().join(directory);
        let both = format!("/no/such/place:{}", absolute.display());
        for value in [directory, &both] {
            let said = place.said(&[(variable, value)], words);
            assert_eq!((said.mesh.as_str(), said.plain.as_str()), (answer, answer));
        }
    }
}

#[test]
fn the_loader_finds_the_libraries_that_it_is_told_of() {
    let place = Place::new();
    place.write("main.c", "int f(void); int main(void) { return f(); }\n");
    for (directory, value) in [("first", 1), ("second", 2)] {
        place.write(&format!("{directory}.c"), format!("int f(void) {{ return {value}; }}\n"));
        fs::create_dir(place.directory.path().join(directory)).unwrap();
    }
    let build = "gcc -shared -fPIC -o first/libf.so first.c && gcc -shared -fPIC -o second/libf.so second.c \
                 && gcc -o main main.c -Lfirst -lf -Wl,-rpath,$PWD/first && gcc -o bare main.c -Lfirst -lf";
    let built = Command::new("sh").args(["-c", build]).current_dir(&place.directory).status();
    assert!(built.unwrap().success());
    let code = |variables: &[(&str, &str)], program| {
        let done = place.run(variables, &["-q"], &[program]);
        assert_eq!(done.stderr, "", "{variables:?} {program}");
        done.code
    };
    let second = place.directory.path().join("second");
    let library = second.join("libf.so");
    assert_eq!(code(&[], "./main"), Some(1));
    assert_eq!(code(&[("LD_LIBRARY_PATH", "second")], "./main"), Some(2));
    assert_eq!(code(&[("LD_LIBRARY_PATH", second.to_str().unwrap())], "./bare"), Some(2));
    assert_eq!(code(&[("LD_PRELOAD", library.to_str().unwrap())], "./main"), Some(2));
    let both = [("LD_PRELOAD", "libf.so"), ("LD_LIBRARY_PATH", "second:first")];
    assert_eq!(code(&both, "./main"), Some(2));
}

#[test]
fn what_a_variable_names_and_nothing_brings_is_told() {
    let place = Place::new();
    let settings = place.write("settings", "x");
    let settings = settings.to_str().unwrap();
    let variables = [("SETTINGS", settings), ("LIST", &format!("/tmp:{settings}"))];
    let done = place.run(&variables, &[], &["true"]);
    for variable in ["SETTINGS", "LIST"] {
        let line = format!(
            "mesh: {variable} names {settings}, which the command cannot see; -i {settings} gives it\n"
        );
        assert_eq!(done.stderr.matches(&line).count(), 1, "{done:?}");
    }
    let given = place.run(&variables, &["-i", "settings"], &["true"]);
    assert!(!given.stderr.contains("cannot see"), "{given:?}");
    let nowhere =
        place.run(&[("A", "/no/such/file"), ("B", "/dev/null"), ("C", "/")], &[], &["true"]);
    assert!(!nowhere.stderr.contains("cannot see"), "{nowhere:?}");
}
