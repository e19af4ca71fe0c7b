//! The report of one scenario under some seeds.

use super::html::Page;
use super::lanes::lanes;
use super::svg::{Axis, COLOURS, Plot, figure};
use crate::config::Document;
use crate::experiment::{Scenario, mean_interval};
use crate::kernel::SimTime;
use crate::platform::HostId;
use crate::run::{Outcome, Summary, TaskRecord};
use crate::workload::Graph;

/// Bars of the Gantt chart; each is some 200 bytes.
const BARS_MAX: usize = 4_000;
/// Rows of the Gantt chart: beyond, nobody sees one.
const ROWS_MAX: usize = 128;
/// Characters of a host's name that have room beside the Gantt chart.
const NAME_CHARS: usize = 16;
/// Points of a curve: more than a screen has pixels.
const POINTS_MAX: usize = 600;
/// Means over so many parts of a run.
const PARTS: usize = 240;

/// Everything that a report shows.
#[derive(Clone, Copy, Debug)]
pub struct RunReport<'a> {
    /// The scenario as it was written.
    pub document: &'a Document,
    /// The same, understood.
    pub scenario: &'a Scenario,
    /// Every seed's numbers.
    pub runs: &'a [(u64, Summary)],
    /// The first seed's tasks.
    pub graph: &'a Graph,
    /// The first seed's run.
    pub outcome: &'a Outcome,
}

impl RunReport<'_> {
    /// The report: one HTML page that needs nothing else.
    pub fn html(&self) -> String {
        let mut page = Page::new(&self.scenario.title, &self.scenario.about);
        self.numbers(&mut page);
        if self.runs.len() > 1 {
            self.makespans(&mut page);
        }
        self.gantt(&mut page);
        self.completion(&mut page);
        self.utilisation(&mut page);
        page.scenario(self.document);
        page.finish()
    }

    fn numbers(&self, page: &mut Page) {
        page.heading("Numbers");
        let seeds = self.runs.len();
        page.note(&format!(
            "Means over {seeds} seeds with half the width of their 95 % intervals; under one seed, or \
             where nothing is drawn, there is no such width."
        ));
        let columns: Vec<_> = self.runs.iter().map(|(_, summary)| summary.columns()).collect();
        let names = columns.first().into_iter().flatten().enumerate();
        let rows = names.map(|(at, (name, _))| {
            let values: Vec<f64> = columns.iter().map(|row| row[at].1).collect();
            let interval = mean_interval(&values);
            vec![(*name).to_owned(), figure(interval.mean), figure(interval.half_width)]
        });
        page.table(&["", "mean", "± 95 %"], &rows.collect::<Vec<_>>());
    }

    fn makespans(&self, page: &mut Page) {
        page.heading("Makespan over the seeds");
        let mut values: Vec<f64> = self.runs.iter().map(|(_, run)| run.makespan).collect();
        values.sort_unstable_by(f64::total_cmp);
        let x = Axis::around("makespan, s", values.iter().copied());
        page.plot(&distribution(&values, x, "share of the seeds"));
    }

    /// Who ran what when.
    fn gantt(&self, page: &mut Page) {
        page.heading("Who ran what when");
        let records = &self.outcome.tasks;
        let chart = Gantt::new(records);
        let (drawn, hosts) = (chart.bars.len(), chart.hosts);
        page.note(&format!(
            "The first seed; of each task its last execution. {}",
            if drawn == records.len() {
                format!("All {drawn} tasks on {hosts} hosts.")
            } else {
                format!(
                    "{drawn} of {} tasks: those of the first {hosts} hosts that ran any.",
                    records.len()
                )
            }
        ));
        page.plot(&chart.draw(self));
    }

    /// Which share of the tasks was received by when.
    fn completion(&self, page: &mut Page) {
        page.heading("Completion");
        let mut ends: Vec<f64> =
            self.outcome.tasks.iter().map(|record| record.received.seconds()).collect();
        ends.sort_unstable_by(f64::total_cmp);
        let x = Axis::from_zero("s", ends.last().copied().into_iter());
        page.plot(&distribution(&ends, x, "share of the tasks received"));
    }

    fn utilisation(&self, page: &mut Page) {
        page.heading("Cores in use");
        page.note("Last executions only; means over equal parts of the run.");
        let records = &self.outcome.tasks;
        let end = records.iter().map(|record| record.received).max().unwrap_or(SimTime::ZERO);
        let groups = &self.scenario.platform.groups;
        let cores: u64 = groups.iter().map(|g| u64::from(g.count) * u64::from(g.cores)).sum();
        let points = busy_cores(records, end.seconds());
        let x = Axis::from_zero("s", std::iter::once(end.seconds()));
        let most = points.iter().map(|(_, busy)| *busy);
        let mut plot = Plot::new(x, Axis::from_zero("cores", most), 200.0);
        plot.area(&points, COLOURS[0]);
        page.plot(&plot.finish());
        page.note(&format!("The platform has {cores} cores."));
    }
}

