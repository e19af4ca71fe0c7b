//! The harness's own network: nothing of it stays, however a test ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use mesh_tests::{Family, Members};

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
