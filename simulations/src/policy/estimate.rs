//! What policies believe about run times.

use crate::kernel::{Distribution, Draws, Purpose};
use crate::workload::Graph;

/// How good estimates are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Estimates {
    /// The truth.
    Exact,
    /// The truth times a log-normal factor of mean 1 with this coefficient of variation, drawn per
    /// task: the same for every policy under one seed.
    Noisy(f64),
    /// The mean of the task's class over the whole workload.
    ClassMean,
    /// One second for every task.
    Blind,
}

impl Estimates {
    /// For every task of the graph.
    pub(crate) fn of(self, graph: &Graph, seed: u64) -> Vec<f64> {
        let tasks = graph.tasks();
        match self {
            Self::Exact => tasks.iter().map(|task| task.work).collect(),
            Self::Noisy(cv) => {
                let factor = Distribution::LogNormal { mean: 1.0, cv };
                let noisy = tasks.iter().enumerate().map(|(at, task)| {
                    let mut draws = Draws::new(seed, Purpose::Estimate, at as u64);
                    task.work * factor.sample(&mut draws)
                });
                noisy.collect()
            }
            Self::ClassMean => {
                let mut sums = vec![(0.0, 0.0); graph.classes().len()];
                for task in tasks {
                    let (sum, count) = &mut sums[usize::from(task.class)];
                    *sum += task.work;
                    *count += 1.0;
                }
                let mean = |class: u16| sums[usize::from(class)].0 / sums[usize::from(class)].1;
                tasks.iter().map(|task| mean(task.class)).collect()
            }
            Self::Blind => vec![1.0; tasks.len()],
        }
    }
}
