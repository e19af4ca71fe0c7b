//! Faults that come and go, drawn from a seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{Members, Random, name};

/// The longest time from one change to the next.
const PAUSE_MS_MAX: u64 = 800;

/// What can be wrong with a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `kill -9`, and gone until it is over.
    Killed,
    /// `kill -9`, and started again at once.
    Restarted,
    /// `SIGINT`, and gone until it is over.
    Interrupted,
    /// `SIGSTOP` until it is over: connections stay, and nothing is said.
    Frozen,
    /// Cut off, together with all others that are; frames are lost without a sign.
    CutOff,
    /// The plug is pulled.
    Unplugged,
    /// So many of a hundred frames are lost, in each direction.
    Lossy(u32),
    /// Frames take so many milliseconds, in each direction.
    Slow(u32),
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Killed,
        Self::Restarted,
        Self::Interrupted,
        Self::Frozen,
        Self::CutOff,
        Self::Unplugged,
        Self::Lossy(5),
        Self::Slow(50),
    ];

    fn begin(self, members: &mut Members, number: usize) {
        match self {
            Self::Killed => members.take(number).kill(),
            Self::Restarted => {
                members.take(number).kill();
                members.start(number);
            }
            Self::Interrupted => members.node(number).ask_to_end(),
            Self::Frozen => members.node(number).freeze(),
            Self::CutOff => {}
            Self::Unplugged => members.network().unplug(number),
            Self::Lossy(percent) => members.network().lose(number, percent),
            Self::Slow(milliseconds) => drop(members.network().delay(number, milliseconds)),
        }
    }

    fn end(self, members: &mut Members, number: usize) {
        match self {
            Self::Killed => members.start(number),
            Self::Restarted | Self::CutOff => {}
            Self::Interrupted => {
                // It may be at it still.
                members.take(number).kill();
                members.start(number);
            }
            Self::Frozen => members.node(number).thaw(),
            Self::Unplugged => members.network().plug(number),
            Self::Lossy(_) => members.network().lose(number, 0),
            Self::Slow(_) => drop(members.network().delay(number, 0)),
        }
    }
}

/// Random faults of some nodes. The seed decides on which, and when one comes or goes; how far the
/// nodes are by then is up to the machine.
#[derive(Debug)]
pub struct Chaos {
    random: Random,
    victims: Vec<usize>,
    faults: Vec<Fault>,
    current: BTreeMap<usize, Fault>,
    /// As many have none at any time.
    spared: usize,
    started: Instant,
}

impl Chaos {
    /// All kinds of faults for these nodes, of which one at least has none at any time.
    pub fn new(random: Random, victims: Vec<usize>) -> Self {
        let (faults, current) = (Fault::ALL.to_vec(), BTreeMap::new());
        Self { random, victims, faults, current, spared: 1, started: Instant::now() }
    }

    /// These kinds only.
    #[must_use]
    pub fn of(mut self, faults: &[Fault]) -> Self {
        self.faults = faults.to_vec();
        self
    }

    /// How long things stay as they are now.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.below(PAUSE_MS_MAX))
    }

    /// One fault comes or goes.
    #[track_caller]
    pub fn step(&mut self, members: &mut Members) {
        let number = *self.random.choose(&self.victims);
        let fault = *self.random.choose(&self.faults);
        if let Some(fault) = self.current.remove(&number) {
            self.note(number, fault, "over");
            self.cut_off(members);
            fault.end(members, number);
        } else if self.current.len() + self.spared < self.victims.len() {
            self.note(number, fault, "begins");
            if fault != Fault::Restarted {
                self.current.insert(number, fault);
            }
            self.cut_off(members);
            fault.begin(members, number);
        }
    }

    /// All faults go.
    #[track_caller]
    pub fn end(mut self, members: &mut Members) {
        for (number, fault) in std::mem::take(&mut self.current) {
            self.cut_off(members);
            fault.end(members, number);
        }
    }

    fn cut_off(&self, members: &mut Members) {
        let cut_off = self.current.iter().filter(|(_, fault)| **fault == Fault::CutOff);
        let cut_off: Vec<usize> = cut_off.map(|(number, _)| *number).collect();
        members.network().partition(&cut_off);
    }

    fn note(&self, number: usize, fault: Fault, what: &str) {
        let ms = self.started.elapsed().as_millis();
        eprintln!("{ms:>6} ms: {}: {fault:?} {what}", name(number));
    }
}
