//! The optimistic cost table of PEFT: how long, on each host, what comes after a task takes at best
//! (Arabnejad, Barbosa: "List scheduling algorithm for heterogeneous systems by an optimistic cost
//! table", 2014, equation 2).
//!
//! The entry of a task that nothing follows is 0. Otherwise it is the most over the tasks that take
//! its outputs, each on the host where its own entry, its work there and the transfer to it are least
//! in sum; nothing is transferred to the host itself, and everywhere else over the typical link.
//!
//! With one link for all, an entry depends on the host's speed alone: there is a column per speed, and
//! no more than [`COLUMNS_MAX`], so that a table takes at most half a kilobyte per task. Where there are more
//! speeds, a column stands for neighbouring ones, with the middle one of them.

use crate::platform::HostId;
use crate::run::View;
use crate::workload::{Graph, TaskId};

/// The most columns.
const COLUMNS_MAX: usize = 64;

/// A host, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Machine {
    speed: f64,
    /// Bytes.
    memory: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct CostTable {
    /// Of each column.
    speeds: Vec<f64>,
    /// Of each column, bytes: the most that one of its hosts has.
    memories: Vec<u64>,
    /// Of each host.
    column: Vec<usize>,
    /// Seconds, by task and column; of what is not known yet, too little to lengthen anything.
    cells: Vec<f64>,
    link: (f64, f64),
}

impl CostTable {
    /// Adds tasks that came into being, in topological order. Those that are there keep their entries.
    pub(super) fn add(&mut self, view: &View<'_>, tasks: &[TaskId]) {
        if self.speeds.is_empty() {
            let hosts = (0..view.hosts() as u32).map(HostId);
            let machine = |host| Machine { speed: view.speed(host), memory: view.memory(host) };
            let machines: Vec<Machine> = hosts.map(machine).collect();
            *self = Self::new(&machines, view.typical_link());
        }
        self.fill(view.graph(), tasks, |task| view.estimate(task));
    }

    fn new(hosts: &[Machine], link: (f64, f64)) -> Self {
        let mut distinct: Vec<f64> = hosts.iter().map(|host| host.speed).collect();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        let count = distinct.len().min(COLUMNS_MAX);
        // The n-th of m speeds belongs to column n x columns / m.
        let column_of = |place: usize| place * count / distinct.len();
        let mut groups = vec![Vec::new(); count];
        for (place, &speed) in distinct.iter().enumerate() {
            groups[column_of(place)].push(speed);
        }
        let place = |host: &Machine| distinct.partition_point(|&speed| speed < host.speed);
        let column: Vec<usize> = hosts.iter().map(|host| column_of(place(host))).collect();
        let mut memories = vec![0; count];
        for (host, &column) in hosts.iter().zip(&column) {
            memories[column] = host.memory.max(memories[column]);
        }
        let speeds = groups.iter().map(|group| group[group.len() / 2]).collect();
        Self { speeds, memories, column, cells: Vec::new(), link }
    }

    fn fill(&mut self, graph: &Graph, tasks: &[TaskId], work: impl Fn(TaskId) -> f64) {
        let width = self.speeds.len();
        self.cells.resize(graph.tasks().len() * width, f64::NEG_INFINITY);
        let mut row = vec![0.0; width];
        for &task in tasks.iter().rev() {
            row.fill(0.0);
            for output in graph.outputs(task) {
                let transfer = self.transfer(graph.object(output).bytes);
                for &next in graph.consumers(output) {
                    self.lengthen(&mut row, next, transfer, work(next), graph.task(next).memory);
                }
            }
            self.cells[task.index() * width..][..width].copy_from_slice(&row);
        }
    }

    /// What follows a task is at least this one, which takes its output.
    fn lengthen(&self, row: &mut [f64], next: TaskId, transfer: f64, work: f64, memory: u64) {
        let there = |column: usize| match self.memories[column] >= memory {
            true => self.row(next)[column] + work / self.speeds[column],
            false => f64::INFINITY,
        };
        let elsewhere = transfer + (0..row.len()).map(there).fold(f64::INFINITY, f64::min);
        for (column, cell) in row.iter_mut().enumerate() {
            *cell = cell.max(there(column).min(elsewhere));
        }
    }

