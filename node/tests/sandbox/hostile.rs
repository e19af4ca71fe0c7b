//! Thunks that want to break out, or to take the machine. Many checks in one job, each with its name: a job costs
//! more than a check.

use std::collections::BTreeMap;

use mesh_node::exec::plan::{COPY_FILE_BYTES, COPY_TWICE_BYTES};
use mesh_node::exec::{EngineError, Excess, Exit, Outcome, SandboxOptions};
use mesh_protocol::limits;
use mesh_protocol::thunk::{Input, Output, ThunkSpec};
use rustix::io::Errno;

use super::Case;
use super::sees::python;
use super::world::{World, path, tag};

pub(crate) const CASES: &[Case] = &[
    ("hostile::calls", calls),
    ("hostile::sockets", sockets),
    ("hostile::rights_and_limits", rights_and_limits),
    ("hostile::what_is_shared", what_is_shared),
    ("hostile::outputs", outputs),
    ("hostile::memory", memory),
    ("hostile::together", together),
    ("hostile::inputs", inputs),
    ("hostile::time", time),
];

/// What every script begins with. A check prints its name and what came of it: a value, or the number of an error.
const PRELUDE: &str = "
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
def call(*a):
    r = c.syscall(*[ctypes.c_long(n) for n in a])
    return -ctypes.get_errno() if r == -1 else 'done'
def check(name, f):
    try: r = f()
    except OSError as e: r = -e.errno
    if r is None: r = 'done'
    print(name, r, sep='=', flush=True)
";

/// A name, what is done (Python), and what has to come of it.
type Check<'a> = (&'a str, String, Wanted);

#[derive(Clone, Copy)]
enum Wanted {
    Fails(Errno),
    Gives(&'static str),
}

use Wanted::{Fails, Gives};

impl Wanted {
    fn text(self) -> String {
        match self {
            Fails(errno) => format!("-{}", errno.raw_os_error()),
            Gives(text) => text.to_owned(),
        }
    }
}

/// Does all checks in one job, which has these inputs, too.
fn check_all(world: &World, checks: &[Check<'_>], add: impl FnOnce(&mut ThunkSpec)) {
    let mut script = PRELUDE.to_owned();
    for (name, what, _) in checks {
        script.push_str(&format!("check({name:?}, lambda: {what})\n"));
    }
    let mut spec = python(world, &script).expect("this test needs python3");
    add(&mut spec);
    let outcome = world.run(spec);
    let said = world.text(outcome.stdout);
    let found: BTreeMap<&str, &str> = said.lines().filter_map(|l| l.split_once('=')).collect();
    let mut wrong = Vec::new();
    for (name, _, wanted) in checks {
        let found = found.get(name).copied().unwrap_or("nothing");
        if found != wanted.text() {
            wrong.push(format!("{name}: {found} instead of {}", wanted.text()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", world.text(outcome.stderr));
    println!("{} checks: {:?}", checks.len(), checks.iter().map(|c| c.0).collect::<Vec<_>>());
}

fn numbered<'a>(name: &'a str, call: libc::c_long, arguments: &str, errno: Errno) -> Check<'a> {
    (name, format!("call({call}, {arguments})"), Fails(errno))
}

fn denied<'a>(name: &'a str, call: libc::c_long, arguments: &str) -> Check<'a> {
    numbered(name, call, arguments, Errno::PERM)
}

fn missing<'a>(name: &'a str, call: libc::c_long, arguments: &str) -> Check<'a> {
    numbered(name, call, arguments, Errno::NOSYS)
}

