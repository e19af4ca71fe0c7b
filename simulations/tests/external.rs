//! Policies that are programs. Python 3 must be there.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::path::Path;

use mesh_simulations::run::Outcome;
use tempfile::TempDir;

/// Builds on hosts that come and go, of unequal speeds, with leases in advance.
const ROUGH: &str = "title = 'rough'
    fidelity = 'flow'
    [platform]
    control = '2 ms'
    detection = '3 s'
    [[platform.hosts]]
    name = 'desk'
    count = 2
    cores = 2
    memory = '8 GB'
    access = { bandwidth = '100 Mbit/s', latency = '5 ms' }
    [[platform.hosts]]
    name = 'volunteer'
    count = 12
    cores = 3
    memory = '2 GB'
    speed = { distribution = 'lognormal', mean = 1, cv = 0.5 }
    access = { bandwidth = '20 Mbit/s', latency = '20 ms' }
    churn = { up = { distribution = 'weibull', shape = 0.7, scale = 20 }, down = 8 }
    [workload]
    kind = 'make'
    units = 60
    libraries = 4
    compile = { distribution = 'lognormal', mean = 3, cv = 1 }
    toolchain = '5 MB'
    arrivals = { count = 4, users = 3, every = { distribution = 'exponential', mean = 20 } }
    [policy]
    name = 'fifo'
    ahead = 1";

fn run(text: &str, settings: &[&str], directory: &Path, seed: u64) -> Result<Outcome, String> {
    let scenario = common::scenario(text, settings, directory).unwrap();
    scenario.run(seed).map_err(|error| error.to_string())
}

#[test]
fn the_example_does_what_fifo_does() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    assert!(fs::read_to_string(examples.join("policy.py")).unwrap().lines().count() < 60);
    let example = ["policy.name=external", "policy.command=['python3', 'policy.py']"];
    let growing = "workload={kind = 'fibonacci', n = 9, memo = false, call = 2, add = 0.5}";
    // Two at once on each desk, and nowhere else.
    let large = "workload={kind = 'bag', tasks = 15, memory = '3 GB', work = 2}";
    let mut repeated = 0;
    for seed in 1..=3 {
        for more in [&[][..], &["policy.ahead=0"], &[growing], &[large]] {
            let told = run(ROUGH, more, &examples, seed).unwrap();
            let asked = run(ROUGH, &[&example, more].concat(), &examples, seed).unwrap();
            assert_eq!(asked.summary.makespan, told.summary.makespan);
            assert_eq!(asked.summary, told.summary);
            repeated += told.summary.aborted;
        }
    }
    assert!(repeated > 100, "{repeated}: the test is too gentle");
}

/// Six tasks of a second, one after the other, on two hosts of one core.
const SMALL: &str = "title = 'small'
    [platform]
    [[platform.hosts]]
    name = 'w'
    count = 2
    [workload]
    kind = 'fan'
    stages = 2
    width = 1
    work = 1
    split = 1
    join = 1
    [policy]
    name = 'external'
    command = ['python3', 'policy.py']";

/// Runs a program that leaves its process number in a file; it must be gone afterwards.
fn run_program(program: &str, settings: &[&str]) -> Result<Outcome, String> {
    let directory = TempDir::new().unwrap();
    let head = "import json, os, sys, time\nopen('pid', 'w').write(str(os.getpid()))\n\
                def say(answer): print(json.dumps(answer), flush=True)\n";
    fs::write(directory.path().join("policy.py"), format!("{head}{program}")).unwrap();
    let outcome = run(SMALL, settings, directory.path(), 1);
    let pid = fs::read_to_string(directory.path().join("pid")).unwrap();
    assert!(!Path::new("/proc").join(&pid).exists(), "{pid} is still there");
    outcome
}

/// One that greets, and then does this with every message `m`.
fn each(body: &str) -> String {
    let greet = "sys.stdin.readline()\nsay({'version': 1})\n";
    format!("{greet}for line in sys.stdin:\n  m = json.loads(line)\n  {body}\n")
}

fn error(program: &str) -> String {
    run_program(program, &[]).unwrap_err()
}

#[test]
fn programs_that_fail_end_the_run_with_a_reason_and_are_gone() {
    let at_once = error("sys.exit(3)");
    assert_eq!(
        at_once,
        "at 0 s policy external: python3 policy.py ended too early (exit status: 3)"
    );
    let first = "say({'place': [{'task': 0, 'host': 0}]}) if m['now'] == 0 else";
    let later = error(&each(&format!("{first} sys.exit(4)")));
    assert_eq!(later, "at 1 s policy external: python3 policy.py ended too early (exit status: 4)");
    let closed = error(&each("os.close(1); time.sleep(1000)"));
    assert!(closed.contains("ended too early (signal: 9"), "{closed}");

    let text = error(&each("print('hello', flush=True)"));
    assert!(text.contains("at 0 s") && text.contains("no answer: expected value"), "{text}");
    assert!(text.ends_with("column 1: hello"), "{text}");
    let field = error(&each("say({'place': [], 'when': 3})"));
    assert!(field.contains("unknown field `when`"), "{field}");
    let version = error("sys.stdin.readline(); say({'version': 2}); sys.stdin.readline()");
    assert!(version.ends_with("python3 policy.py speaks version 2 of the messages, not 1"));
    // In one write, so that both are there when the first is read.
    let put = r#"{"place": [{"task": 0, "host": 0}]}"#;
    let twice = error(&each(&format!(r"print('{put}\n{{}}', flush=True)")));
    assert!(
        twice.starts_with("at 1 s") && twice.ends_with("wrote more than one line: {}"),
        "{twice}"
    );
    let long = error(&each("print('x' * (1 << 25), flush=True)"));
    assert!(long.ends_with("wrote a line of more than 16777216 bytes"), "{long}");
}

