//! How jobs end, and that nothing of them is left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use mesh_node::doctor::Status;
use mesh_node::exec::{Engine, Exit, SandboxOptions, Turn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use seccompiler::{SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

use super::Case;
use super::world::{World, job};

pub(crate) const CASES: &[Case] = &[
    ("ends::codes_and_signals", codes_and_signals),
    ("ends::programs_that_do_not_start", programs_that_do_not_start),
    ("ends::as_nice_as_asked", as_nice_as_asked),
    ("ends::timeout_kills_the_whole_tree", timeout_kills_the_whole_tree),
    ("ends::daemons_do_not_outlive_the_program", daemons_do_not_outlive_the_program),
    ("ends::dropping_the_future_kills", dropping_the_future_kills),
    ("ends::memory_limit", memory_limit),
    ("ends::memory_of_jobs_in_turn", memory_of_jobs_in_turn),
    ("ends::memory_limit_without_control_groups", memory_limit_without_control_groups),
    ("ends::networks_of_jobs", networks_of_jobs),
    ("ends::fork_bomb", fork_bomb),
    ("ends::names_that_may_not_be_set", names_that_may_not_be_set),
    ("ends::many_at_once", many_at_once),
    ("ends::no_program_starts_before_its_turn", no_program_starts_before_its_turn),
    ("ends::dropping_before_the_turn_leaves_nothing", dropping_before_the_turn_leaves_nothing),
    ("ends::first_processes_are_made_ahead", first_processes_are_made_ahead),
    ("ends::the_launcher_ends_with_the_engine", the_launcher_ends_with_the_engine),
    ("ends::killing_the_engine_kills_all", killing_the_engine_kills_all),
];

/// The argument that makes this program the one that is killed.
pub(crate) const VICTIM: &str = "--be-the-victim";

fn codes_and_signals() {
    let world = World::new();
    for (script, exit) in [
        ("true", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -KILL $$", Exit::Signal(9)),
        // The first process of the sandbox is not to be hit from inside.
        ("kill -KILL 1; kill -TERM 1; exit 5", Exit::Code(5)),
    ] {
        assert_eq!(world.run(world.script(script, &[])).exit, exit, "{script}");
    }
}

fn programs_that_do_not_start() {
    let world = World::new();
    for (bytes, exit) in [(None, 127), (Some("not a program\n"), 126), (Some("#!/no/such\n"), 127)]
    {
        let mut spec = world.script("", &[]);
        spec.function.executable = super::world::path("/in/program");
        if let Some(bytes) = bytes {
            let input = mesh_protocol::thunk::Input::executable(world.put(bytes));
            spec.inputs.insert(super::world::path("/in/program"), input);
        }
        let outcome = world.run(spec);
        assert_eq!(outcome.exit, Exit::Code(exit));
        let text = world.text(outcome.stderr);
        assert!(text.starts_with("mesh: cannot execute /in/program: "), "{text}");
    }
}

/// Children of this process's launchers, by the launchers' command line; then their children.
fn inits() -> Vec<Pid> {
    children_of(std::process::id())
        .into_iter()
        .flat_map(|pid| children_of(pid.as_raw_nonzero().get() as u32))
        .collect()
}

fn children_of(pid: u32) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let text =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let pids: Vec<i32> = text
        .flat_map(|t| t.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().filter_map(Pid::from_raw).collect()
}

/// Descriptors of everything below a process.
fn descendants(pid: u32) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    let mut todo = children_of(pid);
    while let Some(pid) = todo.pop() {
        todo.extend(children_of(pid.as_raw_nonzero().get() as u32));
        found.extend(pidfds(&[pid]));
    }
    found
}

/// Of those that are still there.
fn pidfds(pids: &[Pid]) -> Vec<OwnedFd> {
    pids.iter().flat_map(|pid| rustix::process::pidfd_open(*pid, PidfdFlags::empty())).collect()
}

/// It is forever.
const MINUTE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Waits until all of them have ended.
fn wait_for_end(pidfds: &[OwnedFd]) {
    for pidfd in pidfds {
        let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
        let ready = rustix::event::poll(&mut polled, Some(&MINUTE)).unwrap();
        assert_eq!(ready, 1, "a process is still there");
    }
}

/// A shell that stays, with a daemon: started in a session of its own by a process that is gone.
const STAYS: &str = "(setsid sh -c 'echo ready; exec sleep 1000' &) ; sleep 1000";

fn timeout_kills_the_whole_tree() {
    let world = World::new();
    let mut spec = world.script(STAYS, &["sleep"]);
    world.add_program(&mut spec, "/usr/bin/setsid");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    // Until the time is enough for the daemon to be there, however busy this machine is.
    for timeout_ms in [200, 800, 3_200, 12_800, 51_200] {
        spec.limits.timeout_ms = timeout_ms;
        let begun = std::time::Instant::now();
        let outcome = world.run(spec.clone());
        assert_eq!(outcome.exit, Exit::TimedOut);
        assert!(begun.elapsed().as_millis() >= timeout_ms.into());
        // Both streams were closed by all, or this would not have ended.
        if world.text(outcome.stdout) == "ready\n" {
            return;
        }
    }
    panic!("the daemon never started");
}

fn daemons_do_not_outlive_the_program() {
    let world = World::new();
    let script = "(setsid sh -c 'echo daemon > out; exec sleep 1000' &); \
                  while [ ! -s out ]; do :; done";
    let mut spec = world.script(script, &["sleep"]);
    world.add_program(&mut spec, "/usr/bin/setsid");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    let outcome = world.run(spec);
    assert_eq!(outcome.exit, Exit::Code(0));
    assert_eq!(world.file(&outcome, "out").0, b"daemon\n");
}

fn dropping_the_future_kills() {
    let world = World::new();
    let spec = world.script("sleep 1000", &["sleep"]);
    let pidfds = world.runtime.block_on(async {
        let mut running = world.engine.run(job(spec));
        let pidfds = tokio::select! {
            outcome = &mut running => panic!("{outcome:?}"),
            pidfds = async {
                // The job is there when the launcher has a child with a child.
                loop {
                    let inits = inits();
                    let deep = inits.iter().any(|pid| !children_of(pid.as_raw_nonzero().get() as u32).is_empty());
                    if deep {
                        break descendants(children_of(std::process::id())[0].as_raw_nonzero().get() as u32);
                    }
                    tokio::task::yield_now().await;
                }
            } => pidfds,
        };
        drop(running);
        pidfds
    });
    assert!(pidfds.len() >= 2);
    wait_for_end(&pidfds);
}

fn eat(world: &World) -> mesh_protocol::thunk::ThunkSpec {
    // `tail` keeps the last line, which never ends, in memory.
    let mut spec = world.script("tail /dev/zero", &[]);
    world.add_program(&mut spec, "/usr/bin/tail");
    spec.function.environment.insert("PATH".to_owned(), "/usr/bin".to_owned());
    spec.limits.memory_bytes = Some(64 << 20);
    spec
}

fn memory_limit() {
    let world = World::new();
    let outcome = world.run(eat(&world));
    assert_eq!(outcome.exit, Exit::OutOfMemory, "{}", world.text(outcome.stderr));
    assert!(outcome.usage.memory_peak_bytes >= 32 << 20);
    // What fits is left alone.
    let mut spec = world.script("echo fine", &[]);
    spec.limits.memory_bytes = Some(64 << 20);
    assert_eq!(world.stdout_of(spec), "fine\n");
}

/// What bounds and counts one job says nothing of the one before.
fn memory_of_jobs_in_turn() {
    let world = World::new();
    let hold = |mib: u64, limit_mib: Option<u64>| {
        let bytes = mib << 20;
        let mut spec = world.script(
            &format!("head -c {bytes} /dev/zero | tail -c {bytes} | wc -c"),
            &["head", "tail", "wc"],
        );
        spec.limits.memory_bytes = limit_mib.map(|mib| mib << 20);
        let outcome = world.run(spec);
        (outcome.exit, outcome.usage.memory_peak_bytes >> 20)
    };
    for _ in 0..2 {
        let (exit, peak) = hold(100, Some(256));
        assert!(exit == Exit::Code(0) && (100..256).contains(&peak), "{exit:?}, {peak} MiB");
        let (exit, peak) = hold(1, None);
        assert!(exit == Exit::Code(0) && peak < 50, "{exit:?}, {peak} MiB");
        assert_eq!(hold(100, Some(64)).0, Exit::OutOfMemory);
        let (exit, peak) = hold(1, Some(64));
        assert!(exit == Exit::Code(0) && peak < 50, "{exit:?}, {peak} MiB");
    }
}

fn memory_limit_without_control_groups() {
    let world = World::with(SandboxOptions { control_groups: false, ..Default::default() });
    assert!(world.engine.control_groups().is_empty());
    let outcome = world.run(eat(&world));
    assert_eq!(outcome.exit, Exit::OutOfMemory);
    assert!(outcome.usage.memory_peak_bytes > 64 << 20);
}

fn as_nice_as_asked() {
    let niceness = |nice| {
        let world = World::with(SandboxOptions { nice, ..Default::default() });
        let outcome = world.run(world.script("nice", &["nice"]));
        assert_eq!(outcome.exit, Exit::Code(0));
        world.text(outcome.stdout).trim().parse::<u8>().unwrap()
    };
    let usual = niceness(0);
    assert_eq!(niceness(7), (usual + 7).min(19));
}

/// Jobs that run at once have a network each, and where one has sent something no other comes.
fn networks_of_jobs() {
    let world = World::new();
    let spec = |more: &str| {
        let script = format!("grep lo: /proc/self/net/dev; readlink /proc/self/ns/net; {more}");
        world.script(&script, &["grep", "readlink", "sleep", "bash"])
    };
    for _ in 0..5 {
        let said = world.stdout_of(spec("bash -c 'echo hello > /dev/udp/127.0.0.1/9'"));
        let mut counts = said.lines().next().unwrap().split_whitespace().skip(1);
        assert!(counts.all(|count| count == "0"), "somebody was here: {said}");
    }
    world.runtime.block_on(async {
        let jobs = (0..4).map(|_| {
            let (engine, job) = (world.engine.clone(), job(spec("sleep 0.5")));
            tokio::spawn(async move { engine.run(job).await })
        });
        let mut networks = std::collections::BTreeSet::new();
        for job in jobs.collect::<Vec<_>>() {
            networks.insert(world.text(job.await.unwrap().unwrap().stdout));
        }
        assert_eq!(networks.len(), 4, "{networks:?}");
    });
}

fn fork_bomb() {
    let world = World::with(SandboxOptions { processes_max: 50, ..Default::default() });
    let script = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done";
    let outcome = world.run(world.script(script, &["sleep"]));
    assert_ne!(outcome.exit, Exit::Code(0));
    let errors = world.text(outcome.stderr);
    assert!(errors.contains("Cannot fork"), "{errors}");
}

/// What isolates nothing is no reason not to run, and the doctor sees it as the engine does.
fn names_that_may_not_be_set() {
    use seccompiler::SeccompCmpArgLen::Qword;
    let unshares = |flag: libc::c_int| {
        let flag = flag as u64;
        let set = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, Qword, set, flag).unwrap()]).unwrap()
    };
    let rules = BTreeMap::from([
        (libc::SYS_sethostname, Vec::new()),
        (libc::SYS_unshare, vec![unshares(libc::CLONE_NEWCGROUP)]),
    ]);
    let fail = SeccompAction::Errno(libc::EPERM as u32);
    let target = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fail, target).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let world = World::new();
    assert_eq!(world.run(world.script("exit 3", &[])).exit, Exit::Code(3));
    let checks = mesh_node::doctor::probe();
    let of = |name: &str| checks.iter().find(|check| check.name == name).unwrap();
    assert_eq!(of("a host name").status, Status::Limited, "{checks:?}");
    assert_eq!(of("a whole sandbox").status, Status::Works, "{checks:?}");
    assert!(checks.iter().all(|check| check.status != Status::Broken), "{checks:?}");
}

