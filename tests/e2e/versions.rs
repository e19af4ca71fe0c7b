//! A node and a command of different versions of mesh.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use mesh_tests::{Mesh, Node, skip};

/// A node of another version: answers whatever is asked in its own, and ends when it is told to.
const OTHER: &str = r"
import fcntl, os, signal, socket, struct, sys
home = sys.argv[1]
lock = open(home + '/node.lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
s = socket.socket(socket.AF_UNIX)
s.bind(home + '/node.sock')
s.listen()
signal.signal(signal.SIGTERM, lambda *_: (os.unlink(home + '/node.sock'), os._exit(42)))
print('mesh: listening', file=sys.stderr, flush=True)
while True:
    c, _ = s.accept()
    if c.recv(65536):
        c.sendall(struct.pack('<I', 9) + b'\x89MREPLY\xff\x04')
    c.close()
";

#[test]
fn a_node_of_another_version_is_told_and_can_be_stopped() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip::missing("python3 is not installed: run tests/setup");
    }
    let mesh = Mesh::new();
    mesh.ok(["init"]);
    let mut command = Command::new("python3");
    command.args(["-c", OTHER]).arg(mesh.home()).stdin(Stdio::null());
    let mut other = Node::start(&mut command);
    other.says("listening");
    for question in ["status", "peers", "pause"] {
        let asked = mesh.run([question]);
        assert_eq!(asked.code, Some(69), "{asked:?}");
        let told = "mesh: the node of this home runs another version of mesh\n\
                    hint: restart it: mesh stop, then mesh join\n";
        assert_eq!(asked.stderr, told);
    }
    let put = mesh.run_with(["put", "-"], b"text");
    assert_eq!(put.code, Some(0), "it is stored all the same");
    assert!(
        put.stderr.contains("could not be told: the node of this home runs another"),
        "{put:?}"
    );
    mesh.ok(["stop"]);
    assert_eq!(other.wait().code, Some(42));
    assert_eq!(mesh.run(["stop"]).code, Some(69));
}

#[test]
fn a_command_of_another_version_sees_that_by_the_answer() {
    let mesh = Mesh::new();
    mesh.ok(["init"]);
    let mut node = Node::join(&mesh, &[]);
    node.says("listening on");
    let mut stream = UnixStream::connect(mesh.home().join("node.sock")).unwrap();
    stream.write_all(&[&9_u32.to_le_bytes(), b"\x89MASK\0\0\xff\x09".as_slice()].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer[4..].starts_with(b"\x89MREPLY"), "{answer:?}");
    assert_ne!(answer[11], 0xff, "the version of its own");
}
