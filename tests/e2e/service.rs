//! The systemd unit, with a systemctl that writes down what it is asked, and with none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mesh_tests::{Finished, Mesh, binary, finished};

struct User {
    mesh: Mesh,
    place: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        Self { mesh: Mesh::new(), place }
    }

    fn unit(&self) -> PathBuf {
        self.place.path().join("config/systemd/user/mesh.service")
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.place.path().join("asked")).unwrap_or_default()
    }

    fn has_systemctl(&self) {
        let program = self.place.path().join("bin/systemctl");
        let asked = self.place.path().join("asked");
        fs::write(&program, format!("#!/bin/sh\necho \"$*\" >> {}\n", asked.display())).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn service(&self, arguments: &[&str]) -> Finished {
        let mut command = self.mesh.command(["service"].iter().chain(arguments));
        command.env("XDG_CONFIG_HOME", self.place.path().join("config"));
        command.env("PATH", self.place.path().join("bin"));
        finished(command.output().unwrap())
    }
}

#[test]
fn a_unit_is_written_shown_and_removed() {
    let user = User::new();
    let printed = user.service(&["install", "--print"]);
    assert_eq!(printed.stderr, "");
    assert!(!user.unit().exists(), "--print writes nothing");
    let unit = printed.ok();
    let home = user.mesh.home().display();
    for line in [
        format!("ExecStart=:\"{}\" join", binary().display()),
        format!("Environment=\"MESH_HOME={home}\""),
        format!("Environment=\"XDG_CONFIG_HOME={}\"", user.place.path().join("config").display()),
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    let written = user.service(&["install"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert_eq!(fs::read_to_string(user.unit()).unwrap().trim_end(), unit);
    for told in ["in no mesh yet", "there is no systemctl here", "enable --now mesh"] {
        assert!(written.stderr.contains(told), "{told}: {written:?}");
    }
    user.mesh.ok(["init"]);
    user.has_systemctl();
    let again = user.service(&["install"]);
    assert_eq!(again.code, Some(0), "its own unit is replaced: {again:?}");
    assert!(again.stderr.contains("systemctl --user enable --now mesh"), "{again:?}");
    assert!(!again.stderr.contains("in no mesh yet"), "{again:?}");
    assert_eq!(user.asked(), "--user daemon-reload\n");
    assert_eq!(user.service(&["uninstall"]).code, Some(0));
    assert!(!user.unit().exists());
    assert!(user.asked().ends_with("disable --now mesh.service\n--user daemon-reload\n"));
    assert_eq!(user.service(&["uninstall"]).code, Some(66));
}

#[test]
fn a_unit_of_somebody_else_stays() {
    let user = User::new();
    user.has_systemctl();
    let foreign = "[Service]\nExecStart=/bin/true\n";
    fs::create_dir_all(user.unit().parent().unwrap_or(Path::new("/"))).unwrap();
    fs::write(user.unit(), foreign).unwrap();
    for action in ["install", "uninstall"] {
        let refused = user.service(&[action]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("is not by mesh service install"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(user.unit()).unwrap(), foreign);
    assert_eq!(user.asked(), "");
}