/// The share of sorted values that are not above each.
fn distribution(values: &[f64], x: Axis, y: &str) -> String {
    let len = values.len();
    let mut plot = Plot::new(x, Axis::from_zero(y, std::iter::once(1.0)), 200.0);
    let step = len.div_ceil(POINTS_MAX).max(1);
    let shares = (0..len).filter(|at| at % step == 0 || at + 1 == len);
    let points = shares.flat_map(|at| {
        let share = |n: usize| n as f64 / len as f64;
        [(values[at], share(at)), (values[at], share(at + 1))]
    });
    plot.line(points, COLOURS[0]);
    plot.finish()
}

/// Mean cores in use over parts of a run, as steps.
fn busy_cores(records: &[TaskRecord], end: f64) -> Vec<(f64, f64)> {
    let part = end / PARTS as f64;
    if part <= 0.0 {
        return Vec::new();
    }
    // Whole parts by differences, so that a task costs the same however long it is.
    let (mut edges, mut steps) = (vec![0.0; PARTS + 1], vec![0.0; PARTS + 1]);
    for record in records {
        let (from, to) = (record.started.seconds(), record.finished.seconds());
        if to <= from {
            continue;
        }
        let [first, last] = [from, to].map(|time| ((time / part) as usize).min(PARTS - 1));
        if first == last {
            edges[first] += (to - from) / part;
            continue;
        }
        edges[first] += (first + 1) as f64 - from / part;
        edges[last] += to / part - last as f64;
        steps[first + 1] += 1.0;
        steps[last] -= 1.0;
    }
    let mut whole = 0.0;
    let points = edges.iter().zip(&steps).take(PARTS).enumerate().flat_map(|(at, (edge, step))| {
        whole += step;
        let busy: f64 = whole + edge;
        [(at as f64 * part, busy), ((at + 1) as f64 * part, busy)]
    });
    points.collect()
}

/// Rows of hosts, and which tasks are drawn in them.
struct Gantt {
    /// Host and lane of each row.
    rows: Vec<(HostId, u32)>,
    /// Tasks with their rows.
    bars: Vec<(usize, usize)>,
    hosts: usize,
}

impl Gantt {
    /// Whole hosts, from the first that ran anything, as long as there is room.
    fn new(records: &[TaskRecord]) -> Self {
        let lanes = lanes(records);
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by_key(|&at| (records[at].host, lanes[at], records[at].started));
        let mut gantt = Self { rows: Vec::new(), bars: Vec::new(), hosts: 0 };
        for host in order.chunk_by(|a, b| records[*a].host == records[*b].host) {
            let rows = host.chunk_by(|a, b| lanes[*a] == lanes[*b]);
            let full = gantt.rows.len() + rows.clone().count() > ROWS_MAX
                || gantt.bars.len() + host.len() > BARS_MAX;
            if full && gantt.hosts > 0 {
                break;
            }
            gantt.hosts += 1;
            for row in rows.take(ROWS_MAX) {
                let room = BARS_MAX - gantt.bars.len();
                gantt.bars.extend(row.iter().take(room).map(|at| (*at, gantt.rows.len())));
                gantt.rows.push((records[row[0]].host, lanes[row[0]]));
            }
        }
        gantt
    }

