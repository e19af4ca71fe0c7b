//! `cargo bench -p mesh-simulations --bench kernel`: bare events per CPU-second of the kernel.
//!
//! The hold model: every node has one timer; when it fires it is set again at a random time ahead.
//! Nothing else is measured: no policy, no network.

use std::fs;

use mesh_simulations::kernel::{EventQueue, SimTime, Span};

const EVENTS: u64 = 20_000_000;

fn main() {
    println!("{:>8} {:>10} {:>14}", "nodes", "events", "M events/CPU-s");
    for nodes in [1_000_u32, 10_000, 100_000, 1_000_000] {
        let mut best = 0.0_f64;
        for _ in 0..3 {
            best = best.max(hold(nodes));
        }
        println!("{nodes:>8} {EVENTS:>10} {best:>14.1}");
    }
}

fn hold(nodes: u32) -> f64 {
    let mut queue = EventQueue::default();
    let mut state = 1_u64;
    let mut delay = || {
        // Cheaper than the queue, so that the queue is measured.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Span::from_ns(state >> 34)
    };
    for node in 0..nodes {
        queue.schedule(SimTime::ZERO + delay(), node);
    }
    let start = cpu_seconds();
    let mut sum = 0_u64;
    for _ in 0..EVENTS {
        if let Some((now, node)) = queue.pop() {
            sum = sum.wrapping_add(u64::from(node));
            queue.schedule(now + delay(), node);
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
