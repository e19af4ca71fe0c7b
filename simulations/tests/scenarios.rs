//! Every scenario runs, small, and shows what it says.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_simulations::config::Document;
use mesh_simulations::experiment::{Calibration, Comparison, Scenario, run_seeds};
use mesh_simulations::kernel::Span;
use mesh_simulations::run::Summary;
use mesh_simulations::workload::Trace;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str, settings: &[&str]) -> Scenario {
    let mut document = Document::read(&directory().join(format!("{name}.toml"))).unwrap();
    settings.iter().for_each(|setting| document.set(setting).unwrap());
    Scenario::read(&document).unwrap()
}

fn run(name: &str, settings: &[&str]) -> Summary {
    let summary = scenario(name, settings).run(1).unwrap().summary;
    assert!(summary.makespan >= summary.lower_bound, "{summary:?}");
    summary
}

/// How many percent longer `second` takes, and whether that is clear, over some seeds.
fn longer(name: &str, first: &[&str], second: &[&str], seeds: u64) -> (f64, bool) {
    let seeds: Vec<u64> = (0..seeds).collect();
    let of = |settings| run_seeds(&scenario(name, settings), &seeds).unwrap();
    let comparison = Comparison::new(&of(first), &of(second));
    let makespan = comparison.differences.iter().find(|d| d.column == "makespan_s").unwrap();
    (100.0 * makespan.difference.mean / makespan.first, makespan.is_clear())
}

#[test]
fn all_are_here_and_say_what_they_show() {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let source = include_str!("scenarios.rs");
    for name in names {
        assert!(source.contains(&format!("\"{name}\"")), "no test runs {name}");
        assert!(
            scenario(&name, &[]).about.split_whitespace().any(|word| word == "Shows"),
            "{name}"
        );
    }
}

#[test]
fn a_team_is_faster_than_one_of_its_machines() {
    let small = ["workload.build=redis"];
    let team = run("team", &small);
    let alone = run("team", &[small[0], "platform.hosts.0.count=1"]);
    assert!(team.makespan < alone.makespan / 1.5, "{} {}", team.makespan, alone.makespan);
    assert!(team.bytes_moved > 7 * 90_000_000);
    assert_eq!(alone.bytes_moved, 0);
    // FFmpeg: without the toolchain more machines take longer, with it they do not.
    let ffmpeg = |count: u32, cache: &str| {
        let settings =
            [format!("platform.hosts.0.count={count}"), format!("platform.hosts.0.cache={cache}")];
        run("team", &settings.each_ref().map(String::as_str)).makespan
    };
    assert!(ffmpeg(64, "cold") > 1.5 * ffmpeg(8, "cold"));
    assert!(ffmpeg(64, "common") < 0.6 * ffmpeg(8, "common"));
}

#[test]
fn a_recorded_build_is_held_up_by_its_compiler() {
    let cold = run("replay", &[]).makespan;
    let common = run("replay", &["platform.hosts.1.cache=common"]).makespan;
    let slow = "access.bandwidth=20 Mbit/s";
    let [here, others] = [0, 1].map(|group| format!("platform.hosts.{group}.{slow}"));
    let slow = run("replay", &[&here, &others]).makespan;
    assert!((2.9..3.1).contains(&cold) && common < 2.0, "{cold} {common}");
    assert!((56.0..57.0).contains(&slow), "{slow}");
}