    fn transfer(&self, bytes: u64) -> f64 {
        let (latency, bandwidth) = self.link;
        if bytes == 0 { 0.0 } else { latency + bytes as f64 / bandwidth }
    }

    fn row(&self, task: TaskId) -> &[f64] {
        &self.cells[task.index() * self.speeds.len()..][..self.speeds.len()]
    }

    /// The entry of a known task.
    pub(super) fn of(&self, task: TaskId, host: HostId) -> f64 {
        self.row(task)[self.column[host.index()]]
    }

    /// The rank of a known task: the mean of its entries over all hosts.
    pub(super) fn rank(&self, task: TaskId) -> f64 {
        let row = self.row(task);
        self.column.iter().map(|&column| row[column]).sum::<f64>() / self.column.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Builder, Spec};

    fn spec(work: f64) -> Spec<'static> {
        Spec { class: "t", work, memory: 0 }
    }

    fn machines(speeds: &[f64], memory: u64) -> Vec<Machine> {
        speeds.iter().map(|&speed| Machine { speed, memory }).collect()
    }

    #[test]
    fn what_does_not_fit_is_expected_elsewhere() {
        let mut builder = Builder::default();
        let first = builder.task(spec(1.0), &[], &[1_000_000]);
        let made = builder.output(first);
        let large = builder.task(Spec { class: "t", work: 6.0, memory: 8 }, &[made], &[]);
        let graph = builder.finish().unwrap();
        let hosts = [Machine { speed: 1.0, memory: 8 }, Machine { speed: 2.0, memory: 7 }];
        let mut table = CostTable::new(&hosts, (0.0, 1e6));
        table.fill(&graph, &[first, large], |task| graph.task(task).work);
        let row = |task| [HostId(0), HostId(1)].map(|host| table.of(task, host));
        // 6 s on the slow host; from the fast one it takes a second to get there.
        assert_eq!(row(first), [6.0, 7.0]);
    }

    #[test]
    fn entries_are_what_the_recurrence_says() {
        let mut builder = Builder::default();
        let top = builder.task(spec(1.0), &[], &[3_000_000]);
        let over = builder.output(top);
        let left = builder.task(spec(4.0), &[over], &[1_000_000]);
        let end = builder.output(left);
        let right = builder.task(spec(20.0), &[over], &[]);
        let last = builder.task(spec(6.0), &[end], &[]);
        let graph = builder.finish().unwrap();
        // Two slow hosts and a fast one; 1 MB/s between them.
        let mut table = CostTable::new(&machines(&[1.0, 1.0, 2.0], 7), (0.0, 1e6));
        table.fill(&graph, &[top, left, right, last], |task| graph.task(task).work);
        let row = |task| [HostId(0), HostId(2)].map(|host| table.of(task, host));
        assert_eq!((row(last), row(right)), ([0.0, 0.0], [0.0, 0.0]));
        // The last one takes 6 s, or crosses in 1 s and takes 3 s.
        assert_eq!(row(left), [4.0, 3.0]);
        // Left: 4 + 4 s or 3 + 2 + 3 s; right: 20 s, or 3 s across and 10 s.
        assert_eq!(row(top), [13.0, 10.0]);
        assert_eq!(table.rank(top), 12.0);
    }

    #[test]
    fn many_speeds_share_columns_in_their_order() {
        let speeds: Vec<f64> = (0..1000).map(|n| f64::from((n * 7919) % 1000 + 1)).collect();
        let table = CostTable::new(&machines(&speeds, 7), (0.0, 1e6));
        assert_eq!(table.speeds.len(), COLUMNS_MAX);
        for (speed, &column) in speeds.iter().zip(&table.column) {
            assert!((table.speeds[column] / speed).max(speed / table.speeds[column]) < 16.0);
            assert!((table.speeds[column] - speed).abs() <= 16.0);
        }
    }
}
