//! Networks that lead nowhere: namespaces with a loopback device, each for one job after another.
//!
//! Making one and taking it down is the dearest thing about a sandbox, and many that start together wait
//! for each other there. Goal: no job can tell that another was there before. What a job opened ends with its
//! processes, and it has no right to set anything up. But a connection that was closed keeps its port for a
//! minute more (`TIME_WAIT`, RFC 9293, 3.6.1), so where a packet ever went no other job comes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;

use super::process::{self, SingleThreaded};

/// The network of one job at a time.
pub(super) struct JobNetwork(OwnedFd);

impl JobNetwork {
    /// Makes one. This process is in it from now on, and those that it makes.
    pub(super) fn make(single: &SingleThreaded) -> Result<Self, Errno> {
        process::unshare(libc::CLONE_NEWNET, single)?;
        // Without it some programs cannot talk to themselves; that is theirs to say.
        let _ = process::loopback_up();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/ns/net", flags, Mode::empty()).map(Self)
    }

    /// Goes there, with the processes that this one makes from now on.
    pub(super) fn enter(&self) -> Result<(), Errno> {
        let network = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(self.0.as_fd(), network)
    }

    /// Has no packet ever been sent in it? This process is in it then.
    pub(super) fn is_unused(&self) -> bool {
        self.enter().is_ok()
            && std::fs::read_to_string("/proc/self/net/dev").is_ok_and(|text| is_quiet(&text))
    }
}

/// Are all counts of packets zero, of those that were received and sent, in proc_net(5)'s `dev`?
fn is_quiet(devices: &str) -> bool {
    let mut devices = devices.lines().filter_map(|line| Some(line.split_once(':')?.1)).peekable();
    devices.peek().is_some()
        && devices.all(|counts| {
            let mut counts = counts.split_whitespace();
            (counts.nth(1), counts.nth(7)) == (Some("0"), Some("0"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_either_way_is_enough() {
        let head =
            "Inter-|   Receive  |  Transmit\n face |bytes    packets errs |bytes    packets errs\n";
        let quiet = |counts: &str| is_quiet(&format!("{head}    lo:{counts}\n"));
        assert!(quiet(
            "       0       0    0    0    0     0          0         0        0       0    0"
        ));
        assert!(!quiet(
            "     84       1    0    0    0     0          0         0        0       0    0"
        ));
        assert!(!quiet(
            "      0       0    0    0    0     0          0         0       84       1    0"
        ));
        assert!(!quiet("1234567890123456 12"));
        assert!(!is_quiet(head) && !is_quiet(""), "nothing is said");
    }
}
