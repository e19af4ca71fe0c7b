//! `mesh sim`: what it prints and writes, and that it depends on nothing but scenario and seeds.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_tests::{Finished, Mesh, Project, binary, finished};
use serde_json::Value;

/// Twelve tasks of a second on four cores: three rounds, whatever the seed.
const SCENARIO: &str = r#"title = "Twelve seconds of work"
seeds = 3

[platform]
control = "0 ms"

[[platform.hosts]]
name = "worker"
count = 2
cores = 2
memory = "1 GB"

[workload]
kind = "bag"
tasks = 12
work = 1

[policy]
name = "fifo"
"#;

struct Place {
    mesh: Mesh,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { mesh: Mesh::new(), directory: tempfile::tempdir().unwrap() }
    }

    fn scenario(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("scenario.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn sim(&self, command: &str, scenario: &Path, more: &[&str]) -> Finished {
        let path = scenario.to_str().unwrap();
        self.mesh.run(["sim", command, path].iter().chain(more))
    }

    /// What a run under so many threads writes.
    fn written(&self, scenario: &Path, threads: &str) -> [Vec<u8>; 4] {
        let out = self.directory.path().join(format!("out-{threads}"));
        let arguments = ["sim".as_ref(), "run".as_ref(), scenario.as_os_str(), "--out".as_ref()];
        let mut command = self.mesh.command(arguments.into_iter().chain([out.as_os_str()]));
        finished(command.env("RAYON_NUM_THREADS", threads).output().unwrap()).ok();
        ["summary.csv", "tasks.csv", "trace.json", "report.html"]
            .map(|name| fs::read(out.join(name)).unwrap())
    }
}

#[test]
fn a_run_says_what_arithmetic_says() {
    let place = Place::new();
    let run = place.sim("run", &place.scenario(SCENARIO), &["--json"]).ok();
    let run: Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["seeds"], 3);
    let makespan = run["columns"]["makespan_s"]["mean"].as_f64().unwrap();
    assert!((makespan - 3.0).abs() < 1e-9, "{run}");
}

#[test]
fn one_thread_and_two_write_the_same_bytes() {
    let place = Place::new();
    let random =
        SCENARIO.replace("work = 1\n", "work = { distribution = \"exponential\", mean = 1 }\n");
    let scenario = place.scenario(&random);
    let written = place.written(&scenario, "1");
    assert!(written == place.written(&scenario, "2"), "another thread changes a file");
    let [summary, tasks, trace, report] = written;
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    assert_eq!(trace["otherData"]["simulated"]["seed"], 1);
    assert!(String::from_utf8(report).unwrap().contains("Twelve seconds of work</title>"));
    let summary = String::from_utf8(summary).unwrap();
    assert_eq!(summary.lines().count(), 1 + 3, "a header and a row for each seed: {summary}");
    assert_eq!(String::from_utf8(tasks).unwrap().lines().count(), 1 + 12);
}

#[test]
fn a_sweep_leaves_a_table_and_a_report() {
    let place = Place::new();
    let out = place.directory.path().join("sweep");
    let more = ["--over", "platform.hosts.0.count=1,2", "--out", out.to_str().unwrap()];
    let said = place.sim("sweep", &place.scenario(SCENARIO), &more).ok();
    assert_eq!(Path::new(said.trim_end()), out.join("summary.csv"));
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("2 combinations, 3 seeds each"), "{report}");
}

#[test]
fn validation_counts_without_running() {
    let place = Place::new();
    let found = place.sim("validate", &place.scenario(SCENARIO), &["--json"]).ok();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["hosts"], 2);
    assert_eq!(found["cores"], 4);
    assert_eq!(found["tasks"], 12);
    assert_eq!(found["work_s"], 12.0);
    assert_eq!(found["critical_path_s"], 1.0);
}

#[test]
fn a_mistake_is_named_with_its_line_and_what_is_allowed() {
    let place = Place::new();
    let scenario = place.scenario(&SCENARIO.replace("\"fifo\"", "\"fastest\""));
    let line = SCENARIO.lines().position(|line| line.contains("fifo")).unwrap() + 1;
    for command in ["run", "validate"] {
        let said = place.sim(command, &scenario, &[]);
        assert_eq!(said.code, Some(65), "{said:?}");
        for part in [format!("scenario.toml:{line}: policy.name: "), "critical-path".to_owned()] {
            assert!(said.stderr.contains(&part), "{part:?} in {said:?}");
        }
    }
}

