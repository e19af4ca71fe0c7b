//! What a thunk does not name, it does not see.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use mesh_protocol::thunk::ThunkSpec;

use super::Case;
use super::world::{World, path};

pub(crate) const CASES: &[Case] = &[
    ("sees::no_file_of_the_host", no_file_of_the_host),
    ("sees::no_environment", no_environment),
    ("sees::no_other_process", no_other_process),
    ("sees::no_network", no_network),
    ("sees::no_other_descriptor", no_other_descriptor),
    ("sees::a_constant_identity", a_constant_identity),
    ("sees::only_processes_in_proc", only_processes_in_proc),
    ("sees::no_door_into_the_kernel", no_door_into_the_kernel),
    ("sees::usual_devices", usual_devices),
    ("sees::nothing_of_the_job_before", nothing_of_the_job_before),
];

const PYTHON: &str = "/usr/bin/python3";

/// Python with its library, or nothing where this machine has none.
pub(crate) fn python(world: &World, script: &str) -> Option<ThunkSpec> {
    let library = std::fs::read_dir("/usr/lib").ok()?.flatten().find(|entry| {
        let name = entry.file_name().into_string().unwrap_or_default();
        name.starts_with("python3.")
    })?;
    let real = std::fs::canonicalize(PYTHON).ok()?;
    let mut spec = world.script("exit 99", &[]);
    world.add_program(&mut spec, real.to_str()?);
    spec.function.executable = path(real.to_str()?);
    spec.function.arguments = [real.to_str()?, "-I", "-S", "-c", script].map(str::to_owned).into();
    for module in [
        "encodings",
        "codecs.py",
        "io.py",
        "abc.py",
        "os.py",
        "stat.py",
        "posixpath.py",
        "genericpath.py",
        "_collections_abc.py",
        "socket.py",
        "selectors.py",
        "enum.py",
        "types.py",
        "operator.py",
        "functools.py",
        "collections",
        "keyword.py",
        "reprlib.py",
        "ctypes",
        "struct.py",
        "signal.py",
        "subprocess.py",
    ] {
        let at = library.path().join(module);
        let place = path(at.to_str()?);
        let input = if at.is_dir() {
            mesh_protocol::thunk::Input::tree(world.store.put_tree(&at).ok()?)
        } else {
            mesh_protocol::thunk::Input::file(world.put_file(&at))
        };
        spec.inputs.insert(place, input);
    }
    let dynamic = library.path().join("lib-dynload");
    for module in std::fs::read_dir(&dynamic).ok()?.flatten() {
        if module.file_name().to_str()?.starts_with("_ctypes.") {
            world.add_libraries(&mut spec, &module.path());
        }
    }
    spec.inputs.insert(
        path(dynamic.to_str()?),
        mesh_protocol::thunk::Input::tree(world.store.put_tree(&dynamic).ok()?),
    );
    Some(spec)
}

fn no_file_of_the_host() {
    let world = World::new();
    let secret = world.directory.path().join("secret");
    std::fs::write(&secret, "host").unwrap();
    let script = format!("cat {} || echo none; ls /; ls / /etc || true", secret.display());
    let outcome = world.run(world.script(&script, &["cat", "ls"]));
    let text = world.text(outcome.stdout);
    let libraries = if text.contains("lib64") { "lib\nlib64\n" } else { "lib\n" };
    let root = format!("none\nbin\ndev\n{libraries}out\nproc\ntmp\n");
    assert!(text.starts_with(&root), "{text}");
    assert!(!text.contains("/etc"), "{text}");
}

fn no_environment() {
    let world = World::new();
    let mut spec = world.script("", &["env"]);
    spec.function.executable = path("/bin/env");
    spec.function.arguments = vec!["env".to_owned()];
    assert_eq!(world.stdout_of(spec), "PATH=/bin\n");
}

fn no_other_process() {
    let world = World::new();
    let text = world
        .stdout_of(world.script("ls /proc; kill -0 -1 2> /dev/null && echo others; true", &["ls"]));
    let mut pids: Vec<_> =
        text.lines().filter(|line| line.parse::<u32>().is_ok()).map(str::to_owned).collect();
    pids.sort();
    // The first process, the shell, and `ls`.
    assert_eq!(pids, ["1", "2", "3"], "{text}");
    assert!(!text.contains("others"), "{text}");
    let outcome = world.run(world.script("cat /proc/1/environ /proc/1/maps", &["cat"]));
    assert_eq!(world.text(outcome.stdout), "");
    assert!(!outcome.is_success());
}