fn denied_calls() -> Vec<Check<'static>> {
    let new_user = format!("{},0,0,0,0", libc::CLONE_NEWUSER | libc::SIGCHLD);
    vec![
        denied("mount", libc::SYS_mount, "0,0,0,0,0"),
        denied("umount2", libc::SYS_umount2, "0,0"),
        denied("pivot_root", libc::SYS_pivot_root, "0,0"),
        denied("setns", libc::SYS_setns, "0,0"),
        denied("unshare", libc::SYS_unshare, "0x10000000"),
        denied("clone of a user namespace", libc::SYS_clone, &new_user),
        denied("chroot", libc::SYS_chroot, "0"),
        denied("bpf", libc::SYS_bpf, "0,0,0"),
        denied("add_key", libc::SYS_add_key, "0,0,0,0,0"),
        denied("keyctl", libc::SYS_keyctl, "0,0,0,0,0"),
        denied("request_key", libc::SYS_request_key, "0,0,0,0"),
        denied("userfaultfd", libc::SYS_userfaultfd, "1"),
        denied("perf_event_open", libc::SYS_perf_event_open, "0,0,0,0,0"),
        denied("open_tree", libc::SYS_open_tree, "0,0,0"),
        denied("open_tree_attr", 467, "0,0,0,0,0"),
        denied("move_mount", libc::SYS_move_mount, "0,0,0,0,0"),
        denied("fsopen", libc::SYS_fsopen, "0,0"),
        denied("fsmount", libc::SYS_fsmount, "0,0,0"),
        denied("fspick", libc::SYS_fspick, "0,0,0"),
        denied("mount_setattr", libc::SYS_mount_setattr, "0,0,0,0,0"),
        denied("name_to_handle_at", libc::SYS_name_to_handle_at, "0,0,0,0,0"),
        denied("open_by_handle_at", libc::SYS_open_by_handle_at, "0,0,0"),
        denied("kcmp", libc::SYS_kcmp, "1,1,0,0,0"),
        denied("pidfd_getfd", libc::SYS_pidfd_getfd, "0,0,0"),
        denied("process_madvise", libc::SYS_process_madvise, "0,0,0,0,0"),
        denied("mbind", libc::SYS_mbind, "0,0,0,0,0,0"),
        denied("set_mempolicy", libc::SYS_set_mempolicy, "0,0,0"),
        denied("get_mempolicy", libc::SYS_get_mempolicy, "0,0,0,0,0"),
        denied("migrate_pages", libc::SYS_migrate_pages, "0,0,0,0"),
        denied("move_pages", libc::SYS_move_pages, "0,0,0,0,0,0"),
        denied("quotactl", libc::SYS_quotactl, "0,0,0,0"),
        denied("syslog", libc::SYS_syslog, "3,0,0"),
        denied("reboot", libc::SYS_reboot, "0,0,0,0"),
        denied("acct", libc::SYS_acct, "0"),
        denied("swapon", libc::SYS_swapon, "0,0"),
        denied("sethostname", libc::SYS_sethostname, "0,0"),
        denied("clock_settime", libc::SYS_clock_settime, "0,0"),
        denied("init_module", libc::SYS_init_module, "0,0,0"),
        denied("kexec_load", libc::SYS_kexec_load, "0,0,0,0"),
        denied("fanotify_init", libc::SYS_fanotify_init, "0,0"),
    ]
}

