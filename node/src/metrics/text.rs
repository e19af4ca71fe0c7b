//! The page: a pure function of what was counted.

use std::fmt::{Display, Write};

use mesh_protocol::owner::Reason;

use super::sample::Sample;

/// One line's labels, as they are written between braces, and its number.
type Line = (&'static str, f64);

/// The page in the text format, version 0.0.4.
pub(super) fn page(sample: &Sample) -> String {
    let mut page = Page::default();
    members(&mut page, sample);
    cores(&mut page, sample);
    requester(&mut page, sample);
    worker(&mut page, sample);
    objects(&mut page, sample);
    page.0
}

fn members(page: &mut Page, sample: &Sample) {
    page.gauge("mesh_start_time_seconds", "When the node began, since 1970.", sample.start_s);
    page.gauge("mesh_members", "Other members that are known.", sample.members);
    page.gauge("mesh_members_connected", "Of those, as many as are connected.", sample.connected);
    page.gauge(
        "mesh_peers_suspected",
        "Peers that are asked last or not at all for a while.",
        sample.suspected,
    );
}

fn cores(page: &mut Page, sample: &Sample) {
    let status = &sample.status;
    page.gauge("mesh_slots", "Cores that may be busy.", status.slots.0);
    page.gauge("mesh_slots_given", "Cores that others' thunks may have now.", status.slots.1);
    let busy = [
        ("work=\"own\"", f64::from(status.cores.0)),
        ("work=\"others\"", f64::from(status.cores.1)),
    ];
    page.lines("mesh_cores_busy", "gauge", "Cores that are busy, by whose work it is.", &busy);
    let reasons = [
        ("reason=\"paused\"", Reason::Paused),
        ("reason=\"in_use\"", Reason::InUse),
        ("reason=\"on_battery\"", Reason::OnBattery),
    ];
    let held = reasons.map(|(label, reason)| (label, flag(sample.held == Some(reason))));
    page.lines("mesh_held_back", "gauge", "1: others get nothing, for this reason.", &held);
}

fn requester(page: &mut Page, sample: &Sample) {
    let status = &sample.status;
    page.gauge("mesh_builds", "Builds of this machine that use the node.", status.builds as f64);
    page.gauge("mesh_thunks_wanted", "Thunks that builds want run.", status.leases.1 as f64);
    page.gauge("mesh_leases", "Leases given that run or wait.", status.leases.0 as f64);
    page.gauge("mesh_workers", "Claims of workers on this node.", status.workers.len() as f64);
    let counts = &status.counts;
    page.counter("mesh_leases_total", "Leases given.", counts.leased as f64);
    page.counter("mesh_leases_put_back_total", "Leases that came back.", counts.put_back as f64);
    page.counter("mesh_leases_moved_total", "Leases moved to idle slots.", counts.moved as f64);
    page.counter("mesh_leases_speculated_total", "Second copies.", counts.speculated as f64);
    page.counter("mesh_wasted_seconds_total", "Time of copies in vain.", seconds(counts.wasted_us));
    let recalls = &status.recalls;
    page.gauge("mesh_lookups_waiting", "Look-ups that wait for others.", recalls.waiting as f64);
    page.counter("mesh_lookups_dropped_total", "Look-ups without room.", recalls.dropped as f64);
    let sums = |own: bool| {
        let scores = status.scores.iter().filter(move |(peer, _)| peer.is_none() == own);
        scores.fold((0, 0), |(succeeded, failed), (_, score)| {
            (succeeded + score.succeeded, failed + score.failed)
        })
    };
    let (here, elsewhere) = (sums(true), sums(false));
    let executed = [
        ("at=\"here\",outcome=\"succeeded\"", here.0 as f64),
        ("at=\"here\",outcome=\"failed\"", here.1 as f64),
        ("at=\"elsewhere\",outcome=\"succeeded\"", elsewhere.0 as f64),
        ("at=\"elsewhere\",outcome=\"failed\"", elsewhere.1 as f64),
    ];
    let help = "Thunks of own builds that ran, by where. Failed: for a reason of the machine.";
    page.lines("mesh_own_executed_total", "counter", help, &executed);
}

fn worker(page: &mut Page, sample: &Sample) {
    let status = &sample.status;
    page.gauge("mesh_requesters", "Claims of this node on others.", status.jobs.1 as f64);
    page.gauge("mesh_leases_held", "Leases held of others.", status.jobs.0 as f64);
    let executed = [
        ("outcome=\"succeeded\"", status.ended.succeeded as f64),
        ("outcome=\"failed\"", status.ended.failed as f64),
        ("outcome=\"withdrawn\"", status.ended.withdrawn as f64),
    ];
    let help = "Thunks that ran here for others, by what became of them.";
    page.lines("mesh_executed_total", "counter", help, &executed);
}

fn objects(page: &mut Page, sample: &Sample) {
    page.counter("mesh_received_bytes_total", "Bytes of objects that came.", sample.received_bytes);
    page.counter("mesh_sent_bytes_total", "Bytes of objects that went.", sample.sent_bytes);
    let help = "The same on the wire: packed where the line is slow.";
    page.counter("mesh_sent_wire_bytes_total", help, sample.sent_wire_bytes);
    if let Some((objects, bytes)) = sample.store {
        page.gauge("mesh_store_objects", "Objects in the store.", objects as f64);
        page.gauge("mesh_store_bytes", "Bytes that they take.", bytes as f64);
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) {
        self.lines(name, "gauge", help, &[("", value.into())]);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Into<f64>) {
        self.lines(name, "counter", help, &[("", value.into())]);
    }

    fn lines(&mut self, name: &str, kind: &str, help: &str, lines: &[Line]) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        for (labels, value) in lines {
            match labels.is_empty() {
                true => self.line(format_args!("{name} {value}")),
                false => self.line(format_args!("{name}{{{labels}}} {value}")),
            }
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{JobCounts, Status};

    #[test]
    fn a_page_is_in_the_text_format() {
        let status = Status {
            slots: (4, 0),
            cores: (1, 2),
            jobs: (3, 1),
            ended: JobCounts { succeeded: 41, failed: 1, withdrawn: 2 },
            ..Status::default()
        };
        let sample = Sample {
            start_s: 1_700_000_000.5,
            members: 5.0,
            connected: 2.0,
            suspected: 0.0,
            held: Some(Reason::InUse),
            status,
            received_bytes: 2048.0,
            sent_bytes: (1_u64 << 40) as f64,
            sent_wire_bytes: (1_u64 << 39) as f64,
            store: Some((7, 700)),
        };
        insta::assert_snapshot!(page(&sample));
        assert!(!page(&Sample { store: None, ..sample }).contains("mesh_store"));
    }
}