#[test]
fn lies_that_can_be_checked_cost_little_and_others_everything() {
    let (small, liars) =
        (["workload.tasks=600", "platform.hosts.1.count=40"], "platform.hosts.1.liars");
    let with = |setting: &str| {
        let scenario = scenario("hostile-minority", &[small[0], small[1], setting]);
        scenario.run(1).unwrap().summary
    };
    let none = with(&format!("{liars}.share=0"));
    let bytes = with(&format!("{liars}.share=0.2"));
    let result = with(&format!("{liars}.lie=result"));
    assert!(bytes.lies_found > 0 && bytes.false_results == 0, "{bytes:?}");
    assert!(bytes.makespan < 1.6 * none.makespan, "{} {}", bytes.makespan, none.makespan);
    // One in ten answers at once, and most of the answers are its: less time than the work takes.
    assert!(
        result.false_results > 300 && result.lies_found == 0 && result.ratio < 1.0,
        "{result:?}"
    );

    let with_checks = |cores: &str| {
        let lie = format!("{liars}.lie=result");
        let settings = [small[0], small[1], &lie, "policy.check=5", cores];
        scenario("hostile-minority", &settings).run(1).unwrap().summary
    };
    let [one, many] = ["platform.hosts.0.cores=1", "platform.hosts.0.cores=32"].map(with_checks);
    assert_eq!((one.false_results, many.false_results), (0, 0), "whoever is new is checked");
    assert!(one.liars_found > 0 && many.liars_found == one.liars_found, "{one:?} {many:?}");
    // Ten of each honest worker or more: the user's one core takes as long as they do.
    assert!(one.checks > 300 && one.makespan > 0.95 * one.checked, "{one:?}");
    assert!(many.makespan < one.makespan / 10.0 && many.liar_found < one.liar_found, "{many:?}");
}

#[test]
fn long_tasks_waste_more_of_volunteers() {
    let small = ["workload.tasks=300", "platform.hosts.1.count=50"];
    let share = |work: &str| {
        let seen = run("volunteers", &[small[0], small[1], work]);
        seen.wasted / (seen.utilisation * seen.makespan * 101.0)
    };
    let (short, long) = (share("workload.work.mean=60 s"), share("workload.work.mean=2 h"));
    assert!(long > 3.0 * short && long > 0.1, "{short} {long}");
}

#[test]
fn owners_who_return_cost_time_and_work() {
    let small = ["platform.hosts.0.count=2", "platform.hosts.1.count=20", "workload.width=60"];
    let stages = "workload.stages=60";
    let back = run("owners", &[small[0], small[1], small[2], stages]);
    assert!(back.aborted > 0 && back.repeated > 0 && back.departures == 20, "{back:?}");
    let never = "platform.hosts.1.churn={up = 1e8, down = 1}";
    let stay = run("owners", &[small[0], small[1], small[2], stages, never]);
    assert!(stay.makespan < back.makespan, "{} {}", stay.makespan, back.makespan);
    // What was lost is made again side by side: the job does not wait for the evening.
    assert!(back.makespan < 28_000.0, "{}", back.makespan);
}

#[test]
fn the_last_tasks_of_a_bag_decide() {
    let seen = run("hundred-thousand", &["platform.hosts.0.count=1000", "workload.tasks=10000"]);
    assert!(seen.ratio > 1.1, "{}", seen.ratio);
    assert_eq!(seen.tasks, 10_000);
}

#[test]
fn a_few_stragglers_delay_all() {
    let small = ["workload.stages=3", "workload.width=60"];
    let none = [small[0], small[1], "platform.hosts.0.stragglers.share=0"];
    let (percent, clear) = longer("stragglers", &none, &small, 20);
    // A fiftieth of the tasks is slower; the whole is so by far more.
    assert!(clear && percent > 50.0, "{percent}");
}

#[test]
fn the_first_build_pays_for_every_copy_of_the_toolchain() {
    let small = ["workload.units=60", "platform.hosts.1.count=8"];
    let cold = run("cold-start", &small);
    let warm = run("cold-start", &[small[0], small[1], "platform.hosts.1.cache=common"]);
    // Eight copies of 90 MB over 300 Mbit/s.
    let price = cold.makespan - warm.makespan;
    assert!((price - 19.2).abs() < 1.0, "{} {}", cold.makespan, warm.makespan);
}

#[test]
fn a_thousand_sleeps_take_two_seconds() {
    let makespan = run("sleep", &[]).makespan;
    assert!((makespan - 2.065).abs() < 1e-6, "{makespan}");
}

