//! `mesh sim replay`: a recorded build on machines that are not there.

use std::fs;

use mesh_simulations::experiment::{Replay, Scenario, run_seeds};
use mesh_simulations::workload::Recorded;
use serde_json::{Value, json};

use super::{figure, results, seeds};
use crate::args::SimReplayArgs;
use crate::commands::print_line;
use crate::error::CliError;
use crate::stderr;

pub(super) fn run(args: &SimReplayArgs) -> Result<(), CliError> {
    // Says that a file is missing with the exit code for it.
    fs::metadata(&args.trace).map_err(CliError::io(&args.trace))?;
    let replay = Replay {
        hosts: args.hosts,
        bandwidth: &args.bandwidth,
        latency: &args.latency,
        policy: &args.policy,
    };
    let (mut document, recorded) = replay.document(&args.trace)?;
    for setting in &args.settings.set {
        document.set(setting)?;
    }
    let scenario = Scenario::read(&document)?;
    let notes = notes(&recorded);
    stderr::write_line(format_args!(
        "recorded: {} runs in {} s on {} cores",
        recorded.runs,
        figure(recorded.makespan_s),
        recorded.slots
    ));
    notes.iter().for_each(|note| stderr::write_line(format_args!("note: {note}")));
    let runs = run_seeds(&scenario, &seeds(&scenario, &args.settings))?;
    if let Some(directory) = &args.out {
        results::write(directory, &document, &scenario, &runs)?;
    }
    if args.json {
        let mut json = results::json(&scenario.title, &runs);
        json["recorded"] = recorded_json(&recorded);
        json["notes"] = json!(notes);
        return print_line(json);
    }
    results::print(&runs)
}

fn recorded_json(recorded: &Recorded) -> Value {
    json!({
        "runs": recorded.runs,
        "slots": recorded.slots,
        "makespan_s": recorded.makespan_s,
        "start_s": recorded.start_s,
        "failed": recorded.failed,
        "aborted": recorded.aborted,
        "elsewhere": recorded.elsewhere,
        "reused": recorded.reused,
        "local": recorded.local,
    })
}

/// What the recording lacks for a replay of the whole build.
fn notes(recorded: &Recorded) -> Vec<String> {
    let counted = [
        (recorded.elsewhere, "runs of other members are not in it: record with --local"),
        (recorded.reused, "thunks were known and cost nothing here either: record from scratch"),
        (recorded.local, "calls ran outside of thunks and are left out"),
        (recorded.aborted, "runs the machine could not do are left out"),
        (recorded.failed, "programs failed, and are run all the same"),
        (recorded.wide, "runs were given several cores and get one"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let mut notes: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
    if !recorded.has_trees {
        notes.push("it does not say what is in trees: directories count as nothing".to_owned());
    }
    notes
}