fn many_at_once() {
    let world = World::new();
    world.runtime.block_on(async {
        let jobs = (0..20).map(|n| {
            let (engine, job) =
                (world.engine.clone(), job(world.script(&format!("exit {n}"), &[])));
            tokio::spawn(async move { engine.run(job).await })
        });
        for (n, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
            let outcome = job.await.unwrap().unwrap();
            assert_eq!(outcome.exit, Exit::Code(n as i32), "{}", world.text(outcome.stderr));
        }
    });
}

/// Until there are so many first processes.
async fn inits_are(count: usize) -> Vec<Pid> {
    loop {
        let inits = inits();
        if inits.len() == count {
            return inits;
        }
        tokio::task::yield_now().await;
    }
}

fn no_program_starts_before_its_turn() {
    let world = World::new();
    let spec = world.script("exec date +%s%N", &["date"]);
    let (came, outcome) = world.runtime.block_on(async {
        let (turn, waits) = Turn::new();
        let mut running = world.engine.run_in_turn(job(spec), waits);
        tokio::select! {
            outcome = &mut running => panic!("{outcome:?}"),
            _ = inits_are(1) => {}
        }
        // One that comes later starts and ends before.
        let other = world.engine.run(job(world.script("exit 0", &[]))).await;
        assert!(other.unwrap().is_success());
        let came = std::time::SystemTime::now();
        turn.send(()).unwrap();
        (came, running.await.unwrap())
    });
    assert!(outcome.is_success(), "{outcome:?}");
    let started: u128 = world.text(outcome.stdout).trim().parse().unwrap();
    let came = came.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(started >= came.as_nanos(), "{started} {came:?}");
}

