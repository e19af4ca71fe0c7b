//! Owner: how much of a machine others may use now, and why not more.
//!
//! Goals: an owner who comes back has the machine within seconds; one who only looked at the clock
//! does not make work come and go; whoever asks is told the reason. Non-goals: measuring (the node
//! does), and stopping what runs (that is as nice as it was asked to be, and ends by itself).
//!
//! ```text
//!            busy or on battery                      quiet for QUIET_US
//!  (given) ---------------------> (held back) -----------------------------> (given)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Time;

/// What an owner wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wishes {
    /// Cores that thunks may keep busy.
    pub slots: u32,
    /// Only while nobody else uses the machine, and it is not on battery.
    pub only_when_idle: bool,
}

/// What a machine looks like at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Cores that others' processes kept busy since the last look, in thousandths.
    pub others_permille: u32,
    /// Is it running on a battery?
    pub on_battery: bool,
}

/// Why a machine gives less than its owner offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// The owner said so.
    Paused,
    /// Somebody uses it.
    InUse,
    /// It is on battery.
    OnBattery,
}

/// For people.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "paused by its owner",
            Self::InUse => "in use by its owner",
            Self::OnBattery => "on battery",
        })
    }
}

/// The machine.
#[derive(Debug)]
pub struct Owner {
    wishes: Wishes,
    paused: bool,
    held: Option<Reason>,
    /// Since when there has been no reason.
    quiet_since: Option<Time>,
}

impl Owner {
    /// Nothing was seen yet: a machine that is to help only when idle waits until it has been.
    pub fn new(wishes: Wishes) -> Self {
        let held = wishes.only_when_idle.then_some(Reason::InUse);
        Self { wishes, paused: false, held, quiet_since: None }
    }

    /// The owner says: nothing, or as before.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Takes what was seen.
    pub fn see(&mut self, now: Time, seen: Seen) {
        if !self.wishes.only_when_idle {
            return;
        }
        // Once it is given, a little is not taken for somebody's return.
        let bound = match self.held {
            Some(_) => limits::OWNER_QUIET_PERMILLE,
            None => limits::OWNER_BUSY_PERMILLE,
        };
        let reason = match seen {
            Seen { on_battery: true, .. } => Some(Reason::OnBattery),
            Seen { others_permille, .. } if others_permille > bound => Some(Reason::InUse),
            Seen { .. } => None,
        };
        if reason.is_some() {
            self.held = reason;
            self.quiet_since = None;
            return;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now - since >= limits::OWNER_QUIET_US {
            self.held = None;
        }
    }

    /// Slots that are given now, and why not all of them.
    pub fn given(&self) -> (u32, Option<Reason>) {
        let reason = self.paused.then_some(Reason::Paused).or(self.held);
        (if reason.is_some() { 0 } else { self.wishes.slots }, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Seen = Seen { others_permille: 20, on_battery: false };
    const BUSY: Seen = Seen { others_permille: 900, on_battery: false };

    fn at(seconds: u64) -> Time {
        Time::from_us(seconds * 1_000_000)
    }

    fn idle_only() -> Owner {
        Owner::new(Wishes { slots: 4, only_when_idle: true })
    }

    /// Sees a quiet machine until it gives.
    fn settled() -> Owner {
        let mut owner = idle_only();
        owner.see(at(0), QUIET);
        owner.see(at(limits::OWNER_QUIET_US / 1_000_000), QUIET);
        assert_eq!(owner.given(), (4, None));
        owner
    }

    #[test]
    fn an_owner_who_does_not_mind_shares_always() {
        let mut owner = Owner::new(Wishes { slots: 4, only_when_idle: false });
        owner.see(at(0), Seen { on_battery: true, ..BUSY });
        assert_eq!(owner.given(), (4, None));
        owner.pause(true);
        assert_eq!(owner.given(), (0, Some(Reason::Paused)));
        owner.pause(false);
        assert_eq!(owner.given(), (4, None));
    }

    #[test]
    fn a_machine_is_given_after_it_has_been_quiet_for_a_while() {
        let mut owner = idle_only();
        assert_eq!(owner.given(), (0, Some(Reason::InUse)));
        owner.see(at(0), QUIET);
        owner.see(at(40), QUIET);
        owner.see(at(50), BUSY);
        owner.see(at(70), QUIET);
        owner.see(at(100), QUIET);
        assert_eq!(owner.given(), (0, Some(Reason::InUse)), "it was in use meanwhile");
        owner.see(at(130), QUIET);
        assert_eq!(owner.given(), (4, None));
    }

    #[test]
    fn an_owner_who_comes_back_has_it_at_once() {
        let mut owner = settled();
        owner.see(at(200), BUSY);
        assert_eq!(owner.given(), (0, Some(Reason::InUse)));
        let mut owner = settled();
        owner.see(at(200), Seen { on_battery: true, ..QUIET });
        assert_eq!(owner.given(), (0, Some(Reason::OnBattery)));
    }

    #[test]
    fn a_little_use_changes_nothing() {
        let little = (limits::OWNER_QUIET_PERMILLE + limits::OWNER_BUSY_PERMILLE) / 2;
        let little = Seen { others_permille: little, on_battery: false };
        let mut owner = settled();
        owner.see(at(200), little);
        assert_eq!(owner.given(), (4, None), "it stays given");
        let mut owner = idle_only();
        (0..100).for_each(|second| owner.see(at(second), little));
        assert_eq!(owner.given().0, 0, "it stays held back");
    }
}