fn calls() {
    let mut checks = denied_calls();
    checks.extend([
        missing("clone3", libc::SYS_clone3, "0,88"),
        missing("io_uring_setup", libc::SYS_io_uring_setup, "1,0"),
        missing("io_setup", libc::SYS_io_setup, "1,0"),
        missing("statmount", 457, "0,0,0,0"),
        missing("listmount", 458, "0,0,0,0"),
        missing("memfd_secret", libc::SYS_memfd_secret, "0"),
        missing("landlock", libc::SYS_landlock_create_ruleset, "0,0,1"),
        missing("a call of the future", 999, "0"),
        denied("READ_IMPLIES_EXEC", libc::SYS_personality, "0x400000"),
        denied("MMAP_PAGE_ZERO", libc::SYS_personality, "0x100000"),
        denied("STICKY_TIMEOUTS", libc::SYS_personality, "0x4000000"),
        (
            "asking for the personality",
            format!("call({},0xffffffff)", libc::SYS_personality),
            Gives("done"),
        ),
        ("addresses that stay", format!("call({},0x40000)", libc::SYS_personality), Gives("done")),
    ]);
    let typing = format!("0,{}", libc::TIOCSTI);
    let console = format!("0,{}", libc::TIOCLINUX);
    checks.push(denied("typing for others", libc::SYS_ioctl, &typing));
    checks.push(denied("pasting on the console", libc::SYS_ioctl, &console));
    #[cfg(target_arch = "x86_64")]
    checks.extend([
        denied("iopl", libc::SYS_iopl, "3"),
        denied("modify_ldt", libc::SYS_modify_ldt, "0,0,0"),
        missing("x32", 0x4000_0000 + libc::SYS_getpid, "0"),
        missing("uselib", libc::SYS_uselib, "0"),
    ]);
    check_all(&World::new(), &checks, |_| {});
}

fn sockets() {
    let open = |family: i32, kind: i32, protocol: i32| {
        format!("call({}, {family}, {kind}, {protocol})", libc::SYS_socket)
    };
    let (stream, datagram, raw) = (libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW);
    let families = [
        ("vsock", libc::AF_VSOCK, stream),
        ("alg", libc::AF_ALG, libc::SOCK_SEQPACKET),
        ("packet", libc::AF_PACKET, raw),
        ("bluetooth", libc::AF_BLUETOOTH, raw),
        ("xdp", libc::AF_XDP, raw),
        ("key", libc::AF_KEY, raw),
        ("can", libc::AF_CAN, raw),
        ("rds", libc::AF_RDS, libc::SOCK_SEQPACKET),
        ("tipc", libc::AF_TIPC, stream),
        ("x25", libc::AF_X25, libc::SOCK_SEQPACKET),
        ("appletalk", libc::AF_APPLETALK, datagram),
    ];
    let mut checks: Vec<Check<'_>> = families
        .map(|(name, family, kind)| (name, open(family, kind, 0), Fails(Errno::PERM)))
        .into();
    let netlink = |protocol| open(libc::AF_NETLINK, raw, protocol);
    checks.extend([
        ("netlink route", netlink(libc::NETLINK_ROUTE), Gives("done")),
        ("netlink audit", netlink(9), Fails(Errno::PERM)),
        ("netlink netfilter", netlink(12), Fails(Errno::PERM)),
        ("netlink uevent", netlink(15), Fails(Errno::PERM)),
        ("tcp", open(libc::AF_INET, stream, 0), Gives("done")),
        ("udp 6", open(libc::AF_INET6, datagram, libc::IPPROTO_UDP), Gives("done")),
        ("unix", open(libc::AF_UNIX, stream, 0), Gives("done")),
        ("raw", open(libc::AF_INET, raw, libc::IPPROTO_RAW), Fails(Errno::PERM)),
        ("sctp", open(libc::AF_INET, stream, libc::IPPROTO_SCTP), Fails(Errno::PERM)),
        ("dccp 6", open(libc::AF_INET6, 6, libc::IPPROTO_DCCP), Fails(Errno::PERM)),
        ("mptcp", open(libc::AF_INET, stream, libc::IPPROTO_MPTCP), Fails(Errno::PERM)),
        // The upper half of a register is not looked at by the kernel.
        (
            "a family in disguise",
            format!(
                "call({}, {}, {stream}, 0)",
                libc::SYS_socket,
                libc::AF_VSOCK as i64 + (1 << 32)
            ),
            Fails(Errno::PERM),
        ),
        (
            "a pair of another family",
            format!("call({}, {}, {stream}, 0, 0)", libc::SYS_socketpair, libc::AF_TIPC),
            Fails(Errno::PERM),
        ),
    ]);
    check_all(&World::new(), &checks, |_| {});
}

