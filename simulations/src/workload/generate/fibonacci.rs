//! Recursion: fib(n) reveals fib(n-1), fib(n-2) and the addition of what they will return.

use super::or;
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, Draws};
use crate::workload::{Builder, ObjectId, Spec, TaskId};

/// `kind = "fibonacci"`: a graph that grows while it runs.
#[derive(Debug)]
pub(in crate::workload) struct Fibonacci {
    n: u32,
    /// Whether equal thunks are one, as content addressing makes them: 2n tasks instead of about
    /// 2 fib(n).
    memo: bool,
    call: Distribution,
    add: Distribution,
}

/// The bytes of a returned number.
const VALUE: u64 = 8;

impl Fibonacci {
    pub(in crate::workload) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let memo = section.bool("memo")?.unwrap_or(true);
        // fib(30) without memo makes 4 million tasks.
        let most = if memo { 10_000 } else { 30 };
        let n = section.integer("n", 2..=most)?;
        Ok(Self {
            n: section.need("n", n, "a whole number from 2")? as u32,
            memo,
            call: or(section, "call", Unit::Seconds, 0.01)?,
            add: or(section, "add", Unit::Seconds, 0.01)?,
        })
    }

    pub(in crate::workload) fn generate(&self, builder: &mut Builder, draws: &mut Draws) {
        if self.memo {
            self.chain(builder, draws);
        } else {
            self.tree(self.n, None, builder, draws);
        }
    }

    fn call(&self, n: u32, by: Option<TaskId>, builder: &mut Builder, draws: &mut Draws) -> TaskId {
        let spec = Spec { class: "call", work: self.call.sample(draws), memory: 0 };
        // Below 2 the call returns the number itself.
        let outputs: &[u64] = if n < 2 { &[VALUE] } else { &[] };
        builder.revealed_task(by, spec, &[], outputs)
    }

    fn add(
        &self,
        by: TaskId,
        values: [ObjectId; 2],
        builder: &mut Builder,
        draws: &mut Draws,
    ) -> ObjectId {
        let spec = Spec { class: "add", work: self.add.sample(draws), memory: 0 };
        let task = builder.revealed_task(Some(by), spec, &values, &[VALUE]);
        builder.output(task)
    }

    /// Returns the value of fib(n).
    fn tree(
        &self,
        n: u32,
        by: Option<TaskId>,
        builder: &mut Builder,
        draws: &mut Draws,
    ) -> ObjectId {
        let call = self.call(n, by, builder, draws);
        if n < 2 {
            return builder.output(call);
        }
        let values = [1, 2].map(|less| self.tree(n - less, Some(call), builder, draws));
        self.add(call, values, builder, draws)
    }

    /// Every fib(k) once. fib(k+2) is called before fib(k+1), so that it reveals fib(k).
    fn chain(&self, builder: &mut Builder, draws: &mut Draws) {
        let mut calls = Vec::with_capacity(self.n as usize + 1);
        for down in 0..=self.n {
            let by = match down {
                0 => None,
                1 => Some(calls[0]),
                _ => Some(calls[down as usize - 2]),
            };
            calls.push(self.call(self.n - down, by, builder, draws));
        }
        let call_of = |k: u32| calls[(self.n - k) as usize];
        let mut values = [builder.output(call_of(0)), builder.output(call_of(1))];
        for k in 2..=self.n {
            values = [values[1], self.add(call_of(k), values, builder, draws)];
        }
    }
}
