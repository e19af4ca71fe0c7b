//! The unit's text, as a pure function of what it is to run (systemd.unit(5), systemd.service(5)).

use std::path::{Path, PathBuf};

use mesh_protocol::limits;

use crate::exit;

/// The first line, by which a unit of ours is known.
pub(super) const MARK: &str = "# Written by mesh service install; changes go into mesh.service.d/";

/// Beyond what a node takes to hand back what it has, before it is killed.
const STOP_MARGIN_S: u64 = 15;

/// What a unit runs.
pub(super) struct Unit<'a> {
    pub(super) program: &'a Path,
    pub(super) environment: &'a [(&'static str, PathBuf)],
}

/// A path that is no text, or has a control character in it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Unwritable(pub(super) PathBuf);

impl Unit<'_> {
    pub(super) fn text(&self) -> Result<String, Unwritable> {
        let program = quoted("", self.program)?;
        let variables = self.environment.iter();
        let variables = variables.map(|(name, path)| {
            Ok(format!("Environment={}\n", quoted(&format!("{name}="), path)?))
        });
        let variables = variables.collect::<Result<String, _>>()?;
        let stop_s = limits::DRAIN_US / 1_000_000 + STOP_MARGIN_S;
        let hopeless = [exit::USAGE, exit::DATA, exit::NOT_FOUND].map(|code| code.to_string());
        let hopeless = hopeless.join(" ");
        Ok(format!(
            "{MARK}
[Unit]
Description=mesh: runs thunks of other members, and this user's builds on them

[Service]
# The colon: nothing in the path is a variable.
ExecStart=:{program} join
{variables}\
# A wrong setting or a missing membership does not heal by itself.
Restart=on-failure
RestartSec=30
RestartPreventExitStatus={hopeless}
# It hands back what it runs; only then are sandboxes that are left killed.
KillMode=mixed
TimeoutStopSec={stop_s}
# Groups for sandboxes, so that the memory of each is bounded; the node itself in one beside them.
Delegate=memory pids
DelegateSubgroup=node
# A thunk that takes too much ends alone, and before what the user runs.
OOMPolicy=continue
OOMScoreAdjust=500
# Nothing here takes away user namespaces, which sandboxes are made of, or system calls of builds:
# PrivateUsers, RestrictNamespaces, ProtectSystem and the like would.
NoNewPrivileges=yes
RestrictRealtime=yes
LimitCORE=0

[Install]
WantedBy=default.target
"
        ))
    }
}

/// A word in which nothing is special any more.
fn quoted(before: &str, path: &Path) -> Result<String, Unwritable> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| Unwritable(path.to_owned()))?;
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    Ok(format!("\"{before}{escaped}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(program: &str, home: &str) -> Result<String, Unwritable> {
        let environment = [("MESH_HOME", PathBuf::from(home))];
        Unit { program: Path::new(program), environment: &environment }.text()
    }

    #[test]
    fn a_unit_says_what_runs_and_how_it_ends() {
        let text = unit("/usr/bin/mesh", "/home/a/mesh").unwrap();
        for line in [
            "ExecStart=:\"/usr/bin/mesh\" join",
            "Environment=\"MESH_HOME=/home/a/mesh\"",
            "RestartPreventExitStatus=64 65 66",
            "TimeoutStopSec=45",
            "WantedBy=default.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.starts_with(MARK));
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        let text = unit("/opt/100% \"m\\esh\"/$mesh", "/a b").unwrap();
        assert!(text.contains("ExecStart=:\"/opt/100%% \\\"m\\\\esh\\\"/$mesh\" join\n"), "{text}");
        assert!(text.contains("Environment=\"MESH_HOME=/a b\"\n"), "{text}");
        assert_eq!(unit("/a\nExecStart=/b", "/c"), Err(Unwritable("/a\nExecStart=/b".into())));
    }
}
