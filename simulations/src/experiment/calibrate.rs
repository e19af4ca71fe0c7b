//! What a machine takes for nodes' work, from a recording.

use std::path::Path;

use crate::config::ConfigError;
use crate::kernel::Span;
use crate::platform::{Costs, Machine};
use crate::workload::{Recorded, Trace};

/// Fewer runs say too little.
const RUNS_MIN: u64 = 100;
/// Programs that take as long as this have slots wait for them, and not for the machine.
const PROGRAM_MAX_S: f64 = 0.1;

/// A recording of a mesh of nodes on one machine, with programs that do nothing: what keeps the next
/// from ending is the machine then.
///
/// How much of it each run took is the time between two ends, on all cores. What of that is the
/// submission of a task, and what its lease, a recording does not say: it may be given, as CPU time that was
/// measured, and the rest is the sandbox. So that cost is no CPU time: time in which the kernel
/// lets nobody go on (locks, grace periods) counts as if cores had been busy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calibration {
    /// Cores of the machine; those that the recording names, if none.
    pub cores: Option<u32>,
    /// See [`Costs::submit`].
    pub submit: Span,
    /// See [`Costs::lease`].
    pub lease: Span,
}

impl Calibration {
    /// The machine that made that recording.
    pub fn machine(&self, trace: &Path) -> Result<Machine, ConfigError> {
        let wrong = |problem: String| ConfigError::file(trace.display(), problem);
        let recorded = Trace::open(trace).map_err(wrong)?.recorded();
        self.of(&recorded).map_err(wrong)
    }

    fn of(&self, recorded: &Recorded) -> Result<Machine, String> {
        if recorded.runs < RUNS_MIN {
            return Err(format!("{} runs; {RUNS_MIN} are the least", recorded.runs));
        }
        if recorded.shortest_s >= PROGRAM_MAX_S {
            let shortest = recorded.shortest_s;
            return Err(format!(
                "no program took less than {shortest} s: record some that do nothing"
            ));
        }
        let cores = self.cores.unwrap_or(recorded.slots);
        let each = Span::from_seconds(recorded.spacing_s * f64::from(cores));
        let sandbox = Span::from_ns(each.ns().saturating_sub((self.submit + self.lease).ns()));
        let costs = Costs { submit: self.submit, lease: self.lease, sandbox, message: Span::ZERO };
        Ok(Machine { name: "recorded".to_owned(), cores, costs })
    }
}

/// As a scenario has it.
pub fn machine_toml(machine: &Machine) -> String {
    let Machine { name, cores, costs } = machine;
    let Costs { submit, lease, sandbox, message } = costs;
    let mut text = format!("[[platform.machines]]\nname = \"{name}\"\ncores = {cores}\n");
    let costs = [("submit", submit), ("lease", lease), ("sandbox", sandbox), ("message", message)];
    for (key, cost) in costs.into_iter().filter(|(_, cost)| **cost != Span::ZERO) {
        text += &format!("{key} = \"{:.3} ms\"\n", cost.seconds() * 1e3);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: Recorded = Recorded {
        slots: 2,
        runs: 1000,
        makespan_s: 4.0,
        spacing_s: 0.004,
        shortest_s: 0.001,
        start_s: 0.0,
        failed: 0,
        aborted: 0,
        elsewhere: 0,
        reused: 0,
        local: 0,
        wide: 0,
        has_trees: true,
    };

    #[test]
    fn what_is_not_given_is_the_sandbox() {
        let ms = |ms: f64| Span::from_seconds(ms / 1e3);
        let machine = Calibration::default().of(&RECORDED).unwrap();
        assert_eq!((machine.cores, machine.costs.sandbox), (2, ms(8.0)));
        let given = Calibration { cores: Some(4), submit: ms(0.5), lease: ms(1.5) };
        let machine = given.of(&RECORDED).unwrap();
        assert_eq!((machine.costs.sandbox, machine.costs.lease), (ms(14.0), ms(1.5)));
        let text = machine_toml(&machine);
        assert!(text.contains("sandbox = \"14.000 ms\"") && !text.contains("message"), "{text}");
        let more = Calibration { submit: ms(100.0), ..Calibration::default() };
        assert_eq!(more.of(&RECORDED).unwrap().costs.sandbox, Span::ZERO);
    }

    #[test]
    fn recordings_that_say_nothing_of_the_machine_are_refused() {
        let refused = |recorded| Calibration::default().of(&recorded).unwrap_err();
        assert!(refused(Recorded { runs: 99, ..RECORDED }).contains("99 runs"));
        assert!(refused(Recorded { shortest_s: 1.0, ..RECORDED }).contains("do nothing"));
    }
}
