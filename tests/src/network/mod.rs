//! A network of the test's own, on which things go wrong when it says so.
//!
//! ```text
//!   host 0            host 1            host 2          a namespace each
//!   eth0 10.77.0.1    eth0 10.77.0.2    eth0 10.77.0.3
//!     |                 |                 |             veth pairs
//!   --h0----------------h1----------------+-- br0 --+   the switch, in a namespace of its own
//!                                         h2-d2-(a2 ~~~ b2)
//! ```
//!
//! Loss and partitions are rules of nftables at the switch, rates are token buckets at both ends
//! of a line, and a delayed line (host 2 above) leads through `mesh-tests-delay`. All of it can be
//! changed while connections are open. Nothing of this touches the machine's own network.

mod namespace;
mod rules;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use self::namespace::Namespace;
use self::rules::{Line, delayed_port, port, render};
use crate::{program_beside_tests, skip};

/// Hosts of one network: their numbers are the last part of their addresses.
const HOSTS_MAX: usize = 250;

/// Hosts with a line each to one switch.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Namespace>,
    lines: Vec<Line>,
    delays: Vec<Option<Delay>>,
    switch: Namespace,
}

/// The way into a host's namespace.
#[derive(Clone, Debug)]
pub struct Host {
    enter: Vec<String>,
    address: Ipv4Addr,
}

/// The process that delays a line.
#[derive(Debug)]
struct Delay(Child);

impl Network {
    /// A network of so many hosts, on which nothing goes wrong yet.
    ///
    /// Where this machine cannot have one, the test is skipped, and `None` comes back.
    #[track_caller]
    pub fn new(hosts: usize) -> Option<Self> {
        assert!(hosts <= HOSTS_MAX, "{hosts} hosts have no addresses");
        for tool in ["ip", "tc", "nft", "nsenter"] {
            if Command::new(tool).arg("-V").output().is_err() {
                skip::missing(format_args!("{tool} is not installed: run tests/setup"));
                return None;
            }
        }
        match Self::lay(hosts) {
            Ok(network) => Some(network),
            Err(reason) => {
                skip::unable(format_args!("no network namespaces: {reason}"));
                None
            }
        }
    }

    fn lay(count: usize) -> Result<Self, String> {
        let switch = Namespace::new()?;
        switch.order(IP, "link set lo up\nlink add br0 type bridge\nlink set br0 up\n")?;
        let mut hosts = Vec::new();
        for number in 0..count {
            let host = switch.another()?;
            let (port, pid, address) = (port(number), host.pid(), address(number));
            let pair = format!("link add {port} type veth peer name eth0 netns {pid}\n");
            switch.order(IP, &format!("{pair}link set {port} master br0 up\n"))?;
            let up = "link set lo up\nlink set eth0 up\n";
            host.order(IP, &format!("address add {address}/24 dev eth0\n{up}"))?;
            hosts.push(host);
        }
        let delays = (0..count).map(|_| None).collect();
        let network = Self { hosts, lines: vec![Line::default(); count], delays, switch };
        network.switch.order(NFT, &render(&network.lines))?;
        Ok(network)
    }

    /// One of the hosts.
    pub fn host(&self, number: usize) -> Host {
        Host { enter: self.hosts[number].enter_as_user(), address: address(number) }
    }

    /// These hosts hear only each other, the others as well.
    #[track_caller]
    pub fn partition(&mut self, one_side: &[usize]) {
        for (number, line) in self.lines.iter_mut().enumerate() {
            line.side = u32::from(one_side.contains(&number));
        }
        self.apply();
    }

    /// Loses so many of a hundred frames of a host, in each direction.
    #[track_caller]
    pub fn lose(&mut self, host: usize, percent: u32) {
        self.lines[host].lost_percent = percent;
        self.apply();
    }

    /// Pulls a host's plug: its interface has no carrier.
    #[track_caller]
    pub fn unplug(&mut self, host: usize) {
        self.switch(&format!("link set {} down\n", port(host)));
    }

    /// Puts it back.
    #[track_caller]
    pub fn plug(&mut self, host: usize) {
        self.switch(&format!("link set {} up\n", port(host)));
    }

    /// Lets frames of a host take so long, in each direction; 0 as long as they take by themselves.
    ///
    /// False, and the test is skipped, where no TAP devices can be had.
    #[track_caller]
    pub fn delay(&mut self, host: usize, milliseconds: u32) -> bool {
        let (port, bridge) = (port(host), format!("d{host}"));
        if self.delays[host].take().is_some() {
            self.switch(&format!("link set {port} master br0\nlink del {bridge}\n"));
        }
        if milliseconds == 0 {
            return true;
        }
        let (near, far) = (format!("a{host}"), delayed_port(host));
        match Delay::start(&self.switch, [&near, &far], milliseconds) {
            Ok(delay) => self.delays[host] = Some(delay),
            Err(reason) => {
                skip::unable(format_args!("lines cannot be delayed: {reason}"));
                return false;
            }
        }
        let ends = format!("link set {near} master {bridge} up\nlink set {far} master br0 up\n");
        let make = format!("link add {bridge} type bridge\nlink set {bridge} up\n");
        self.switch(&format!("{make}{ends}link set {port} master {bridge}\n"));
        true
    }

    /// Lets no more than so many megabits a second through a host's line, in each direction.
    #[track_caller]
    pub fn limit_rate(&mut self, host: usize, megabits: u32) {
        let bucket = format!("root tbf rate {megabits}mbit burst 64kb latency 100ms\n");
        let towards = format!("qdisc replace dev {} {bucket}", port(host));
        self.switch.order(TC, &towards).expect("a rate can be set");
        let from = format!("qdisc replace dev eth0 {bucket}");
        self.hosts[host].order(TC, &from).expect("a rate can be set");
    }

    /// Nothing goes wrong on the lines any more. Rates stay.
    #[track_caller]
    pub fn heal(&mut self) {
        for host in 0..self.hosts.len() {
            self.plug(host);
            self.delay(host, 0);
        }
        self.lines.fill(Line::default());
        self.apply();
    }

    #[track_caller]
    fn switch(&self, orders: &str) {
        self.switch.order(IP, orders).expect("the switch does as it is told");
    }

    #[track_caller]
    fn apply(&self) {
        self.switch.order(NFT, &render(&self.lines)).expect("the switch takes rules");
    }
}

const IP: &[&str] = &["ip", "-batch", "-"];
const TC: &[&str] = &["tc", "-batch", "-"];
const NFT: &[&str] = &["nft", "-f", "-"];

fn address(host: usize) -> Ipv4Addr {
    let last = u8::try_from(host + 1).expect("there are few hosts");
    Ipv4Addr::new(10, 77, 0, last)
}

fn entered(enter: &[String], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).arg(program);
    command
}

impl Host {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command on it, ready to be started. Its process becomes that of the command.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        entered(&self.enter, program)
    }
}

impl Delay {
    fn start(switch: &Namespace, ends: [&str; 2], milliseconds: u32) -> Result<Self, String> {
        let mut command = switch.command(program_beside_tests("mesh-tests-delay"));
        command.args(ends).arg(milliseconds.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let said = child.stdout.as_mut().expect("stdout is a pipe");
        BufReader::new(said).read_line(&mut line).expect("a pipe can be read");
        if line.trim() == "ready" {
            return Ok(Self(child));
        }
        let output = child.wait_with_output().expect("a child can be waited for");
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