fn dropping_before_the_turn_leaves_nothing() {
    let world = World::new();
    let pidfds = world.runtime.block_on(async {
        let (_turn, waits) = Turn::new();
        let mut running = world.engine.run_in_turn(job(world.script("exit 0", &[])), waits);
        tokio::select! {
            outcome = &mut running => panic!("{outcome:?}"),
            inits = inits_are(1) => pidfds(&inits),
        }
    });
    wait_for_end(&pidfds);
    assert_eq!(world.run(world.script("exit 3", &[])).exit, Exit::Code(3), "others go on");
}

fn first_processes_are_made_ahead() {
    let world = World::with(SandboxOptions { ready: 2, ..Default::default() });
    let mut ended = Vec::new();
    let mut run = |spec| {
        // Two that wait, beside those that have ended and may still be seen.
        let waiting = world.runtime.block_on(async {
            loop {
                let mut inits = inits();
                inits.retain(|pid| !ended.contains(pid));
                if inits.len() == 2 {
                    break inits;
                }
                tokio::task::yield_now().await;
            }
        });
        let fds = pidfds(&waiting);
        let outcome = world.run(spec);
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        assert_eq!(rustix::event::poll(&mut polled, Some(&MINUTE)).unwrap(), 1, "it took one");
        let of_it = polled.iter().position(|fd| !fd.revents().is_empty()).unwrap();
        ended.push(waiting[of_it]);
        (waiting[1 - of_it], outcome)
    };
    let script = "echo /proc/[0-9]*; grep lo: /proc/self/net/dev | tr -s ' 0' ' '";
    let (_, outcome) = run(world.script(script, &["grep", "tr"]));
    let said = world.text(outcome.stdout);
    assert_eq!(said, "/proc/1 /proc/2\n lo: \n", "as in a sandbox that was made for it");
    let (left, outcome) = run(eat(&world));
    assert_eq!(outcome.exit, Exit::OutOfMemory, "bounds hold");
    // One that dies is no job's end.
    let fds = pidfds(&[left]);
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
    wait_for_end(&fds);
    for _ in 0..2 {
        assert_eq!(world.run(world.script("exit 3", &[])).exit, Exit::Code(3));
    }
    let all = descendants(std::process::id());
    drop(world);
    wait_for_end(&all);
}

fn the_launcher_ends_with_the_engine() {
    let world = World::new();
    let pidfds = descendants(std::process::id());
    assert_eq!(pidfds.len(), 1);
    drop(world);
    wait_for_end(&pidfds);
}

/// Runs a job that says so and stays, and waits to be killed.
pub(crate) fn be_the_victim() {
    let world = World::new();
    let mut spec = world.script(STAYS, &["sleep"]);
    world.add_program(&mut spec, "/usr/bin/setsid");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    println!("{}", world.directory.path().display());
    world.run(spec);
}

fn killing_the_engine_kills_all() {
    let mut victim =
        Command::new("/proc/self/exe").arg(VICTIM).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap());
    let mut directory = String::new();
    lines.read_line(&mut directory).unwrap();
    // Launcher, init, shell, its sleep, and the daemon's sleep.
    let pidfds = loop {
        let pidfds = descendants(victim.id());
        if pidfds.len() >= 5 {
            break pidfds;
        }
        std::thread::yield_now();
    };
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_for_end(&pidfds);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    std::fs::remove_dir_all(directory.trim()).unwrap();
}
