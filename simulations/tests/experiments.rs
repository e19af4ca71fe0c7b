//! Sweeps and comparisons.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::{Comparison, Grid, Progress, Scenario, Sweep, run_seeds};
use mesh_simulations::report::{RunReport, SweepReport, write_trace};
use mesh_simulations::workload::{Graph, ObjectOrigin, TaskId};

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

/// A `make` of two hosts: sources, dependencies and three classes.
const MAKE: &str = "title = 'a </title><script>alert(1)</script>'
    about = '\"&<b>'
    [platform]
    [[platform.hosts]]
    name = '<i>'
    cores = 2
    [[platform.hosts]]
    name = 'other'
    cores = 2
    [workload]
    kind = 'make'
    units = 30
    libraries = 2
    compile = { distribution = 'lognormal', mean = 10, cv = 1 }
    link = 2
    [policy]
    name = 'fifo'";

#[test]
fn a_run_s_trace_is_the_run_and_can_be_replayed() {
    let document = Document::parse(MAKE, "make.toml", Path::new("")).unwrap();
    let scenario = Scenario::read(&document).unwrap();
    let (graph, outcome) = (scenario.workload.build(1).unwrap(), scenario.run(1).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.json");
    let file = fs::File::create(&path).unwrap();
    assert_eq!(write_trace(file, &scenario, 1, (&graph, &outcome)).unwrap(), 0);

    let text = fs::read_to_string(&path).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let rows_of = |key: &str, value: &str| {
        let events = events.iter().filter(|event| event[key] == value);
        events.map(|event| format!("{} {}", event["pid"], event["tid"])).collect::<BTreeSet<_>>()
    };
    assert_eq!(rows_of("name", "thread_name"), rows_of("ph", "X"), "each row has its name");
    let labels = events.iter().filter(|event| event["ph"] == "M").count();
    assert_eq!(labels, 2 + rows_of("ph", "X").len(), "and each machine");
    assert_eq!(events.len(), labels + 3 * graph.tasks().len());
    let waits = events.iter().filter(|event| event["cat"] == "queue");
    let ids: BTreeSet<_> = waits.map(|wait| wait["id2"]["local"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), graph.tasks().len(), "a wait each, of its machine");

    let mut again = Document::parse(MAKE, "again.toml", directory.path()).unwrap();
    let workload = "workload={ kind = 'trace', file = 'trace.json' }";
    again.set(workload).unwrap();
    let again = Scenario::read(&again).unwrap().workload.build(1).unwrap();
    let depends = |graph: &Graph| {
        let tasks = (0..graph.tasks().len() as u32).map(TaskId);
        let edges = tasks.flat_map(|task| {
            let makers =
                graph.inputs(task).iter().filter_map(|object| match graph.object(*object).origin {
                    ObjectOrigin::Product(maker) => Some(graph.task(maker).work.round()),
                    _ => None,
                });
            let work = graph.task(task).work.round();
            makers.map(move |maker| (maker as u64, work as u64)).collect::<Vec<_>>()
        });
        let mut edges: Vec<_> = edges.collect();
        edges.sort_unstable();
        edges
    };
    assert_eq!(depends(&again), depends(&graph), "the same work waits for the same");
    assert_eq!(depends(&graph).len(), 30 + 2, "objects into archives, archives into the link");
}

#[test]
fn a_report_is_whole_bounded_and_the_same_each_time() {
    let document = Document::parse(MAKE, "make.toml", Path::new("")).unwrap();
    let scenario = Scenario::read(&document).unwrap();
    let runs = run_seeds(&scenario, &[1, 2, 3]).unwrap();
    let (graph, outcome) = (scenario.workload.build(1).unwrap(), scenario.run(1).unwrap());
    let report = RunReport {
        document: &document,
        scenario: &scenario,
        runs: &runs,
        graph: &graph,
        outcome: &outcome,
    };
    let page = report.html();
    assert_eq!(page, report.html());
    for hostile in ["<script", "<b>", "<i>", "http:", "https:"] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(hostile);
        assert!(!found, "{hostile} in {page}");
    }
    assert_eq!(page.matches("<svg").count(), 4, "seeds, Gantt, completion, cores");
    assert_eq!(page.matches("<rect").count(), graph.tasks().len() + graph.classes().len());
    assert!(page.contains("kind = &#39;make&#39;"), "the scenario is in it");
    assert!(page.contains("<td>makespan_s</td>"));
}

#[test]
fn a_report_of_many_tasks_stays_small_and_says_so() {
    let document =
        document(&["workload.tasks=50000", "platform.hosts.0.count=2000", "workload.work=1"]);
    let scenario = Scenario::read(&document).unwrap();
    let runs = run_seeds(&scenario, &[1]).unwrap();
    let (graph, outcome) = (scenario.workload.build(1).unwrap(), scenario.run(1).unwrap());
    let (document, scenario, runs) = (&document, &scenario, runs.as_slice());
    let report = RunReport { document, scenario, runs, graph: &graph, outcome: &outcome };
    let page = report.html();
    assert!(page.len() < 1_500_000, "{}", page.len());
    assert!(page.contains(" of 50000 tasks: those of the first "), "it says what is left out");
}

#[test]
fn a_sweep_s_report_has_its_table() {
    let directory = tempfile::tempdir().unwrap();
    let (_, table) = sweep(&[], directory.path(), 2);
    let scenario = Scenario::read(&document(&[])).unwrap();
    let page = SweepReport::read(table.as_bytes(), 2).unwrap().html(&document(&[]), &scenario);
    assert!(page.contains("6 combinations, 2 seeds each"));
    // Makespan, ratio, utilisation: a curve for each policy, a point for each number of hosts.
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(page.matches("<polyline").count(), 3 * 3);
    assert_eq!(page.matches("<circle").count(), 3 * 6);
}
