//! Who may keep a core busy: thunks, or the commands that the build runs itself.
//!
//! Goals: thunks and unmodelled commands together use no more cores than there are slots, yet no
//! core idles because the build is waiting: a command that waits for a thunk lends its slot. One
//! thunk may always run, so that no command waits for ever.
//! Non-goals: shells, `make` and the like, which mostly wait, are not counted; nor are commands
//! that start while another runs, since they may be parts of one pipeline, where letting one wait
//! for a slot would stop the other for ever.
//!
//! The machine is told what happens and says how many slots thunks may use, how many tokens of
//! the jobserver to hold, and which held commands may go on. It waits for nothing itself.
//!
//! ```text
//!   implicit slot:   commands (if one is active)   or   one thunk
//!   tokens in pipe:  taken by make for a command   or   by us for a thunk
//! ```

use std::collections::{BTreeMap, VecDeque};

/// A process of the build.
pub(crate) type Pid = u32;

/// The machine. See the module's description.
#[derive(Debug)]
pub(crate) struct Slots {
    total: u32,
    /// Does the build take tokens for what it runs beside the first command?
    has_clients: bool,
    /// Unmodelled commands that are alive, and how many of their threads wait for a thunk.
    commands: BTreeMap<Pid, u32>,
    /// Calls and opens that wait for thunks.
    waiting: u32,
    /// Tokens that we hold.
    tokens: u32,
    /// Tokens that nobody holds.
    free_tokens: u32,
    running: u32,
    wanted: u32,
    held: VecDeque<Pid>,
    /// The build command has ended: everything belongs to thunks.
    ended: bool,
}

impl Slots {
    /// A build with so many slots; `has_clients`: its command uses our jobserver.
    pub(crate) fn new(total: u32, has_clients: bool) -> Self {
        Self {
            total: total.max(1),
            has_clients,
            commands: BTreeMap::new(),
            waiting: 0,
            tokens: 0,
            free_tokens: total.max(1) - 1,
            running: 0,
            wanted: 0,
            held: VecDeque::new(),
            ended: false,
        }
    }

    /// What thunks use and could use.
    pub(crate) fn load(&mut self, running: u32, wanted: u32) {
        (self.running, self.wanted) = (running, wanted);
    }

    /// An unmodelled command is about to start. It may go on when [`Slots::release`] says so.
    pub(crate) fn command(&mut self, pid: Pid) {
        self.commands.entry(pid).or_insert(0);
        self.held.push_back(pid);
    }

    /// It turned into something that is not counted, or it ended.
    pub(crate) fn gone(&mut self, pid: Pid) {
        self.commands.remove(&pid);
        self.held.retain(|held| *held != pid);
    }

    /// This process begins to wait for a thunk.
    pub(crate) fn waits(&mut self, pid: Pid) {
        self.waiting += 1;
        self.commands.entry(pid).and_modify(|waiting| *waiting += 1);
    }

    /// It waits no more.
    pub(crate) fn waited(&mut self, pid: Pid) {
        self.waiting = self.waiting.saturating_sub(1);
        self.commands.entry(pid).and_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }

    /// The build command has ended.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// How many tokens we hold, and how many lie in the pipe.
    pub(crate) fn tokens(&mut self, held: u32, free: u32) {
        (self.tokens, self.free_tokens) = (held, free);
    }

    /// How many tokens we should hold now.
    pub(crate) fn tokens_wanted(&self) -> u32 {
        if self.ended || !self.has_clients {
            return 0;
        }
        let beside = self.lent() + self.implicit();
        (self.running + self.wanted).saturating_sub(beside).min(self.total - 1)
    }

    /// How many slots thunks may use now.
    pub(crate) fn for_thunks(&self) -> u32 {
        if self.ended {
            return self.total;
        }
        let slots = if self.has_clients {
            self.tokens + self.lent() + self.implicit()
        } else {
            self.total.saturating_sub(self.active())
        };
        // One must always be able to run: a command may wait for its end in ways that nobody sees,
        // by reading a pipe for example.
        slots.max(1)
    }

    /// The next command that need not wait any longer.
    pub(crate) fn release(&mut self) -> Option<Pid> {
        let others = self.commands.len() - self.held.len();
        let has_room = self.running <= self.for_thunks();
        if others > 0 || has_room { self.held.pop_front() } else { None }
    }

    /// Is a command at work that no model knows?
    pub(crate) fn is_busy(&self) -> bool {
        let is_at_work = |(pid, waiting): (&Pid, &u32)| *waiting == 0 && !self.held.contains(pid);
        self.commands.iter().any(is_at_work)
    }

    /// Commands that run and do not wait.
    fn active(&self) -> u32 {
        let active = self.commands.values().filter(|waiting| **waiting == 0).count();
        u32::try_from(active).unwrap_or(u32::MAX)
    }

    /// The slot that needs no token, unless a command has it.
    fn implicit(&self) -> u32 {
        u32::from(self.active() == 0)
    }

    /// Slots of commands that wait for us.
    fn lent(&self) -> u32 {
        let theirs = (self.total - 1).saturating_sub(self.tokens + self.free_tokens);
        self.waiting.min(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_build_leaves_all_slots_to_thunks_until_it_runs_a_command() {
        let mut slots = Slots::new(2, false);
        slots.load(2, 5);
        assert_eq!(slots.for_thunks(), 2);
        slots.command(10);
        assert_eq!(slots.for_thunks(), 1);
        assert_eq!(slots.release(), None, "two thunks still run");
        assert!(!slots.is_busy());
        slots.load(1, 5);
        assert_eq!(slots.release(), Some(10));
        assert!(slots.is_busy());
        slots.command(11);
        assert_eq!(slots.release(), Some(11), "it may be the other end of a pipe");
        assert_eq!(slots.for_thunks(), 1, "a command may wait for a thunk unseen");
        slots.waits(10);
        slots.waits(11);
        assert_eq!(slots.for_thunks(), 2);
        slots.waited(10);
        assert_eq!(slots.for_thunks(), 1);
        slots.gone(10);
        slots.gone(11);
        assert_eq!(slots.for_thunks(), 2);
    }

    #[test]
    fn a_parallel_build_shares_its_tokens() {
        let mut slots = Slots::new(4, true);
        assert_eq!((slots.for_thunks(), slots.tokens_wanted()), (1, 0));
        slots.load(1, 9);
        assert_eq!(slots.tokens_wanted(), 3);
        slots.tokens(2, 0);
        assert_eq!(slots.for_thunks(), 3, "make has one");
        slots.waits(7);
        assert_eq!(slots.for_thunks(), 4, "and waits for a thunk with it");
        slots.waited(7);
        slots.tokens(2, 1);
        slots.load(1, 0);
        assert_eq!(slots.tokens_wanted(), 0, "what is not used goes back");
    }

    #[test]
    fn one_slot_serves_a_waiting_command() {
        let mut slots = Slots::new(1, true);
        slots.command(3);
        assert_eq!(slots.release(), Some(3));
        assert_eq!(slots.for_thunks(), 1);
        slots.waits(3);
        assert_eq!(slots.for_thunks(), 1);
        slots.waited(3);
        slots.end();
        assert_eq!(slots.for_thunks(), 1);
    }
}
