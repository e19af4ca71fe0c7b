//! The policies of a requester by name. Whoever lets people choose, the node and the simulator, goes by
//! these tables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sched::lease::LeasePolicy;
use crate::sched::policy::PlacementName;
use crate::sched::speculation::SpeculationName;

/// No policy is called so.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{name:?} is unknown; allowed: {allowed}")]
pub struct UnknownPolicy {
    name: String,
    allowed: String,
}

/// Which policies a requester has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PolicyNames {
    /// What is leased next.
    pub placement: PlacementName,
    /// What is leased twice.
    pub speculation: SpeculationName,
}

impl PolicyNames {
    /// Fresh policies of these names; the seed is for those that draw.
    pub fn make(self, seed: u64) -> LeasePolicy {
        LeasePolicy { placement: self.placement.make(seed), speculation: self.speculation.make() }
    }
}

impl PlacementName {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::Random => "random",
            Self::CriticalPath => "critical-path",
            Self::BLevel => "b-level",
            Self::Locality => "locality",
        }
    }

    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        (Self::Fifo.name(), Self::Fifo),
        (Self::Lifo.name(), Self::Lifo),
        (Self::Random.name(), Self::Random),
        (Self::CriticalPath.name(), Self::CriticalPath),
        (Self::BLevel.name(), Self::BLevel),
        (Self::Locality.name(), Self::Locality),
    ];
}

impl SpeculationName {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ours => "ours",
            Self::Late => "late",
            Self::Clone => "clone",
        }
    }

    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        (Self::None.name(), Self::None),
        (Self::Ours.name(), Self::Ours),
        (Self::Late.name(), Self::Late),
        (Self::Clone.name(), Self::Clone),
    ];
}

/// Names of a table, for people.
pub fn allowed<T>(table: &[(&'static str, T)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn find<T: Copy>(table: &[(&'static str, T)], name: &str) -> Result<T, UnknownPolicy> {
    let known = table.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
    known.ok_or_else(|| UnknownPolicy { name: name.to_owned(), allowed: allowed(table) })
}

impl FromStr for PlacementName {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        find(&Self::ALL, name)
    }
}

impl FromStr for SpeculationName {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        find(&Self::ALL, name)
    }
}

impl fmt::Display for PlacementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for SpeculationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::level::Level;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_told_what_there_is() {
        for (name, meaning) in PlacementName::ALL {
            assert_eq!((name.parse(), meaning.to_string()), (Ok(meaning), name.to_owned()));
        }
        for (name, meaning) in SpeculationName::ALL {
            assert_eq!((name.parse(), meaning.to_string()), (Ok(meaning), name.to_owned()));
        }
        let refused = "heft".parse::<PlacementName>().unwrap_err().to_string();
        assert_eq!(
            refused,
            "\"heft\" is unknown; allowed: fifo, lifo, random, critical-path, b-level, locality"
        );
        let refused = "".parse::<SpeculationName>().unwrap_err().to_string();
        assert_eq!(refused, "\"\" is unknown; allowed: none, ours, late, clone");
    }

    #[test]
    fn the_default_names_are_of_what_a_lease_machine_has_by_default() {
        let mut named = PolicyNames::default().make(1);
        let mut own = LeasePolicy::default();
        for (thunks, us) in [(0, 9), (1, 0), (7, 3)] {
            let level = Level { thunks, us };
            assert_eq!(named.placement.key(level, 3, 0), own.placement.key(level, 3, 0));
        }
        let mut last_first = PlacementName::Lifo.make(1);
        assert!(last_first.key(Level::default(), 2, 0) < last_first.key(Level::default(), 1, 0));
    }
}
