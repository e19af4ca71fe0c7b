//! The harness's own network: nothing of it stays, however a test ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mesh_tests::{Family, Members, Network, skip};

/// How the test below is to end.
const END_VARIABLE: &str = "MESH_TESTS_END";

/// The line that it says when all is there.
const ALL_IS_THERE: &str = "all is there";

#[test]
#[ignore = "the tests below start it, to see it end"]
fn something_goes_wrong_on_a_network() {
    let Ok(end) = std::env::var(END_VARIABLE) else { return };
    if let Some(mut members) = Members::networked(2) {
        members.network().delay(1, 1);
        members.node(1).freeze();
        println!("\n{ALL_IS_THERE}");
        assert_ne!(end, "panic");
        loop {
            std::thread::park();
        }
    }
}

/// That test as a process, with all that it has started; none where it can start nothing.
fn started(end: &str) -> Option<(std::process::Child, Family)> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "network::something_goes_wrong_on_a_network";
    command.args(["--ignored", "--exact", name, "--nocapture"]).env(END_VARIABLE, end);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let is_there = lines.any(|line| line == ALL_IS_THERE);
    if !is_there {
        assert!(child.wait().unwrap().success(), "the test failed before its end");
        return None;
    }
    let family = Family::of(&child);
    Some((child, family))
}

#[test]
fn nothing_is_left_of_a_test_that_is_killed() {
    let Some((mut child, family)) = started("kill") else { return };
    // The test, the switch, two hosts, two nodes, and perhaps a delay.
    assert!(family.count() >= 6, "{family:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    family.wait_until_gone();
}

#[test]
fn nothing_is_left_of_a_test_that_fails() {
    let Some((mut child, family)) = started("panic") else { return };
    assert_eq!(child.wait().unwrap().code(), Some(101));
    family.wait_until_gone();
}

/// Takes a megabyte on a port, and says when it listens and when it has it all.
const TAKE: &str = "
import socket
s = socket.create_server(('', 4002))
print('ready', flush=True)
c, _ = s.accept()
n = 0
while more := len(c.recv(65536)): n += more
print(n)
";

const GIVE: &str = "
import socket, sys
socket.create_connection((sys.argv[1], 4002)).sendall(bytes(1_000_000))
";

/// Such a time has no upper bound on a busy machine, but a lower one everywhere.
#[test]
fn a_slow_line_is_slow() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip::missing("python3 is not installed: run tests/setup");
    }
    let Some(mut network) = Network::new(2) else { return };
    network.limit_rate(1, 10);
    let mut taker = network.host(1).command("python3");
    let mut taker = taker.args(["-c", TAKE]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(taker.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let address = network.host(1).address().to_string();
    let start = Instant::now();
    let giver = network.host(0).command("python3").args(["-c", GIVE, &address]).status().unwrap();
    assert!(giver.success());
    assert_eq!(lines.next().as_deref(), Some("1000000"));
    // 0.8 s without headers, less what the bucket holds in the beginning.
    assert!(start.elapsed() > Duration::from_millis(600), "{:?}", start.elapsed());
    assert!(taker.wait().unwrap().success());
}
