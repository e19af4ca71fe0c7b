//! Two scenarios under the same seeds.

use super::statistics::{Interval, mean_interval};
use crate::run::Summary;

/// How two scenarios differ, paired by seed: the noise that both share falls out of the differences.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// For each column of the summary that differs under some seed.
    pub differences: Vec<Difference>,
    /// How many pairs.
    pub pairs: usize,
}

/// How they differ in one number.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The column.
    pub column: &'static str,
    /// Mean of the first.
    pub first: f64,
    /// Mean of the second.
    pub second: f64,
    /// Second minus first, over the pairs.
    pub difference: Interval,
}

impl Comparison {
    /// Compares runs, which must be of the same seeds in the same order; others are left out.
    pub fn new(first: &[(u64, Summary)], second: &[(u64, Summary)]) -> Self {
        let pairs = first.iter().zip(second).filter(|(a, b)| a.0 == b.0);
        let columns: Vec<_> = pairs.map(|(a, b)| (a.1.columns(), b.1.columns())).collect();
        let names = columns.first().map_or(&[][..], |(a, _)| a.as_slice());
        let differences = names.iter().enumerate().filter_map(|(at, (column, _))| {
            let (a, b): (Vec<f64>, Vec<f64>) =
                columns.iter().map(|(a, b)| (a[at].1, b[at].1)).unzip();
            let deltas: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
            deltas.iter().any(|delta| *delta != 0.0).then(|| Difference {
                column,
                first: mean_interval(&a).mean,
                second: mean_interval(&b).mean,
                difference: mean_interval(&deltas),
            })
        });
        Self { differences: differences.collect(), pairs: columns.len() }
    }

    /// What the comparison says about the makespan, in plain words.
    pub fn sentence(&self, first: &str, second: &str) -> String {
        let pairs = self.pairs;
        let makespan = self.differences.iter().find(|d| d.column == "makespan_s");
        let Some(found) = makespan else {
            return format!("{first} and {second} have the same makespan under all {pairs} seeds.");
        };
        let percent = |seconds: f64| 100.0 * seconds / found.first;
        let Interval { mean, half_width, .. } = found.difference;
        if pairs < 2 {
            return format!(
                "Under the one seed, {second} takes {:+.1} % of {first}'s makespan; one pair says \
                 nothing about others.",
                percent(mean)
            );
        }
        let (low, high) = (percent(mean - half_width), percent(mean + half_width));
        if found.is_clear() {
            let (word, sign) = if mean < 0.0 { ("shorter", -1.0) } else { ("longer", 1.0) };
            let (near, far) = if mean < 0.0 { (-high, -low) } else { (low, high) };
            format!(
                "{second}'s makespan is {:.1} % {word} than {first}'s (95 % confidence: {near:.1} to \
                 {far:.1} %; {pairs} paired seeds; the effect is {} the spread between seeds).",
                sign * percent(mean),
                found.magnitude()
            )
        } else {
            format!(
                "{pairs} paired seeds do not tell {first} and {second} apart: the makespan of {second} \
                 differs by {:+.1} % (95 % confidence: {low:+.1} to {high:+.1} %).",
                percent(mean)
            )
        }
    }
}

impl Difference {
    /// Whether the interval of confidence leaves out zero.
    pub fn is_clear(&self) -> bool {
        self.difference.mean.abs() > self.difference.half_width
    }

    /// Mean over standard deviation of the differences (Cohen's d for pairs); infinite if all pairs
    /// differ by the same.
    pub fn effect(&self) -> f64 {
        self.difference.mean / self.difference.deviation
    }

    fn magnitude(&self) -> &'static str {
        // Cohen's words.
        match self.effect().abs() {
            effect if effect < 0.2 => "negligible against",
            effect if effect < 0.5 => "small against",
            effect if effect < 0.8 => "of medium size against",
            _ => "large against",
        }
    }
}