fn rights_and_limits() {
    let status = |field: &str| {
        format!("[l.split()[1] for l in open('/proc/self/status') if l.startswith('{field}:')][0]")
    };
    let limit = |name: &str| {
        format!(
            "'/'.join([l[26:].split()[i] for l in open('/proc/self/limits') if l.startswith('{name}') for i in (0, 1)])"
        )
    };
    const NONE: Wanted = Gives("0000000000000000");
    let checks = vec![
        ("effective capabilities", status("CapEff"), NONE),
        ("permitted capabilities", status("CapPrm"), NONE),
        ("inheritable capabilities", status("CapInh"), NONE),
        ("bounding set", status("CapBnd"), NONE),
        ("ambient capabilities", status("CapAmb"), NONE),
        ("no new privileges", status("NoNewPrivs"), Gives("1")),
        ("filter", status("Seccomp"), Gives("2")),
        ("core", limit("Max core file size"), Gives("0/0")),
        ("memlock", limit("Max locked memory"), Gives("8388608/8388608")),
        ("sigpending", limit("Max pending signals"), Gives("16384/16384")),
        ("msgqueue", limit("Max msgqueue size"), Gives("819200/819200")),
        ("nice", limit("Max nice priority"), Gives("0/0")),
        ("rtprio", limit("Max realtime priority"), Gives("0/0")),
        ("file size", limit("Max file size"), Gives("unlimited/unlimited")),
        ("cpu time", limit("Max cpu time"), Gives("unlimited/unlimited")),
        ("address space", limit("Max address space"), Gives("unlimited/unlimited")),
        ("score", "open('/proc/self/oom_score_adj').read().strip()".to_owned(), Gives("1000")),
        ("a better score", "open('/proc/self/oom_score_adj', 'w')".to_owned(), Fails(Errno::ROFS)),
        (
            "a realtime priority",
            "os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))".to_owned(),
            Fails(Errno::PERM),
        ),
        ("a better niceness", "os.nice(-1)".to_owned(), Fails(Errno::PERM)),
        ("another user", "os.setuid(0)".to_owned(), Fails(Errno::INVAL)),
        ("more groups", "os.setgroups([0])".to_owned(), Fails(Errno::PERM)),
        (
            "the score of pid 1",
            "open('/proc/1/oom_score_adj').read().strip() == '1000'".to_owned(),
            Gives("False"),
        ),
        ("the memory of pid 1", "open('/proc/1/mem').close()".to_owned(), Fails(Errno::ACCESS)),
        ("the root of pid 1", "os.listdir('/proc/1/root')".to_owned(), Fails(Errno::ACCESS)),
        ("tracing pid 1", format!("call({}, 16, 1, 0, 0)", libc::SYS_ptrace), Fails(Errno::PERM)),
        ("killing pid 1", "os.kill(1, 9) or os.getppid()".to_owned(), Gives("1")),
        (
            "inotify for the owner",
            "sum(1 for i in range(500) if c.inotify_init() >= 0) <= 64".to_owned(),
            Gives("True"),
        ),
        (
            "descriptors",
            "sum(1 for i in range(2000) if c.dup(0) >= 0) < 1024".to_owned(),
            Gives("True"),
        ),
    ];
    // What its starter happens to have is not what a job has.
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 40), maximum: None }).unwrap();
    check_all(&World::new(), &checks, |_| {});
}