#[test]
fn short_builds_pay_for_critical_path() {
    let seeds: Vec<u64> = (0..6).collect();
    let slowdown = |policy: &str| {
        let setting = format!("policy.name={policy}");
        let small = ["workload.arrivals.count=60", &setting];
        let runs = run_seeds(&scenario("users", &small), &seeds).unwrap();
        assert!(runs.iter().all(|(_, run)| run.fairness > 0.3 && run.fairness <= 1.0));
        runs.iter().map(|(_, run)| run.slowdown.p95).sum::<f64>() / 6.0
    };
    let (lifo, critical) = (slowdown("lifo"), slowdown("critical-path"));
    assert!(critical > 1.2 * lifo, "{lifo} {critical}");
}

#[test]
fn the_rebase_chain_bounds_the_video() {
    let long = run("video", &["workload.chunks=48", "workload.batch=48"]);
    let short = run("video", &["workload.chunks=48", "workload.batch=4"]);
    assert!(long.makespan > short.makespan + 30.0, "{} {}", long.makespan, short.makespan);
    assert!(long.ratio < 1.2, "{}", long.ratio);
}

#[test]
fn recursion_grows_and_shrinks() {
    let tree = run("recursion", &["workload.n=14"]);
    let chain = run("recursion", &["workload.n=14", "workload.memo=true"]);
    assert_eq!((tree.tasks, chain.tasks), (1828, 28));
    let fifo = run("recursion", &["workload.n=18", "policy.name=fifo"]);
    let lifo = run("recursion", &["workload.n=18", "policy.name=lifo"]);
    assert!(fifo.wait.p95 > 5.0 * lifo.wait.p95, "{:?} {:?}", fifo.wait, lifo.wait);
}

#[test]
fn plans_suffer_from_wrong_estimates() {
    let heft = |cv| ["policy.name=heft", cv];
    let online = |cv| ["policy.name=b-level", cv];
    let at = |cv| longer("estimates", &online(cv), &heft(cv), 6).0;
    let (good, bad) = (at("policy.cv=0.1"), at("policy.cv=1.0"));
    assert!(bad > good + 10.0, "{good} {bad}");
}

#[test]
fn workers_that_ask_are_nearly_as_good_as_workers_that_are_told() {
    let small = "workload.tasks=256";
    let asked = run("workers", &[small]);
    let told = run("workers", &[small, "fidelity=fast"]);
    assert!((2.0..2.1).contains(&told.makespan), "{told:?}");
    assert!((told.makespan..1.5 * told.makespan).contains(&asked.makespan), "{asked:?}");
    assert!(asked.messages > 2 * 256 && told.messages == 0);
}

fn trace(name: &str) -> PathBuf {
    directory().join("traces").join(format!("{name}.json"))
}

/// Held against a mesh of 33 real nodes. What the machine takes comes from a run of other thunks.
#[test]
fn a_mesh_on_one_machine_takes_as_long_as_it_took() {
    let ms = |ms: f64| Span::from_seconds(ms / 1e3);
    let measured = Calibration { cores: Some(2), submit: ms(0.546), lease: ms(0.68) };
    let machine = measured.machine(&trace("nothing")).unwrap();
    let costs = scenario("loopback", &[]).platform.machines[0].costs;
    assert!(
        (costs.sandbox.seconds() - machine.costs.sandbox.seconds()).abs() < 1e-6,
        "{machine:?}"
    );

    let took = Trace::open(&trace("sleeps")).unwrap().recorded().makespan_s;
    let predicted = run("loopback", &[]).makespan / took;
    assert!((0.9..1.1).contains(&predicted), "{predicted} of {took} s");
    let text = std::fs::read_to_string(directory().join("loopback.toml")).unwrap();
    let (before, after) = text.split_once("[workload]").unwrap();
    let (_, after) = after.split_once("[policy]").unwrap();
    let recording = "[workload]\nkind = 'trace'\nfile = 'traces/sleeps.json'\n[policy]";
    let replay = Document::parse(&[before, recording, after].concat(), "replay", &directory());
    let replay = Scenario::read(&replay.unwrap()).unwrap().run(1).unwrap().summary;
    let replayed = replay.makespan / took;
    assert!((0.9..1.1).contains(&replayed), "{replayed} of {took} s");
    // What these nodes would take on 33 machines is not what they took on one.
    let apart = run("workers", &[]).makespan / took;
    assert!(apart < 0.9, "{apart} of {took} s");
}
