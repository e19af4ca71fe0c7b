//! A lock of the store that somebody holds: stopped in the middle of an append, say.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use mesh_tests::{Finished, Mesh, Project, finished, skip, wait_until};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::leasing::{Cluster, end, number, plain, start};

const BUILD: &str = "make -j4";

/// Held until dropped: until the file is closed.
struct Lock {
    _file: File,
}

impl Lock {
    fn hold(path: PathBuf) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        Self { _file: file }
    }
}

fn project() -> Project {
    let makefile = "all: a.o b.o c.o d.o\n%.o: %.c\n\t$(CC) -c -o $@ $<\n";
    let sources = ["a.c", "b.c", "c.c", "d.c"];
    let text = |path: &str| format!("int {}(void) {{ return 1; }}\n", &path[..1]);
    let files = sources.iter().map(|path| ((*path).to_owned(), text(path)));
    Project::made(files.chain([("Makefile".to_owned(), makefile.to_owned())]))
}

fn json(mesh: &Mesh, command: &str) -> Value {
    serde_json::from_str(&mesh.ok([command, "--json"])).unwrap()
}

/// The results of others cannot be written down, and the node goes on with everything else.
#[test]
fn a_node_whose_store_is_locked_answers_and_is_seen() {
    let project = project();
    let expected = plain(&project, BUILD);
    let mut cluster = Cluster::joined(1, "worker", &[]);
    let lock = Lock::hold(cluster.home().home().join("store/log.lock"));
    let mut build = start(&project, cluster.home(), &["--slots", "0"], BUILD);
    let worker = &cluster.workers[0].0;
    // The node takes all receipts, and can remember none of them.
    wait_until("the worker has run them", || {
        let status = json(cluster.home(), "status");
        let peers = status["peers"].as_array().unwrap();
        peers.iter().map(|peer| number(peer, "succeeded")).sum::<u64>() >= 4
    });
    for _ in 0..20 {
        json(cluster.home(), "status");
        let members = &json(worker, "peers")["members"];
        assert_eq!(members[0]["connected"], Value::Bool(true), "{members}");
        assert!(build.try_wait().unwrap().is_none(), "its results are written down first");
    }
    drop(lock);
    let (said, report) = end(&project, build);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
    assert_eq!(number(&report, "executed"), 4, "{report}");
    assert!(cluster.requester.1.has_ended().is_none());
    // It is remembered now.
    let (_, report) = end(&project, start(&project, cluster.home(), &["--slots", "0"], BUILD));
    assert_eq!((number(&report, "executed"), number(&report, "reused")), (0, 4), "{report}");
}

/// What runs here waits for its turn, and then goes on.
#[test]
fn a_build_whose_store_is_locked_goes_on_afterwards() {
    let project = project();
    let expected = plain(&project, BUILD);
    let mesh = Mesh::new();
    mesh.run_with(["put", "-"], b"so that there is a store").ok();
    let lock = Lock::hold(mesh.home().join("store/log.lock"));
    let mut build = start(&project, &mesh, &[], BUILD);
    // Reading needs no lock.
    let name = mesh.run_with(["put", "-"], b"beside it").ok();
    assert_eq!(mesh.ok(["cat", &name]), "beside it");
    mesh.ok(["store", "stats"]);
    mesh.ok(["gc", "--quota", "1G"]);
    assert!(build.try_wait().unwrap().is_none());
    drop(lock);
    let (said, _) = end(&project, build);
    project.snapshot().differences(&expected, &[]).assert_none(&said.stderr);
}

/// Locks are files that nobody else may open.
#[test]
fn another_user_keeps_no_node_from_starting() {
    if !rustix::process::geteuid().is_root() {
        return skip::unable("another user's process needs root");
    }
    let mesh = Mesh::new();
    mesh.ok(["init", "--name", "desk"]);
    let serve = || {
        let words = ["join", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--idle-exit", "1s"];
        mesh.run(words).ok()
    };
    serve();
    // Whoever may come here at all.
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(mesh.home());
    let lock = mesh.home().join("node.lock");
    let other = |lock: &std::path::Path| -> Finished {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "1", "--regid", "1", "--clear-groups", "flock", "--nonblock"]);
        finished(command.arg(lock).arg("true").output().unwrap())
    };
    for lock in [lock, mesh.home().join("store/log.lock"), mesh.home().join("store/gc.lock")] {
        assert_ne!(other(&lock).code, Some(0), "{lock:?}");
    }
    serve();
}
