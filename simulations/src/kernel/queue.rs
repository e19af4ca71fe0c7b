//! The queue of future events.

use super::heap::MinHeap;
use super::time::SimTime;

/// Bits of an event's order that name its slot; the others count events.
const SLOT_BITS: u32 = 26;
/// The most events that may be pending at once: 67 million, a few per host and per running task at
/// the largest scale that [`crate::limits`] admits.
const PENDING_MAX: usize = 1 << SLOT_BITS;

/// Names a scheduled event, for [`EventQueue::cancel`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId(u64);

/// Events in the order of their times; events of one time in the order in which they were scheduled.
///
/// The heap holds 16-byte keys (time, count, slot), the events wait in a slab. Cancelling frees the
/// slot and leaves the key, which is skipped when it comes up or when too many have gathered.
#[derive(Debug)]
pub struct EventQueue<E> {
    now: SimTime,
    heap: MinHeap,
    slots: Vec<Slot<E>>,
    free: Vec<u32>,
    scheduled: u64,
    fired: u64,
}

#[derive(Debug)]
struct Slot<E> {
    /// The order of the event inside; a heap key with another order is of a cancelled event.
    order: u64,
    event: Option<E>,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self {
            now: SimTime::ZERO,
            heap: MinHeap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            scheduled: 0,
            fired: 0,
        }
    }
}

impl<E> EventQueue<E> {
    /// The time of the event that was popped last.
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// How many events have been popped.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// How many events are to come.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets `event` happen at `at`, or now if that is past.
    ///
    /// # Panics
    /// With more than 67 million events pending, which the limits on scenarios rule out.
    pub fn schedule(&mut self, at: SimTime, event: E) -> EventId {
        let at = at.max(self.now);
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(self.slots.len() < PENDING_MAX, "more than {PENDING_MAX} pending events");
            self.slots.push(Slot { order: 0, event: None });
            (self.slots.len() - 1) as u32
        });
        self.scheduled += 1;
        let order = (self.scheduled << SLOT_BITS) | u64::from(slot);
        self.slots[slot as usize] = Slot { order, event: Some(event) };
        self.heap.push((u128::from(at.ns()) << 64) | u128::from(order));
        EventId(order)
    }

    /// Takes back an event; `None` if it happened already or was cancelled before.
    pub fn cancel(&mut self, id: EventId) -> Option<E> {
        let event = self.take(id.0)?;
        if self.heap.len() > 64 && self.heap.len() > 2 * self.len() {
            let slots = &self.slots;
            self.heap.retain(|key| is_pending(slots, *key as u64));
        }
        Some(event)
    }

    /// The time of the next event.
    pub fn next_time(&mut self) -> Option<SimTime> {
        loop {
            let key = self.heap.peek()?;
            if is_pending(&self.slots, key as u64) {
                return Some(SimTime::from_ns((key >> 64) as u64));
            }
            self.heap.pop();
        }
    }

    /// Takes the next event and moves `now` to its time.
    pub fn pop(&mut self) -> Option<(SimTime, E)> {
        loop {
            let key = self.heap.pop()?;
            if let Some(event) = self.take(key as u64) {
                self.now = SimTime::from_ns((key >> 64) as u64);
                self.fired += 1;
                return Some((self.now, event));
            }
        }
    }

    fn take(&mut self, order: u64) -> Option<E> {
        let slot = slot_of(order);
        let holder = self.slots.get_mut(slot)?;
        if holder.order != order {
            return None;
        }
        let event = holder.event.take()?;
        self.free.push(slot as u32);
        Some(event)
    }
}

fn slot_of(order: u64) -> usize {
    (order & ((1 << SLOT_BITS) - 1)) as usize
}

fn is_pending<E>(slots: &[Slot<E>], order: u64) -> bool {
    slots.get(slot_of(order)).is_some_and(|slot| slot.order == order && slot.event.is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Action {
        Schedule(u64),
        Cancel(usize),
        Pop,
        Peek,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (0_u64..50).prop_map(Action::Schedule),
            2 => any::<usize>().prop_map(Action::Cancel),
            3 => Just(Action::Pop),
            1 => Just(Action::Peek),
        ]
    }

    proptest! {
        /// Against a sorted map.
        #[test]
        fn behaves_as_a_sorted_map(actions in prop::collection::vec(action(), 0..600)) {
            let mut queue = EventQueue::default();
            let mut model = BTreeMap::new();
            let mut ids = Vec::new();
            for (n, action) in actions.into_iter().enumerate() {
                match action {
                    Action::Schedule(delay) => {
                        let at = SimTime::from_ns(queue.now().ns() + delay);
                        ids.push((queue.schedule(at, n), (at, n)));
                        model.insert((at, n), n);
                    }
                    Action::Cancel(which) if !ids.is_empty() => {
                        let (id, key) = ids[which % ids.len()];
                        prop_assert_eq!(queue.cancel(id), model.remove(&key));
                    }
                    Action::Cancel(_) => {}
                    Action::Pop => {
                        let expected = model.pop_first().map(|((at, _), n)| (at, n));
                        prop_assert_eq!(queue.pop(), expected);
                    }
                    Action::Peek => {
                        let expected = model.first_key_value().map(|((at, _), _)| *at);
                        prop_assert_eq!(queue.next_time(), expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            while let Some((at, n)) = queue.pop() {
                prop_assert_eq!(model.pop_first().map(|((at, _), n)| (at, n)), Some((at, n)));
            }
            prop_assert!(model.is_empty());
        }
    }

    #[test]
    fn cancelled_keys_do_not_pile_up() {
        let mut queue = EventQueue::default();
        for n in 0..100_000_u64 {
            let id = queue.schedule(SimTime::from_ns(n + 1_000_000), n);
            queue.cancel(id);
        }
        assert!(queue.heap.len() <= 65, "{}", queue.heap.len());
        assert_eq!(queue.slots.len(), 1);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn the_past_is_now() {
        let mut queue = EventQueue::default();
        queue.schedule(SimTime::from_ns(10), 'a');
        queue.pop();
        queue.schedule(SimTime::from_ns(3), 'b');
        assert_eq!(queue.pop(), Some((SimTime::from_ns(10), 'b')));
    }
}