fn no_network() {
    let world = World::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("mesh-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _unix = UnixListener::bind_addr(&address).unwrap();
    let port = tcp.local_addr().unwrap().port();
    let script = format!(
        "import _socket as s
def reach(family, to):
    try: s.socket(family, s.SOCK_STREAM).connect(to); print('reached', to)
    except OSError as e: print(e.errno)
reach(s.AF_INET, ('127.0.0.1', {port}))
reach(s.AF_UNIX, '\\0{name}')
reach(s.AF_INET, ('192.0.2.1', 80))
l = s.socket(); l.bind(('127.0.0.1', 0)); l.listen()
s.socket().connect(l.getsockname()); print('itself')
"
    );
    let Some(spec) = python(&world, &script) else {
        panic!("this test needs python3");
    };
    let refused = rustix::io::Errno::CONNREFUSED.raw_os_error();
    let unreachable = rustix::io::Errno::NETUNREACH.raw_os_error();
    let wanted = format!("{refused}\n{refused}\n{unreachable}\nitself\n");
    assert_eq!(world.stdout_of(spec), wanted);
    drop(tcp);
}

fn no_other_descriptor() {
    // One that the launcher inherits: nobody has marked it close-on-exec.
    let _open = rustix::io::dup(rustix::stdio::stderr()).unwrap();
    let world = World::new();
    let text = world.stdout_of(world.script("ls -l /proc/self/fd", &["ls"]));
    let open: Vec<_> =
        text.lines().skip(1).map(|line| line.split(" -> ").last().unwrap()).collect();
    assert_eq!(open.len(), 4, "{text}");
    assert_eq!(open[0], "/dev/null", "{text}");
    assert!(open[3].starts_with("/proc/"), "{text}");
}

fn a_constant_identity() {
    let world = World::new();
    let script = "id -u; id -g; id -G; uname -n; umask; ulimit -c; ulimit -n; ulimit -s; cd /tmp; \
                  echo x > f; stat -c '%u:%g %a' f; cat /proc/self/cgroup | sed s/.*:// | uniq";
    let programs = ["id", "uname", "cat", "stat", "sed", "uniq"];
    let mut spec = world.script(script, &[]);
    for program in programs {
        let found = ["/bin", "/usr/bin"].map(|d| format!("{d}/{program}"));
        let found = found.iter().find(|p| std::path::Path::new(p).exists()).unwrap();
        world.add_program(&mut spec, found);
    }
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    let wanted = "1000\n1000\n1000\nmesh\n0022\n0\n1024\n8192\n1000:1000 644\n/\n";
    assert_eq!(world.stdout_of(spec), wanted);
}

fn only_processes_in_proc() {
    let world = World::new();
    let script = "cd /proc; ls | grep -v '^[0-9]' ; echo x > /proc/self/comm; \
                  cat cpuinfo meminfo version cmdline sys/kernel/osrelease; ls /sys; true";
    let outcome = world.run(world.script(script, &["ls", "grep", "cat"]));
    assert_eq!(world.text(outcome.stdout), "self\nthread-self\n");
    let errors = world.text(outcome.stderr);
    assert_eq!(errors.matches("No such file").count(), 6, "{errors}");
    assert_eq!(errors.matches("Read-only file system").count(), 1, "{errors}");
}

fn no_door_into_the_kernel() {
    let world = World::new();
    let script = "import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
for call in sys.argv[1:]:
    r = c.syscall(*[ctypes.c_long(int(n)) for n in call.split(',')])
    print(ctypes.get_errno() if r == -1 else 'allowed')
";
    let Some(mut spec) = python(&world, script) else { panic!("this test needs python3") };
    let new_user = libc::CLONE_NEWUSER;
    let calls = [
        (format!("{},0,0,0,0,0", libc::SYS_mount), libc::EPERM),
        (format!("{},{new_user}", libc::SYS_unshare), libc::EPERM),
        (format!("{},{},0,0,0,0", libc::SYS_clone, new_user | libc::SIGCHLD), libc::EPERM),
        (format!("{},0,88", libc::SYS_clone3), libc::ENOSYS),
        (format!("{},0,0", libc::SYS_bpf), libc::EPERM),
        (format!("{},0,0", libc::SYS_userfaultfd), libc::EPERM),
        (format!("{},1,0", libc::SYS_io_uring_setup), libc::ENOSYS),
        (format!("{},0,0,0,0", libc::SYS_keyctl), libc::EPERM),
        (format!("{},0,0,0", libc::SYS_setns), libc::EPERM),
        (format!("{},0,{}", libc::SYS_ioctl, libc::TIOCSTI), libc::EPERM),
        // Not on the list: the filter is no wall against everything.
        (format!("{},-1", libc::SYS_close), libc::EBADF),
    ];
    spec.function.arguments.extend(calls.iter().map(|(call, _)| call.clone()));
    let wanted: String = calls.iter().map(|(_, errno)| format!("{errno}\n")).collect();
    assert_eq!(world.stdout_of(spec), wanted);
}

fn usual_devices() {
    let world = World::new();
    let script = "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | wc -c; \
                  head -c 3 /dev/urandom | wc -c; echo y > /dev/shm/s; cat /dev/shm/s; \
                  echo z > /dev/stdout; (echo x > /dev/full) 2> /dev/null || echo full";
    let mut spec = world.script(script, &["ls", "cat"]);
    world.add_program(&mut spec, "/usr/bin/head");
    world.add_program(&mut spec, "/usr/bin/wc");
    spec.function.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
    let wanted = "fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n\
                  3\n3\ny\nz\nfull\n";
    assert_eq!(world.stdout_of(spec), wanted);
}

fn nothing_of_the_job_before() {
    let world = World::new();
    let script = "ls -A /tmp /dev/shm /out; echo x > /tmp/a; echo x > /dev/shm/a";
    for _ in 0..2 {
        let text = world.stdout_of(world.script(script, &["ls"]));
        assert_eq!(text, "/dev/shm:\n\n/out:\n\n/tmp:\n");
    }
}
