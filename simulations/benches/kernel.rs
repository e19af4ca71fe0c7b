//! `cargo bench -p mesh-simulations --bench kernel`: bare events per CPU-second of the kernel, and of two heaps that
//! keep no more than what they must: `std`'s, and the fastest one that was found, `dary_heap`'s of four children.
//!
//! The hold model: every node has one timer; when it fires it is set again at a random time ahead.
//! Nothing else is measured: no policy, no network. Unlike the kernel's queue, the others have no events that can be
//! cancelled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;

use dary_heap::QuaternaryHeap;
use mesh_simulations::kernel::{EventQueue, SimTime, Span};

const EVENTS: u64 = 20_000_000;

/// What is measured.
trait Timers {
    fn set(&mut self, at_ns: u64, node: u32);
    /// When the next one fires, and whose it is.
    fn next(&mut self) -> Option<(u64, u32)>;
}

#[derive(Default)]
struct Kernel(EventQueue<u32>);

impl Timers for Kernel {
    fn set(&mut self, at_ns: u64, node: u32) {
        self.0.schedule(SimTime::ZERO + Span::from_ns(at_ns), node);
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        self.0.pop().map(|(at, node)| ((at - SimTime::ZERO).ns(), node))
    }
}

/// Equal times in the order in which they were set, as everywhere.
type Entry = Reverse<(u64, u64, u32)>;

#[derive(Default)]
struct Std(BinaryHeap<Entry>, u64);

impl Timers for Std {
    fn set(&mut self, at_ns: u64, node: u32) {
        self.1 += 1;
        self.0.push(Reverse((at_ns, self.1, node)));
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        self.0.pop().map(|Reverse((at, _, node))| (at, node))
    }
}

#[derive(Default)]
struct Quaternary(QuaternaryHeap<Entry>, u64);

impl Timers for Quaternary {
    fn set(&mut self, at_ns: u64, node: u32) {
        self.1 += 1;
        self.0.push(Reverse((at_ns, self.1, node)));
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        self.0.pop().map(|Reverse((at, _, node))| (at, node))
    }
}

fn main() {
    println!("M events per CPU-second, the best of three runs of {EVENTS} in turn");
    println!("{:>8} {:>10} {:>16} {:>10}", "nodes", "kernel", "std::BinaryHeap", "dary_heap");
    for nodes in [1_000_u32, 10_000, 100_000, 1_000_000] {
        let mut best = [0.0_f64; 3];
        for _ in 0..3 {
            let rates = [hold::<Kernel>(nodes), hold::<Std>(nodes), hold::<Quaternary>(nodes)];
            best = [0, 1, 2].map(|n: usize| best[n].max(rates[n]));
        }
        let [kernel, std, quaternary] = best;
        println!("{nodes:>8} {kernel:>10.1} {std:>16.1} {quaternary:>10.1}");
    }
}

fn hold<T: Timers + Default>(nodes: u32) -> f64 {
    let mut timers = T::default();
    let mut state = 1_u64;
    let mut delay = || {
        // Cheaper than the queue, so that the queue is measured.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 34
    };
    for node in 0..nodes {
        timers.set(delay(), node);
    }
    let start = cpu_seconds();
    let mut sum = 0_u64;
    for _ in 0..EVENTS {
        if let Some((now, node)) = timers.next() {
            sum = sum.wrapping_add(u64::from(node));
            timers.set(now + delay(), node);
        }
    }
    let took = cpu_seconds() - start;
    assert_ne!(sum, 0);
    EVENTS as f64 / took / 1e6
}

/// CPU time of this thread, which other work on the machine does not inflate as it does the clock.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns: f64 = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN);
    ns / 1e9
}
