//! `mesh gc`

use mesh_store::gc::GcOptions;

use super::{print_line, size};
use crate::args::GcArgs;
use crate::config::{self, Config};
use crate::error::CliError;
use crate::home;

pub(crate) fn run(args: &GcArgs) -> Result<(), CliError> {
    let quota_bytes = config::quota(&Config::of_home()?, args.quota).value;
    let store = home::open_store()?;
    let report = store.gc(&GcOptions { quota_bytes, dry_run: args.dry_run })?;
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
