//! `mesh doctor`

use std::path::PathBuf;

use mesh_cli::frontend::{Tool, tool_names_in};
use mesh_node::doctor::{Check, Status, probe};

use super::print_line;
use crate::args::JsonArgs;
use crate::error::CliError;
use crate::exit;

pub(crate) fn run(args: &JsonArgs) -> Result<(), CliError> {
    let mut checks = probe();
    checks.extend([compilers(), opens(), paths()]);
    for check in &checks {
        if args.json {
            print_line(serde_json::json!({
                "name": check.name,
                "status": word(check.status),
                "detail": check.detail,
                "hint": check.hint,
            }))?;
        } else {
            print_line(line(check))?;
        }
    }
    match checks.iter().filter(|check| check.status == Status::Broken).count() {
        0 => Ok(()),
        1 => Err(CliError::new(exit::UNAVAILABLE, "1 check failed")),
        count => Err(CliError::new(exit::UNAVAILABLE, format_args!("{count} checks failed"))),
    }
}

/// The tools that a build can hand over.
fn compilers() -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = tool_names_in(&directories);
    let has_compiler = found.iter().any(|name| Tool::of(name).is_some_and(Tool::is_compiler));
    Check {
        name: "modelled tools".to_owned(),
        status: if has_compiler { Status::Works } else { Status::Limited },
        detail: if found.is_empty() { "none in PATH".to_owned() } else { found.join(" ") },
        hint: if has_compiler { "" } else { "install a compiler: apt-get install gcc" },
    }
}

/// Can a lazy build be watched?
fn opens() -> Check {
    let works = crate::build::can_watch_opens();
    Check {
        name: "watching builds".to_owned(),
        status: if works { Status::Works } else { Status::Limited },
        detail: if works { "builds are lazy" } else { "builds are eager" }.to_owned(),
        hint: match works {
            true => "",
            false => {
                "the kernel (5.0 or newer) has to allow seccomp user notification; inside of \
                      another mesh build it is taken"
            }
        },
    }
}

/// Can tools be interposed that a build calls by their absolute paths?
fn paths() -> Check {
    let works = crate::build::can_bind();
    Check {
        name: "tools called by path".to_owned(),
        status: if works { Status::Works } else { Status::Limited },
        detail: if works { "interposed like others" } else { "run here" }.to_owned(),
        hint: if works { "" } else { "the user needs mount namespaces: docs/build.md" },
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Works => "works",
        Status::Limited => "limited",
        Status::Broken => "broken",
    }
}

fn line(check: &Check) -> String {
    let hint =
        if check.hint.is_empty() { String::new() } else { format!("\n         {}", check.hint) };
    format!("{:7}  {}: {}{hint}", word(check.status), check.name, check.detail)
}
