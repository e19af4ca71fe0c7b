//! How benchmarks measure: CPU time of this thread, the median of several rounds.

const ROUNDS: usize = 5;

/// `cargo test --all-targets` starts benchmarks too, unoptimised; only `cargo bench` says this.
pub(crate) fn is_asked_for() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// CPU time of this thread, in nanoseconds (Linux, proc(5): `schedstat`).
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat is there");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("its first field is a number")
}

/// Prints the median of [`ROUNDS`] rounds of `work`, which handles `count` thunks.
pub(crate) fn measure(label: &str, count: usize, mut work: impl FnMut()) {
    let mut rounds: Vec<u64> = Vec::new();
    for _ in 0..ROUNDS {
        let start = cpu_ns();
        work();
        rounds.push(cpu_ns() - start);
    }
    rounds.sort_unstable();
    let median = rounds[ROUNDS / 2];
    let (ms, each) = (median as f64 / 1e6, median as f64 / 1e3 / count as f64);
    println!("{label:<64} {ms:>9.1} ms  ({each:.2} us)");
}
