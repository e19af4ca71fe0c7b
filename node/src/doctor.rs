//! What this machine lets sandboxes do, and what its owner can do about what it does not.

use std::path::Path;

use rustix::process::Resource;

use crate::exec::engine::sandbox::{self, Probed};

/// How one check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// All is well.
    Works,
    /// Jobs run, with less comfort or weaker bounds.
    Limited,
    /// No job can run in a sandbox.
    Broken,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do about it; empty if there is nothing to do.
    pub hint: &'static str,
}

const NAMESPACES_HINT: &str = "allow user namespaces: sysctl user.max_user_namespaces=15000, \
    kernel.unprivileged_userns_clone=1 (older Debian), \
    kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, run it with a \
    seccomp profile that allows unshare and mount";

/// What all other namespaces need, and what is done in them.
const USER_NAMESPACES: &str = "user namespaces";

const PROC_HINT: &str = "parts of /proc are covered, as in most containers: run the container with \
    --security-opt systempaths=unconfined, or outside of it";

const GROUPS_HINT: &str = "memory and process limits are watched instead of enforced; start mesh in \
    a delegated control group: systemd-run --user --scope -p Delegate=yes mesh …";

/// Looks at everything. The program must call [`crate::exec::run_launcher_if_asked`] first thing
/// in `main`.
pub fn probe() -> Vec<Check> {
    let mut checks = vec![kernel()];
    match sandbox::probe() {
        Ok(probed) => checks.extend(causes(probed.iter().map(check).collect())),
        Err(error) => checks.push(Check {
            name: "sandboxes".to_owned(),
            status: Status::Broken,
            detail: error.to_string(),
            hint: "",
        }),
    }
    checks.extend(control_groups());
    checks.push(descriptors());
    checks
}

/// Without user namespaces nothing else can be tried: one cause is said once.
fn causes(mut checks: Vec<Check>) -> Vec<Check> {
    let is_cause = |check: &Check| check.name == USER_NAMESPACES && check.status == Status::Broken;
    if checks.iter().any(is_cause) {
        checks.retain(|check| check.status == Status::Works || is_cause(check));
    }
    checks
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let old = version < (5, 11);
    Check {
        name: "kernel".to_owned(),
        status: if old { Status::Broken } else { Status::Works },
        detail: release,
        hint: if old { "mesh needs Linux 5.11 or newer" } else { "" },
    }
}

fn check(probed: &Probed) -> Check {
    let (status, detail) = match probed.errno {
        None => (Status::Works, "works".to_owned()),
        Some(errno) => {
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            let text = probed.step.iter().fold(text, |text, step| format!("cannot {step}: {text}"));
            (severity(&probed.name), text)
        }
    };
    let hint = match (status, probed.name.as_str()) {
        (Status::Works, _) => "",
        (_, "a private /proc") => PROC_HINT,
        (_, "overlays") => "trees cannot be laid over each other: load the overlay module",
        (_, "system call filters") => "build the kernel with CONFIG_SECCOMP_FILTER",
        (_, "system call notification") => "placeholders opened by programs cannot be forced",
        (_, "loopback") => "programs cannot talk to themselves over the network",
        (_, "memory scores") => {
            "without memory the kernel may end other programs before it ends those of jobs"
        }
        (_, "a host name" | "host name namespaces") => "jobs see the name of this machine",
        (_, "control group namespaces") => "jobs see what their control group is called",
        (_, "stop being root") => "run mesh as an ordinary user",
        _ => NAMESPACES_HINT,
    };
    Check { name: probed.name.clone(), status, detail, hint }
}

fn severity(name: &str) -> Status {
    match name {
        "loopback"
        | "system call notification"
        | "memory scores"
        | "a host name"
        | "host name namespaces"
        | "control group namespaces" => Status::Limited,
        _ => Status::Broken,
    }
}

/// At least one of the versions has to be there; what is missing beside it does not matter.
fn control_groups() -> Vec<Check> {
    let found = sandbox::survey();
    let works = |part: &str| found.iter().any(|(name, _, works)| *works && name.contains(part));
    let bounded = works("memory") && works("pids");
    if found.is_empty() {
        return vec![Check {
            name: "control groups".to_owned(),
            status: Status::Limited,
            detail: "none are mounted".to_owned(),
            hint: GROUPS_HINT,
        }];
    }
    let check = |(name, place, works): (String, std::path::PathBuf, bool)| {
        let writable = if works { "writable" } else { "not for us" };
        Check {
            name,
            status: if works || bounded { Status::Works } else { Status::Limited },
            detail: format!("{writable}: {}", shown(&place)),
            hint: if works || bounded { "" } else { GROUPS_HINT },
        }
    };
    found.into_iter().map(check).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn descriptors() -> Check {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    // A job has six, and up to 64 more while its outputs are taken.
    let few = soft < 512;
    Check {
        name: "open files".to_owned(),
        status: if few { Status::Limited } else { Status::Works },
        detail: format!("up to {soft}"),
        hint: if few { "raise the limit: ulimit -n 4096" } else { "" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_cause_is_not_said() {
        let check = |name: &str, status| Check {
            name: name.to_owned(),
            status,
            detail: String::new(),
            hint: "",
        };
        let all = |status| vec![check(USER_NAMESPACES, status), check("overlays", Status::Broken)];
        assert_eq!(causes(all(Status::Works)).len(), 2);
        assert_eq!(causes(all(Status::Broken)), [check(USER_NAMESPACES, Status::Broken)]);
    }
}
