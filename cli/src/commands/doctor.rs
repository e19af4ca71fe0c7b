//! `mesh doctor`

use mesh_node::doctor::{Check, Status, probe};

use super::print_line;
use crate::args::JsonArgs;
use crate::error::CliError;
use crate::exit;

pub(crate) fn run(args: &JsonArgs) -> Result<(), CliError> {
    let checks = probe();
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
        count => Err(CliError::new(exit::UNAVAILABLE, format_args!("{count} checks failed"))),
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