fn what_is_shared() {
    let world = World::new();
    let mut checks: Vec<Check<'_>> = Vec::new();
    let names = [
        ("null", "owner of null", "times of null"),
        ("zero", "owner of zero", "times of zero"),
        ("full", "owner of full", "times of full"),
        ("random", "owner of random", "times of random"),
        ("urandom", "owner of urandom", "times of urandom"),
    ];
    for (name, owner, times) in names {
        checks.extend([
            (name, format!("os.chmod('/dev/{name}', 0)"), Fails(Errno::ROFS)),
            (owner, format!("os.chown('/dev/{name}', 1000, 1000)"), Fails(Errno::ROFS)),
            (times, format!("os.utime('/dev/{name}')"), Fails(Errno::ROFS)),
        ]);
    }
    let fixed = |name, what: &str, errno| (name, what.to_owned(), Fails(errno));
    checks.extend([
        (
            "writing to null",
            "os.close(os.open('/dev/null', os.O_WRONLY))".to_owned(),
            Gives("done"),
        ),
        fixed("a new device", "os.mknod('/tmp/d', 0o20666, os.makedev(1, 1))", Errno::PERM),
        fixed("a file in /dev", "open('/dev/x', 'w')", Errno::ROFS),
        fixed("kmsg", "open('/dev/kmsg')", Errno::NOENT),
        fixed("mem", "open('/dev/mem')", Errno::NOENT),
        fixed("fuse", "open('/dev/fuse')", Errno::NOENT),
        fixed("tty", "open('/dev/tty')", Errno::NOENT),
        fixed("/sys", "os.listdir('/sys')", Errno::NOENT),
        fixed("/proc/sys", "os.listdir('/proc/sys')", Errno::NOENT),
        fixed("standard input", "os.fchmod(0, 0o666)", Errno::ROFS),
        fixed("times of standard input", "os.utime(0)", Errno::ROFS),
        fixed(
            "standard input, written to",
            "os.open('/proc/self/fd/0', os.O_WRONLY)",
            Errno::ACCESS,
        ),
        fixed("a file in /", "open('/x', 'w')", Errno::ROFS),
        fixed("a large input, written to", "open('/in/large', 'w')", Errno::ROFS),
        fixed("a large input", "os.chmod('/in/large', 0o666)", Errno::ROFS),
        fixed("times of a large input", "os.utime('/in/large')", Errno::ROFS),
        fixed(
            "an attribute of a large input",
            "os.setxattr('/in/large', 'user.x', b'x')",
            Errno::ROFS,
        ),
        fixed("removing a large input", "os.unlink('/in/large')", Errno::ROFS),
        fixed("another name of a large input", "os.link('/in/large', '/tmp/l')", Errno::XDEV),
        fixed("a small input", "os.chmod('/in/small', 0o666)", Errno::ROFS),
        fixed("a file of a tree", "os.chmod('/tree/f', 0o666)", Errno::ROFS),
        fixed("a file in a tree", "open('/tree/new', 'w')", Errno::ROFS),
        ("above the root", "os.listdir('/..') == os.listdir('/')".to_owned(), Gives("True")),
        fixed(
            "a loop of links",
            "[os.symlink('/tmp/a', '/tmp/b'), os.symlink('/tmp/b', '/tmp/a'), os.stat('/tmp/a')]",
            Errno::LOOP,
        ),
    ]);
    let stored = world.put(vec![b'x'; 200_000]);
    let add = |spec: &mut ThunkSpec| {
        spec.inputs.insert(path("/in/large"), Input::file(stored));
        spec.inputs.insert(path("/in/small"), Input::file(world.put("small")));
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("f"), vec![b'y'; 100_000]).unwrap();
        let tree = world.store.put_tree(source.path()).unwrap();
        spec.inputs.insert(path("/tree"), Input::tree(tree));
        spec.stdin = Some(super::world::value(stored));
    };
    check_all(&world, &checks, add);
    assert_eq!(world.bytes(stored), vec![b'x'; 200_000], "the store is as it was");
    // The same for what nobody gave a standard input.
    let null = fixed("no standard input", "os.fchmod(0, 0o666)", Errno::ROFS);
    check_all(&world, &[null], |_| {});
}

fn leaves(world: &World, script: &str, output: &str) -> Outcome {
    let mut spec = world.script(script, &["mkdir", "ln", "mkfifo", "truncate", "head"]);
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    spec.outputs.insert(tag("out"), Output::optional(path(output)));
    world.run(spec)
}

