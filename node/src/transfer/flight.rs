//! What is being fetched: whoever wants the same meanwhile waits for it.
//!
//! There is no task behind a flight. Who leads it does so inside their own future, and when that is
//! dropped, one of those who wait leads in their turn, with the sources that they know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::name::ValueName;
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct Flights(Mutex<BTreeMap<ValueName, watch::Receiver<()>>>);

/// What one caller has to fetch, and what others fetch for it.
pub(super) struct Boarded {
    pub(super) leads: Leads,
    pub(super) follows: Vec<Follow>,
}

/// Objects that nobody else fetches as long as this lives.
pub(super) struct Leads {
    flights: Arc<Flights>,
    held: BTreeMap<ValueName, watch::Sender<()>>,
}

/// An object that somebody else fetches.
pub(super) struct Follow(watch::Receiver<()>);

impl Flights {
    pub(super) fn board(self: &Arc<Self>, names: BTreeSet<ValueName>) -> Boarded {
        let mut held = BTreeMap::new();
        let mut follows = Vec::new();
        let mut flights = self.lock();
        for name in names {
            match flights.get(&name) {
                Some(landing) => follows.push(Follow(landing.clone())),
                None => {
                    let (sender, landing) = watch::channel(());
                    flights.insert(name, landing);
                    held.insert(name, sender);
                }
            }
        }
        Boarded { leads: Leads { flights: Arc::clone(self), held }, follows }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ValueName, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leads {
    pub(super) fn names(&self) -> impl Iterator<Item = ValueName> {
        self.held.keys().copied()
    }

    /// It is here, or will not come: those who wait look again.
    pub(super) fn land(&mut self, name: ValueName) {
        if let Some(sender) = self.held.remove(&name) {
            self.flights.lock().remove(&name);
            drop(sender);
        }
    }

    /// A part of them, to be led apart.
    pub(super) fn split(&mut self, apart: impl Fn(ValueName) -> bool) -> Self {
        let (apart, rest) =
            std::mem::take(&mut self.held).into_iter().partition(|(n, _)| apart(*n));
        self.held = rest;
        Self { flights: Arc::clone(&self.flights), held: apart }
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        for name in self.held.keys() {
            flights.remove(name);
        }
    }
}

impl Follow {
    /// Comes back when the flight has ended, well or not.
    pub(super) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_and_the_others_take_over_when_it_is_gone() {
        let flights = Arc::new(Flights::default());
        let name = ValueName::of(b"x");
        let both = || BTreeSet::from([name, ValueName::of(b"y")]);
        let mut first = flights.board(both());
        assert_eq!((first.leads.names().count(), first.follows.len()), (2, 0));
        let mut second = flights.board(both());
        assert_eq!((second.leads.names().count(), second.follows.len()), (0, 2));
        first.leads.land(name);
        let again = flights.board(both());
        assert_eq!(again.leads.names().collect::<Vec<_>>(), [name], "it landed");
        let large = first.leads.split(|_| true);
        drop(first);
        assert_eq!(flights.board(both()).follows.len(), 2);
        drop((large, again));
        for follow in second.follows.drain(..) {
            follow.landed().await;
        }
        assert!(flights.lock().is_empty());
    }
}
