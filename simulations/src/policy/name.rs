//! Policies by name, with their settings.

use std::time::Duration;

use mesh_protocol::sched::policy::PlacementName;

use super::Policy;
use super::batch::{Batch, Rule};
use super::delay::Delay;
use super::external::{External, Invocation};
use super::list::{Choice, List, Order};
use super::plan::Plan;
use super::sparrow::Sparrow;
use super::stealing::{Push, Stealing};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::Span;
use crate::limits::WORDS_MAX;

/// The policies of this crate, with their settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyName {
    /// First in, first out.
    Fifo,
    /// Last in, first out.
    Lifo,
    /// Any order.
    Random,
    /// Longest remaining chain first.
    CriticalPath,
    /// Upward rank, online.
    BLevel,
    /// Upward rank, planned.
    Heft,
    /// Optimistic cost table, planned.
    Peft,
    /// Shortest completion first.
    MinMin,
    /// Longest completion first.
    MaxMin,
    /// First what would suffer most.
    Sufferage,
    /// Where the bytes are.
    Locality,
    /// Where the bytes are, for which a job waits so long.
    Delay(Span),
    /// Queues of hosts, from which others steal.
    Stealing(Push),
    /// The first of so many random hosts that has a core.
    PowerOfTwo(u32),
}

/// Keys that one policy has, and which.
const KEYS: [(&str, &str); 5] = [
    ("wait", "delay"),
    ("push", "stealing"),
    ("probes", "power-of-two"),
    ("command", "external"),
    ("timeout", "external"),
];

/// The most probes per task: as many messages each would take.
pub(crate) const PROBES_MAX: u64 = 64;
/// The longest wait for locality, in seconds.
const WAIT_MAX: f64 = 86_400.0;
/// How long a program may think, in seconds: unless the scenario says otherwise, and at most.
const TIMEOUT: f64 = 60.0;
const TIMEOUT_MAX: f64 = 86_400.0;

impl PolicyName {
    /// All of them, with the names that scenarios use, and their settings unless a scenario says
    /// otherwise.
    pub const ALL: [(&'static str, Self); 14] = [
        (PlacementName::Fifo.name(), Self::Fifo),
        (PlacementName::Lifo.name(), Self::Lifo),
        (PlacementName::Random.name(), Self::Random),
        (PlacementName::CriticalPath.name(), Self::CriticalPath),
        (PlacementName::BLevel.name(), Self::BLevel),
        ("heft", Self::Heft),
        ("peft", Self::Peft),
        ("min-min", Self::MinMin),
        ("max-min", Self::MaxMin),
        ("sufferage", Self::Sufferage),
        (PlacementName::Locality.name(), Self::Locality),
        ("delay", Self::Delay(Span::from_ns(3_000_000_000))),
        ("stealing", Self::Stealing(Push::Origin)),
        ("power-of-two", Self::PowerOfTwo(2)),
    ];

    /// A fresh policy of this name.
    pub fn make(self) -> Box<dyn Policy> {
        match self {
            Self::Fifo => Box::new(List::new("fifo", Order::Fifo, Choice::Fastest)),
            Self::Lifo => Box::new(List::new("lifo", Order::Lifo, Choice::Fastest)),
            Self::Random => Box::new(List::new("random", Order::Random, Choice::Fastest)),
            Self::CriticalPath => {
                Box::new(List::new("critical-path", Order::Work, Choice::Fastest))
            }
            Self::BLevel => Box::new(List::new("b-level", Order::Upward, Choice::Earliest)),
            Self::Locality => Box::new(List::new("locality", Order::Fifo, Choice::Bytes)),
            Self::Heft => Box::new(Plan::heft()),
            Self::Peft => Box::new(Plan::peft()),
            Self::MinMin => Box::new(Batch::new("min-min", Rule::MinMin)),
            Self::MaxMin => Box::new(Batch::new("max-min", Rule::MaxMin)),
            Self::Sufferage => Box::new(Batch::new("sufferage", Rule::Sufferage)),
            Self::Delay(wait) => Box::new(Delay::new(wait)),
            Self::Stealing(push) => Box::new(Stealing::new(push)),
            Self::PowerOfTwo(probes) => Box::new(Sparrow::new(probes)),
        }
    }

    fn with_settings(self, section: &Section<'_>) -> Result<Self, ConfigError> {
        Ok(match self {
            Self::Delay(usual) => {
                let wait = section.number("wait", Unit::Seconds, 0.0..=WAIT_MAX)?;
                Self::Delay(wait.map_or(usual, Span::from_seconds))
            }
            Self::Stealing(usual) => {
                let ways = [("origin", Push::Origin), ("random", Push::Random)];
                Self::Stealing(section.choice("push", &ways)?.unwrap_or(usual))
            }
            Self::PowerOfTwo(usual) => {
                let probes = section.integer("probes", 1..=PROBES_MAX)?;
                Self::PowerOfTwo(probes.map_or(usual, |probes| probes as u32))
            }
            other => other,
        })
    }
}

/// What `[policy]` of a scenario names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyChoice {
    /// A policy of this crate.
    Named(PolicyName),
    /// A program.
    External(Invocation),
}

impl PolicyChoice {
    /// Reads `name` and the keys of that policy, of which `taken` belong to somebody else.
    pub fn read(section: &Section<'_>, taken: &[&str]) -> Result<Self, ConfigError> {
        let mut names = PolicyName::ALL.map(|(name, policy)| (name, Some(policy))).to_vec();
        names.push(("external", None));
        let allowed: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let name = section.need("name", section.choice("name", &names)?, &allowed.join(", "))?;
        for (key, owner) in KEYS {
            if section.has(key) && !taken.contains(&key) && section.text("name")? != Some(owner) {
                let problem = format!("without {owner}");
                return Err(section.wrong(
                    key,
                    problem,
                    match key {
                        "probes" => format!("only with name = {owner:?} or claims = \"probing\""),
                        _ => format!("only with name = {owner:?}"),
                    },
                ));
            }
        }
        match name {
            Some(name) => Ok(Self::Named(name.with_settings(section)?)),
            None => Ok(Self::External(read_invocation(section)?)),
        }
    }

    /// The policy of a node that is called the same, if there is one.
    pub fn placement(&self) -> Option<PlacementName> {
        match self {
            Self::Named(name) => name.make().name().parse().ok(),
            Self::External(_) => None,
        }
    }

    /// A fresh policy.
    pub fn make(&self) -> Box<dyn Policy> {
        match self {
            Self::Named(name) => name.make(),
            Self::External(invocation) => Box::new(External::new(invocation.clone())),
        }
    }
}

fn read_invocation(section: &Section<'_>) -> Result<Invocation, ConfigError> {
    let allowed = "an array of the program and its arguments, such as [\"python3\", \"policy.py\"]";
    let command = section.texts("command", WORDS_MAX, allowed)?;
    let command = section.need("command", command, allowed)?;
    let timeout = section.number("timeout", Unit::Seconds, 1e-3..=TIMEOUT_MAX)?;
    Ok(Invocation {
        command: command.into_iter().map(str::to_owned).collect(),
        directory: section.directory(),
        timeout: Duration::from_secs_f64(timeout.unwrap_or(TIMEOUT)),
    })
}