#[test]
fn a_task_that_fits_no_host_is_found() {
    let place = Place::new();
    let scenario = place.scenario(&SCENARIO.replace("work = 1\n", "work = 1\nmemory = \"2 GB\"\n"));
    let said = place.sim("validate", &scenario, &[]);
    assert_eq!(said.code, Some(65), "{said:?}");
    assert!(said.stderr.contains("12 tasks need more memory than any host has"), "{said:?}");
}

#[test]
fn gossip_and_claims_cost_what_being_told_does_not() {
    let place = Place::new();
    let scenario = place.scenario(SCENARIO);
    let column = |fidelity: &str, column: &str| {
        let run = place.sim("run", &scenario, &["--json", "--set", fidelity]).ok();
        let run: Value = serde_json::from_str(&run).unwrap();
        run["columns"][column]["mean"].as_f64().unwrap_or_else(|| panic!("no {column} in {run}"))
    };
    assert_eq!(column("fidelity=fast", "messages"), 0.0);
    assert!(column("fidelity=protocol", "messages") > 12.0);
    let asked = column("fidelity=protocol", "makespan_s");
    assert!((3.0..4.0).contains(&asked), "{asked}");
}

#[test]
fn a_real_build_is_recorded_and_replayed() {
    let (project, mesh) = (Project::own("slow"), Mesh::new());
    let mut command = project.command(binary());
    command.env("MESH_HOME", mesh.home()).args(["build", "--local", "--trace", "trace.json", "--"]);
    finished(command.arg("make").output().unwrap()).ok();
    let trace = project.directory().join("trace.json");
    let trace = trace.to_str().unwrap();
    let replay = |more: &[&str]| {
        let said = mesh.run(["sim", "replay", trace, "--json"].iter().chain(more)).ok();
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let column = |run: &Value, column: &str| run["columns"][column]["mean"].as_f64().unwrap();
    let alone = replay(&["--hosts", "0", "--set", "platform.hosts.0.cores=1"]);
    assert_eq!(alone["recorded"]["runs"], 6, "five compiles and a link");
    assert_eq!(alone["notes"], serde_json::json!([]), "nothing is missing");
    assert_eq!((column(&alone, "tasks"), column(&alone, "bytes_moved")), (6.0, 0.0));
    let common = ["--hosts", "3", "--set", "platform.hosts.1.cache=common"];
    let helped = replay(&[&common[..], &["--set", "platform.hosts.0.cores=1"]].concat());
    assert!(column(&helped, "makespan_s") < column(&alone, "makespan_s"), "{helped} {alone}");
    // Whatever ran, the tools that it needs are more than the sources.
    let cold = replay(&["--hosts", "3", "--set", "platform.hosts.0.cores=1"]);
    assert!(column(&cold, "bytes_moved") > 1e7, "{cold}");
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let place = Place::new();
    let said = place.sim("replay", &place.scenario("{\"traceEvents\": []}"), &[]);
    assert_eq!(said.code, Some(65), "{said:?}");
    assert!(said.stderr.contains("not a trace of mesh build"), "{said:?}");
    let said = place.mesh.run(["sim", "replay", "nowhere.json"]);
    assert_eq!(said.code, Some(66), "{said:?}");
}

#[test]
fn a_recording_of_thunks_that_do_nothing_calibrates_a_machine() {
    let place = Place::new();
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../simulations/scenarios/traces");
    let calibrate = |name: &str| {
        let trace = traces.join(name);
        place.mesh.run([
            "sim",
            "calibrate",
            trace.to_str().unwrap(),
            "--cores",
            "2",
            "--lease",
            "0.7",
        ])
    };
    let machine = calibrate("nothing.json").ok();
    assert!(machine.contains("lease = \"0.700 ms\"\nsandbox = \"6.8"), "{machine}");
    let scenario = format!("fidelity = \"protocol\"\n{SCENARIO}\n{machine}");
    let counted = place.sim("validate", &place.scenario(&scenario), &[]).ok();
    assert!(counted.contains("12 tasks"), "{counted}");
    let said = calibrate("sleeps.json");
    assert_eq!(said.code, Some(65), "{said:?}");
    assert!(said.stderr.contains("record some that do nothing"), "{said:?}");
}