    fn draw(&self, report: &RunReport<'_>) -> String {
        let RunReport { graph, outcome, scenario, .. } = report;
        let records = &outcome.tasks;
        let end = records.iter().map(|record| record.received.seconds());
        let height = 14.0_f64.min(600.0 / self.rows.len().max(1) as f64);
        let name = |host: HostId| host_name(scenario, host);
        let words = self.rows.iter().map(|(host, lane)| {
            let is_named = *lane == 0 && height > 4.0;
            if is_named { name(*host).chars().take(NAME_CHARS).collect() } else { String::new() }
        });
        // The first host is at the top.
        let words: Vec<String> = words.rev().collect();
        let rows = words.len();
        let y = Axis::of_words("", words);
        let mut plot = Plot::new(Axis::from_zero("s", end), y, height * rows.max(1) as f64);
        let colour = |class: u16| COLOURS[usize::from(class) % COLOURS.len()];
        for &(at, row) in &self.bars {
            let (record, task) = (&records[at], &graph.tasks()[at]);
            let span = (record.started.seconds(), record.finished.seconds());
            let class = &graph.classes()[usize::from(task.class)];
            let says = format!(
                "{class}, task {at}, {}: {} to {} s",
                name(record.host),
                figure(span.0),
                figure(span.1)
            );
            plot.bar(rows - 1 - row, span, colour(task.class), &says);
        }
        for (n, class) in graph.classes().iter().take(COLOURS.len()).enumerate() {
            plot.legend(class, COLOURS[n]);
        }
        if graph.classes().len() > COLOURS.len() {
            plot.legend("and others, in the same colours", "#fff");
        }
        plot.finish()
    }
}

/// The group's name and the host's number in it.
pub(super) fn host_name(scenario: &Scenario, host: HostId) -> String {
    let mut number = host.0;
    for group in &scenario.platform.groups {
        if number < group.count {
            let name = &group.name;
            return if group.count == 1 { name.clone() } else { format!("{name} {number}") };
        }
        number -= group.count;
    }
    format!("host {}", host.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Span;

    fn record(host: u32, from: f64, to: f64) -> TaskRecord {
        let at = |seconds| SimTime::ZERO + Span::from_seconds(seconds);
        TaskRecord {
            host: HostId(host),
            started: at(from),
            finished: at(to),
            ..TaskRecord::default()
        }
    }

    #[test]
    fn busy_cores_add_up_to_the_work() {
        let records = [record(0, 0.0, 10.0), record(1, 0.1, 0.11), record(1, 3.0, 9.99)];
        let points = busy_cores(&records, 10.0);
        let area: f64 = points.chunks(2).map(|step| (step[1].0 - step[0].0) * step[0].1).sum();
        assert!((area - (10.0 + 0.01 + 6.99)).abs() < 1e-6, "{area}");
        assert_eq!(points[0].1, 1.0);
        assert!((points[PARTS].1 - 2.0).abs() < 1e-9, "both from 3 to 10 s");
    }

    #[test]
    fn a_chart_of_many_hosts_has_whole_ones_and_a_bound() {
        let records: Vec<_> = (0..100_000)
            .map(|n| record(n % 1_000, f64::from(n / 1_000), f64::from(n / 1_000 + 1)))
            .collect();
        let gantt = Gantt::new(&records);
        assert_eq!((gantt.hosts, gantt.bars.len()), (40, 40 * 100));
        // One host alone that is too much.
        let gantt = Gantt::new(&vec![record(0, 0.0, 1.0); 10_000]);
        assert_eq!((gantt.hosts, gantt.rows.len(), gantt.bars.len()), (1, ROWS_MAX, ROWS_MAX));
    }
}