/// What is left in the store's temporary directory, and how many objects there are.
fn kept(world: &World) -> (usize, usize) {
    let root = world.directory.path().join("store");
    let count = |below: &str| {
        let found = std::fs::read_dir(root.join(below)).into_iter().flatten().flatten();
        found.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let objects = count("blobs").iter().map(|shard| shard.read_dir().unwrap().count()).sum();
    (count("tmp").len(), objects)
}

fn outputs() {
    let options = SandboxOptions { files_bytes: 32 << 20, ..SandboxOptions::default() };
    let world = World::with(options);
    let warm = leaves(&world, "true", "/out/out");
    assert!(warm.is_success());
    let before = kept(&world);
    let large = [
        ("a sparse file", "truncate -s 200G out", "/out/out"),
        ("a sparse file in a directory", "mkdir out; truncate -s 33M out/f", "/out/out"),
        (
            "one file with many names",
            "mkdir out; head -c 1M /dev/zero > out/0; i=1; while [ $i -lt 40 ]; do ln out/0 out/$i; i=$((i+1)); done",
            "/out/out",
        ),
    ];
    for (name, script, output) in large {
        let outcome = leaves(&world, script, output);
        let is_excess = matches!(outcome.exit, Exit::TooLarge(Excess::Bytes { bytes_max, .. }) if bytes_max == 32 << 20);
        assert!(is_excess, "{name}: {outcome:?}");
        assert!(outcome.outputs.is_empty() && !outcome.is_success(), "{name}");
        assert_eq!(kept(&world), before, "{name}: it left something behind");
    }
    let nothing = [
        ("a pipe", "mkfifo out"),
        ("a directory with a pipe", "mkdir out; mkfifo out/p"),
        ("a link to a device", "ln -s /dev/zero out"),
        ("a link to a process", "ln -s /proc/self/environ out"),
        ("a link to a descriptor", "ln -s /proc/1/fd/0 out"),
        ("a link out of the sandbox", "ln -s ../../../../../etc/passwd out"),
        ("a link to itself", "ln -s out out"),
    ];
    for (name, script) in nothing {
        let outcome = leaves(&world, script, "/out/out");
        assert_eq!((outcome.exit, outcome.outputs.len()), (Exit::Code(0), 0), "{name}");
    }
    let full = leaves(&world, "head -c 64M /dev/zero > out", "/out/out");
    assert_eq!(full.exit, Exit::Code(1), "more than there is room for");
    let holes = leaves(&world, "truncate -s 1M out", "/out/out");
    assert_eq!(world.file(&holes, "out").0, vec![0; 1 << 20], "holes are zeros");
}

fn memory() {
    let world = World::new();
    let bounded = |script: &str| {
        let mut spec = python(&world, script).expect("this test needs python3");
        spec.limits.memory_bytes = Some(64 << 20);
        world.run(spec)
    };
    let mut kinds = vec![
        ("memory of its own", "b = []\nwhile True: b.append(bytearray(1 << 20))"),
        ("files", "f = open('/tmp/f', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()"),
        (
            "files in /dev/shm",
            "f = open('/dev/shm/f', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()",
        ),
    ];
    if !world.engine.control_groups().is_empty() {
        kinds.extend([
            ("files that have no name", "import os\nf = os.memfd_create('f')\nwhile True: os.write(f, bytes(1 << 20))"),
            ("memory that is shared", "import ctypes\nc = ctypes.CDLL(None)\nc.shmat.restype = ctypes.c_void_p\nwhile True: ctypes.memset(c.shmat(c.shmget(0, 1 << 20, 0o1600), None, 0), 1, 1 << 20)"),
            ("many small files", "import os\ni = 0\nwhile True: os.close(os.open('/tmp/%d' % i, os.O_CREAT)); i += 1"),
        ]);
    }
    for (name, script) in kinds {
        let outcome = bounded(script);
        assert_eq!(outcome.exit, Exit::OutOfMemory, "{name}: {}", world.text(outcome.stderr));
    }
    assert_eq!(world.stdout_of(world.script("echo next", &[])), "next\n");
}

/// The bound of a node holds for a job that names none, and is no failure of its program.
fn together() {
    let options = SandboxOptions { memory_bytes: Some(96 << 20), ..SandboxOptions::default() };
    let world = World::with(options);
    let script = "b = []\nwhile True: b.append(bytearray(1 << 20))";
    // Its own bound is met first.
    let mut spec = python(&world, script).expect("this test needs python3");
    spec.limits.memory_bytes = Some(48 << 20);
    assert_eq!(world.run(spec).exit, Exit::OutOfMemory);
    let spec = python(&world, script).unwrap();
    let error = world.try_run(spec).unwrap_err();
    assert!(matches!(error, EngineError::Memory(bytes) if bytes == 96 << 20), "{error}");
    assert_eq!(world.stdout_of(world.script("echo next", &[])), "next\n");
}

fn inputs() {
    let options = SandboxOptions { files_bytes: 256 << 20, ..SandboxOptions::default() };
    let world = World::with(options);
    let at_many = |count: usize, value, deep: &str| {
        let mut spec = world.script("true", &[]);
        for number in 0..count {
            spec.inputs.insert(path(&format!("/in{deep}/{number}")), Input::file(value));
        }
        spec
    };
    let small = world.put(vec![b's'; limits_of_copies()]);
    let large = world.put(vec![b'l'; 2 * limits_of_copies()]);
    let before = resident_max();
    assert!(world.run(at_many(3_000, small, "")).is_success(), "one file at many places");
    assert!(resident_max() - before < 64 << 20, "it is held once");
    // Some are copied in place of being mounted.
    let copies = COPY_TWICE_BYTES as usize / (2 * limits_of_copies());
    let too_many = limits::SANDBOX_MOUNTS + copies + 2;
    let refused = [
        ("copies that do not fit", at_many(30_000, small, "")),
        ("more mounts than the kernel bears", at_many(too_many, large, "")),
    ];
    for (name, spec) in refused {
        let error = world.try_run(spec).unwrap_err();
        assert!(matches!(error, EngineError::Refused(_)), "{name}: {error}");
    }
    assert!(world.run(at_many(2_000, large, "")).is_success(), "many mounts");
    assert_eq!(world.stdout_of(world.script("echo next", &[])), "next\n");
}

fn limits_of_copies() -> usize {
    COPY_FILE_BYTES as usize
}

/// The most memory that this process, in which the engine is, ever held.
fn resident_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn time() {
    let world = World::new();
    let endless = [
        ("a loop", "while :; do :; done"),
        ("a program that takes no signal", "trap '' TERM INT HUP; while :; do :; done"),
        ("output without end", "while :; do echo y; done"),
        ("errors without end", "while :; do echo y >&2; done"),
        ("processes without end", "while :; do (while :; do :; done) & done"),
    ];
    for (name, script) in endless {
        let mut spec = world.script(script, &[]);
        spec.limits.timeout_ms = 300;
        let outcome = world.run(spec);
        assert_eq!(outcome.exit, Exit::TimedOut, "{name}");
    }
    // Building its sandbox counts, too.
    let large = world.put(vec![b'l'; 2 * limits_of_copies()]);
    let mut spec = world.script("exec sleep 1000", &["sleep"]);
    for number in 0..5_000 {
        spec.inputs.insert(path(&format!("/in/{number}")), Input::file(large));
    }
    spec.limits.timeout_ms = 1;
    assert_eq!(world.run(spec).exit, Exit::TimedOut, "building");
    assert_eq!(world.stdout_of(world.script("echo next", &[])), "next\n");
}
