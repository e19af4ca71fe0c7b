//! `mesh gc`

use std::time::Duration;

use mesh_store::gc::{GcOptions, GcReport};

use super::{print_line, size};
use crate::args::GcArgs;
use crate::config::{self, Config};
use crate::error::CliError;
use crate::home;

/// How long a node that has nothing to do may take to let go of what it used: it looks every two
/// seconds.
const PATIENCE: Duration = Duration::from_secs(6);

pub(crate) fn run(args: &GcArgs) -> Result<(), CliError> {
    let quota_bytes = config::quota(&Config::of_home()?, args.quota).value;
    // Not closed as others close it, which would collect down to the home's own quota.
    let store = home::open_store()?;
    let options = GcOptions { quota_bytes, dry_run: args.dry_run };
    let mut report = store.gc(&options)?;
    let is_enough = report.kept_bytes <= quota_bytes || report.held_bytes == 0;
    if !args.dry_run && !is_enough && store.ask_for_room(PATIENCE)? {
        let more = store.gc(&options)?;
        report = GcReport {
            removed: report.removed + more.removed,
            removed_bytes: report.removed_bytes + more.removed_bytes,
            leftovers: report.leftovers + more.leftovers,
            ..more
        };
    }
    if args.json {
        return print_line(serde_json::json!({
            "removed": report.removed,
            "removed_bytes": report.removed_bytes,
            "kept": report.kept,
            "kept_bytes": report.kept_bytes,
            "held_bytes": report.held_bytes,
            "dry_run": args.dry_run,
        }));
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    print_line(format_args!(
        "{verb} {} objects ({}), kept {} ({}, of which {} pinned or in use)",
        report.removed,
        size(report.removed_bytes),
        report.kept,
        size(report.kept_bytes),
        size(report.held_bytes),
    ))
}
