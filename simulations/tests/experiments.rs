//! Sweeps and comparisons.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::{Comparison, Grid, Progress, Scenario, Sweep, run_seeds};

const TEXT: &str = "title = 'bag'
    [platform]
    [[platform.hosts]]
    name = 'w'
    count = 4
    speed = { distribution = 'lognormal', mean = 1, cv = 0.5 }
    [workload]
    kind = 'bag'
    tasks = 60
    work = { distribution = 'lognormal', mean = 10, cv = 1 }
    [policy]
    name = 'fifo'";

fn document(settings: &[&str]) -> Document {
    let mut document = Document::parse(TEXT, "test.toml", Path::new("")).unwrap();
    settings.iter().for_each(|setting| document.set(setting).unwrap());
    document
}

fn grid(axes: &[&str]) -> Grid {
    let mut grid = Grid::default();
    axes.iter().for_each(|axis| grid.add(axis).unwrap());
    grid
}

fn sweep(settings: &[&str], directory: &Path, threads: usize) -> (Progress, String) {
    let grid = grid(&["platform.hosts.0.count=2,4", "policy.name=fifo,lifo,critical-path"]);
    let sweep = Sweep::new(&document(settings), &grid, &[1, 2]).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let progress = pool.install(|| sweep.run(directory)).unwrap();
    (progress, fs::read_to_string(directory.join("summary.csv")).unwrap())
}

#[test]
fn a_sweep_goes_on_where_it_was_and_threads_change_nothing() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (progress, whole) = sweep(&[], one.path(), 1);
    assert_eq!(progress, Progress { run: 6, found: 0 });
    assert_eq!(whole.lines().count(), 1 + 6 * 2);
    assert!(whole.starts_with("platform.hosts.0.count,policy.name,seed,makespan_s,"), "{whole}");
    assert!(whole.lines().nth(3).unwrap().starts_with("2,lifo,1,"), "{whole}");
    assert_eq!(sweep(&[], two.path(), 2).1, whole);

    // Two cells are missing, and one is of another scenario.
    let cells = one.path().join("cells");
    fs::remove_file(cells.join("00001.csv")).unwrap();
    fs::remove_file(cells.join("00004.csv")).unwrap();
    let other =
        fs::read_to_string(cells.join("00002.csv")).unwrap().replacen("scenario ", "scenario f", 1);
    fs::write(cells.join("00002.csv"), other).unwrap();
    assert_eq!(sweep(&[], one.path(), 2), (Progress { run: 3, found: 3 }, whole.clone()));

    // Another setting is another sweep.
    let (progress, changed) = sweep(&["workload.tasks=50"], one.path(), 2);
    assert_eq!(progress, Progress { run: 6, found: 0 });
    assert_ne!(changed, whole);
}

#[test]
fn sweeps_tell_mistakes_before_they_run() {
    let error =
        |axes: &[&str]| Sweep::new(&document(&[]), &grid(axes), &[1]).unwrap_err().to_string();
    let unknown = error(&["policy.name=fifo,best"]);
    assert!(
        unknown.starts_with("--set: policy.name: \"best\" is unknown; allowed: fifo"),
        "{unknown}"
    );
    let values: Vec<String> = (1..200).map(|n| n.to_string()).collect();
    let many = format!("workload.tasks={}", values.join(","));
    assert!(error(&[&many, &many.replace("tasks", "common")]).contains("at most 10000"));
    assert!(Grid::default().add("policy.name").is_err());
    assert!(Grid::default().add("policy.name=fifo,,lifo").is_err());
}

fn compare(second: &[&str], seeds: u64) -> Comparison {
    let seeds: Vec<u64> = (1..=seeds).collect();
    let run = |settings: &[&str]| {
        run_seeds(&Scenario::read(&document(settings)).unwrap(), &seeds).unwrap()
    };
    Comparison::new(&run(&[]), &run(second))
}

#[test]
fn comparisons_say_what_they_know_and_no_more() {
    let same = compare(&[], 5);
    assert!(same.differences.is_empty());
    assert_eq!(same.sentence("A", "B"), "A and B have the same makespan under all 5 seeds.");

    let clear = compare(&["platform.hosts.0.count=8"], 20);
    let sentence = clear.sentence("A", "B");
    assert!(
        sentence.starts_with("B's makespan is ") && sentence.contains("% shorter"),
        "{sentence}"
    );
    let makespan = clear.differences.iter().find(|d| d.column == "makespan_s").unwrap();
    assert!(makespan.is_clear() && makespan.effect() < -0.8);

    let unclear = compare(&["policy.name=random"], 8).sentence("A", "B");
    assert!(unclear.starts_with("8 paired seeds do not tell A and B apart"), "{unclear}");

    let single = compare(&["policy.name=lifo"], 1).sentence("A", "B");
    assert!(single.contains("one pair says nothing"), "{single}");
}

#[test]
fn the_scenario_of_the_documentation_runs() {
    let guide = include_str!("../../docs/simulator.md");
    let toml = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let document =
        Document::parse(&toml.replace("# see below", ""), "guide", Path::new("")).unwrap();
    let scenario = Scenario::read(&document).unwrap();
    let summary = scenario.run(1).unwrap().summary;
    assert_eq!(summary.tasks, 1000);
}