#[test]
fn impossible_placements_say_when_and_why() {
    let place = |what: &str| error(&each(&format!("say({{'place': {what}}})")));
    assert_eq!(
        place("[{'task': 1, 'host': 0}]"),
        "at 0 s policy external placed task 1 on host 0: the task is not ready"
    );
    let unknown = place("[{'task': 77, 'host': 0}]");
    assert!(unknown.ends_with("task 77 on host 0: the task is not ready"), "{unknown}");
    let nowhere = place("[{'task': 0, 'host': 2}]");
    assert!(nowhere.ends_with("task 0 on host 2: no such host"), "{nowhere}");
    let negative = place("[{'task': -1, 'host': 0}]");
    assert!(negative.contains("invalid value: integer `-1`"), "{negative}");
    let nothing = place("[]");
    assert_eq!(nothing, "policy external leaves 6 tasks unplaced");
    // On the same core as another of the same instant.
    let bag = "workload={kind = 'bag', tasks = 3, work = 1}";
    let run = |body: &str| run_program(&each(body), &[bag]).unwrap_err();
    let full = run("say({'place': [{'task': t, 'host': 0} for t in m['ready']]})");
    assert!(full.ends_with("placed task 1 on host 0: the host has no room"), "{full}");
    let over = run("say({'place': [{'task': t, 'host': t % 2} for t in m['ready']]})");
    assert!(over.ends_with("placed task 2 on host 0 when no host had room any more"), "{over}");
}

#[test]
fn programs_that_hang_are_given_up() {
    // A shell starts fast enough to have said who it is by then.
    let hang = |script: &str, hosts: &str| {
        let command = format!("policy.command=['sh', '-c', \"echo -n $$ > pid; {script}\"]");
        let settings = ["policy.timeout=2 s", &command, &format!("platform.hosts.0.count={hosts}")];
        run_program("", &settings).unwrap_err()
    };
    let deaf = hang("read start; echo '{\\\"version\\\": 1}'; exec sleep 1000", "2");
    assert!(deaf.ends_with("did not answer for 2s (policy.timeout)"), "{deaf}");
    // It never reads, and a pipe holds less than all hosts.
    let blind = hang("exec sleep 1000", "5000");
    assert!(blind.ends_with("did not read for 2s"), "{blind}");
}

#[test]
fn a_program_may_ask_to_be_asked_again() {
    let body = "say({'place': [{'task': t, 'host': 1} for t in ready], 'wake': None} \
                if m['now'] % 1 == 0.5 else {'place': [], 'wake': m['now'] + 0.5})";
    let keeps = "ready = []\nsys.stdin.readline()\nsay({'version': 1})\nfor line in sys.stdin:\n  \
                 m = json.loads(line)\n  ready = [t for t in ready + m['ready']]\n";
    let forget = "  if m['now'] % 1 == 0.5: ready = []\n";
    let outcome = run_program(&format!("{keeps}  {body}\n{forget}"), &[]).unwrap();
    let placed: Vec<f64> = outcome.tasks.iter().map(|task| task.placed.seconds()).collect();
    assert!(placed.iter().all(|at| at % 1.0 == 0.5), "{placed:?}");
    let past = error(&each("say({'place': [], 'wake': m['now']})"));
    assert!(past.ends_with("asked again at 0 s, which is not later than now"), "{past}");
}

#[test]
fn a_program_that_cannot_start_is_no_mistake_of_the_scenario_but_ends_its_run() {
    let directory = TempDir::new().unwrap();
    let missing = ["policy.command=['./no-such-policy', 'x']"];
    let error = run(SMALL, &missing, directory.path(), 1).unwrap_err();
    assert!(
        error.starts_with("at 0 s policy external: ./no-such-policy x does not start: "),
        "{error}"
    );

    let read = |setting: &str| common::scenario(SMALL, &[setting], directory.path()).unwrap_err();
    let empty = read("policy.command=[]");
    assert_eq!(
        empty,
        "--set: policy.command: 0 of them; allowed: an array of the program and its arguments, such as [\"python3\", \"policy.py\"]"
    );
    let text = read("policy.command='python3 policy.py'");
    assert!(text.contains("policy.command: text; allowed: an array"), "{text}");
    let other = read("policy.name=fifo");
    assert!(other.contains("policy.command: without external"), "{other}");
    let protocol = read("fidelity=protocol");
    assert!(protocol.contains("critical-path"), "{protocol}");
}
