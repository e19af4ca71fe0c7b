//! `cargo bench -p mesh-simulations --bench runs`: whole runs, in CPU seconds of one core, and the peak
//! memory of the process so far.

use std::fs;
use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;

/// Independent tasks of about a second without data, on hosts of one core.
fn bag(nodes: u32, tasks: u32) -> String {
    format!(
        "title = 'bag of {tasks} on {nodes}'
         [platform]
         [[platform.hosts]]
         name = 'w'
         count = {nodes}
         speed = {{ distribution = 'lognormal', mean = 1, cv = 0.3 }}
         [workload]
         kind = 'bag'
         tasks = {tasks}
         work = {{ distribution = 'lognormal', mean = 1, cv = 1 }}
         [policy]
         name = 'fifo'"
    )
}

/// The same with data: a common object, an input and an output each, through shared links.
fn bag_with_data(nodes: u32, tasks: u32) -> String {
    let text = bag(nodes, tasks)
        .replace("count", "access = { bandwidth = '100 Mbit/s', latency = '5 ms' }\n count")
        .replace("tasks =", "common = '10 MB'\n input = '50 kB'\n output = '50 kB'\n tasks =");
    format!("fidelity = 'flow'\n{text}")
}

fn main() {
    println!(
        "{:<40} {:>8} {:>10} {:>12} {:>9}",
        "run", "CPU s", "events", "events/CPU s", "peak MB"
    );
    for text in [
        bag(10_000, 1_000_000),
        bag(100_000, 1_000_000),
        bag_with_data(100, 10_000),
        bag_with_data(1_000, 20_000),
    ] {
        let start = cpu_seconds();
        let run = Document::parse(&text, "bench", Path::new(""))
            .map_err(|error| error.to_string())
            .and_then(|document| Scenario::read(&document).map_err(|error| error.to_string()))
            .and_then(|scenario| {
                let outcome = scenario.run(1).map_err(|error| error.to_string())?;
                Ok((scenario.title, outcome.summary.events))
            });
        let took = cpu_seconds() - start;
        match run {
            Ok((title, events)) => {
                let rate = events as f64 / took;
                println!("{title:<40} {took:>8.2} {events:>10} {rate:>12.0} {:>9}", peak_mb());
            }
            Err(error) => println!("{error}"),
        }
    }
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns: f64 = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN);
    ns / 1e9
}

fn peak_mb() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1000
}
