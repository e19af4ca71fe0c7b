//! CSV files of results.

use std::io::Write;

use crate::run::{Outcome, Summary};
use crate::workload::Graph;

impl Summary {
    /// Names, with units, and values: the columns of `summary.csv`.
    pub fn columns(&self) -> Vec<(&'static str, f64)> {
        // Counts stay exact up to 2^53.
        vec![
            ("makespan_s", self.makespan),
            ("lower_bound_s", self.lower_bound),
            ("ratio", self.ratio),
            ("utilisation", self.utilisation),
            ("bytes_moved", self.bytes_moved as f64),
            ("transfers", self.transfers as f64),
            ("tasks", self.tasks as f64),
            ("aborted", self.aborted as f64),
            ("repeated", self.repeated as f64),
            ("departures", self.departures as f64),
            ("speculated", self.speculated as f64),
            ("messages", self.messages as f64),
            ("wasted_core_s", self.wasted),
            ("offer_messages", self.offer_messages as f64),
            ("offers_sent", self.offers_sent as f64),
            ("lies_found", self.lies_found as f64),
            ("false_results", self.false_results as f64),
            ("checks", self.checks as f64),
            ("checked_core_s", self.checked),
            ("liars_found", self.liars_found as f64),
            ("liar_found_s", self.liar_found),
            ("latency_mean_s", self.latency.mean),
            ("latency_p50_s", self.latency.p50),
            ("latency_p95_s", self.latency.p95),
            ("latency_p99_s", self.latency.p99),
            ("wait_mean_s", self.wait.mean),
            ("wait_p50_s", self.wait.p50),
            ("wait_p95_s", self.wait.p95),
            ("wait_p99_s", self.wait.p99),
            ("slowdown_mean", self.slowdown.mean),
            ("slowdown_p50", self.slowdown.p50),
            ("slowdown_p95", self.slowdown.p95),
            ("slowdown_p99", self.slowdown.p99),
            ("fairness", self.fairness),
            ("events", self.events as f64),
        ]
    }
}

/// Writes one row per run: what `settings` names, the seed, the columns of [`Summary::columns`].
pub fn write_summaries<'a>(
    out: impl Write,
    settings: &[&str],
    rows: impl IntoIterator<Item = (&'a [String], u64, &'a Summary)>,
) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    for (at, (values, seed, summary)) in rows.into_iter().enumerate() {
        let columns = summary.columns();
        if at == 0 {
            let names = columns.iter().map(|(name, _)| *name);
            writer.write_record(settings.iter().copied().chain(["seed"]).chain(names))?;
        }
        let numbers = columns.iter().map(|(_, value)| value.to_string());
        let seed = [seed.to_string()];
        writer.write_record(values.iter().cloned().chain(seed).chain(numbers))?;
    }
    writer.flush()?;
    Ok(())
}

/// Writes one row per task. Times are seconds from the start; `fetched_bytes` are those that were
/// moved because of this task.
pub fn write_tasks(out: impl Write, graph: &Graph, outcome: &Outcome) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record([
        "task",
        "job",
        "class",
        "host",
        "attempts",
        "work_s",
        "ready_s",
        "placed_s",
        "started_s",
        "finished_s",
        "received_s",
        "fetched_bytes",
    ])?;
    for (id, record) in outcome.records() {
        let task = graph.task(id);
        writer.write_record([
            id.0.to_string(),
            task.job.0.to_string(),
            graph.classes()[usize::from(task.class)].clone(),
            record.host.0.to_string(),
            record.attempts.to_string(),
            task.work.to_string(),
            record.ready.seconds().to_string(),
            record.placed.seconds().to_string(),
            record.started.seconds().to_string(),
            record.finished.seconds().to_string(),
            record.received.seconds().to_string(),
            record.fetched.to_string(),
        ])?;
    }
    writer.flush()?;
    Ok(())
}
