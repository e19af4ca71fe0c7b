//! The sandbox, from outside: real programs, as root and as an ordinary user.
//!
//! Not the usual test harness, because the launcher is this very program, started again: `main`
//! has to look for that first. Each case is listed twice: `user::` runs as an ordinary user
//! (`nobody`, where this is root), and `root::` is skipped where this is not root. Each runs in a
//! process of its own, so that it can count its children.
#![allow(missing_docs, clippy::unwrap_used)]

mod ends;
mod hostile;
mod inputs;
mod mesh;
mod outputs;
mod sees;
mod world;

use std::os::unix::process::CommandExt;
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

/// One case: a name and what it does.
type Case = (&'static str, fn());

const NOBODY: u32 = 65534;

/// The argument in front of the name of the one case to do here and now.
const CASE: &str = "--case";

fn main() {
    mesh_node::exec::run_launcher_if_asked();
    let cases =
        [sees::CASES, inputs::CASES, outputs::CASES, ends::CASES, mesh::CASES, hostile::CASES]
            .concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [ends::VICTIM] => return ends::be_the_victim(),
        [CASE, wanted] => {
            let case = cases.iter().find(|(name, _)| *name == wanted);
            return case.expect("a case of that name").1();
        }
        _ => {}
    }
    let root = rustix::process::geteuid().is_root();
    let mut trials = Vec::new();
    for (name, _) in cases {
        let as_root = move || run(name, None);
        let as_user = move || run(name, root.then_some(NOBODY));
        trials.push(Trial::test(format!("root::{name}"), as_root).with_ignored_flag(!root));
        trials.push(Trial::test(format!("user::{name}"), as_user));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Does one case in a process of its own, as this user or another.
fn run(name: &str, user: Option<u32>) -> Result<(), Failed> {
    let mut command = Command::new("/proc/self/exe");
    command.args([CASE, name]).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user).env_remove("TMPDIR");
    }
    let output = command.output()?;
    if output.status.success() {
        // Names of what was checked.
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\n{errors}", output.status).into())
}
