//! A mesh of several nodes, known by their numbers.

use serde_json::Value;

use crate::node::PATIENCE;
use crate::{Mesh, Network, Node};

/// Nodes of one mesh; the first founded it. Each has a home, and runs unless it was taken down.
pub struct Members {
    homes: Vec<Mesh>,
    nodes: Vec<Option<Node>>,
    arguments: Vec<String>,
    /// Dropped last.
    network: Option<Network>,
}

/// What one node says of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The other's name: `n0`, `n1`, …
    pub name: String,
    /// Is there a connection?
    pub connected: bool,
    /// All that is said.
    pub json: Value,
}

impl Members {
    /// So many nodes on loopback, all of which see each other.
    #[track_caller]
    pub fn on_loopback(count: usize) -> Self {
        Self::of((0..count).map(|_| Mesh::new()).collect(), &[])
    }

    /// A node on loopback for each of these homes, all with these arguments, all of which see each other.
    #[track_caller]
    pub fn of(homes: Vec<Mesh>, arguments: &[&str]) -> Self {
        let count = homes.len();
        let mut members = Self::empty(homes, None);
        members.pass(arguments);
        members.found();
        (1..count).for_each(|number| members.admit(number));
        members.wait_until_all_connected();
        members
    }

    /// A node on each host of a network; none is started yet.
    pub fn on(network: Network, count: usize) -> Self {
        let homes = (0..count).map(|number| Mesh::at(network.host(number))).collect();
        Self::empty(homes, Some(network))
    }

    /// The same, after all have joined and see each other. `None` where there can be no network.
    #[track_caller]
    pub fn networked(count: usize) -> Option<Self> {
        let mut members = Self::on(Network::new(count)?, count);
        members.found();
        (1..count).for_each(|number| members.admit(number));
        members.wait_until_all_connected();
        Some(members)
    }

    fn empty(homes: Vec<Mesh>, network: Option<Network>) -> Self {
        let nodes = homes.iter().map(|_| None).collect();
        Self { homes, nodes, arguments: Vec::new(), network }
    }

    /// Starts every node with these arguments from now on.
    pub fn pass(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    /// Founds the mesh, and starts its first node.
    #[track_caller]
    pub fn found(&mut self) {
        self.homes[0].ok(["init", "--name", &name(0)]);
        self.start(0);
    }

    /// Lets a node in by a ticket of the first.
    #[track_caller]
    pub fn admit(&mut self, number: usize) {
        let ticket = self.homes[0].ok(["invite", "--role", "member"]);
        let own_name = name(number);
        let mut node = self.join(number, &[&ticket, "--name", &own_name]);
        node.says("n0 is there");
        self.nodes[number] = Some(node);
    }

    /// Starts a node that is a member and does not run.
    #[track_caller]
    pub fn start(&mut self, number: usize) {
        assert!(self.nodes[number].is_none(), "node {number} runs");
        let mut node = self.join(number, &[]);
        node.says("listening on");
        self.nodes[number] = Some(node);
    }

    fn join(&self, number: usize, arguments: &[&str]) -> Node {
        let own = self.arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = own.chain(arguments.iter().copied()).collect();
        Node::join(&self.homes[number], &arguments)
    }

    /// Lets one more in, on loopback.
    #[track_caller]
    pub fn admit_another(&mut self) {
        assert!(self.network.is_none(), "a network has as many hosts as it has");
        self.homes.push(Mesh::new());
        self.nodes.push(None);
        self.admit(self.count() - 1);
    }

    /// Where a node listens: the first of its addresses.
    #[track_caller]
    pub fn address(&self, number: usize) -> String {
        self.peers(number)["listening"][0].as_str().expect("the node listens").to_owned()
    }

    /// What `mesh peers --json` says.
    #[track_caller]
    fn peers(&self, number: usize) -> Value {
        let peers = self.homes[number].ok(["peers", "--json"]);
        serde_json::from_str(&peers).expect("peers are JSON")
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.homes.len()
    }

    /// A node's home.
    pub fn home(&self, number: usize) -> &Mesh {
        &self.homes[number]
    }

    /// A node that runs.
    #[track_caller]
    pub fn node(&mut self, number: usize) -> &mut Node {
        self.nodes[number].as_mut().unwrap_or_else(|| panic!("node {number} does not run"))
    }

    /// Does it run, as far as we have not ended it?
    pub fn runs(&self, number: usize) -> bool {
        self.nodes[number].is_some()
    }

    /// Takes a node away, to be ended.
    #[track_caller]
    pub fn take(&mut self, number: usize) -> Node {
        self.nodes[number].take().unwrap_or_else(|| panic!("node {number} does not run"))
    }

    /// The network on which they are.
    ///
    /// # Panics
    /// If they are on loopback.
    pub fn network(&mut self) -> &mut Network {
        self.network.as_mut().expect("they are on a network of their own")
    }

    /// What a node says of the others, by name.
    #[track_caller]
    pub fn seen_by(&self, number: usize) -> Vec<Seen> {
        let peers = self.peers(number);
        let seen = |json: &Value| Seen {
            name: json["name"].as_str().expect("a member has a name").to_owned(),
            connected: json["connected"].as_bool().expect("it is connected or not"),
            json: json.clone(),
        };
        let members = peers["members"].as_array().expect("members are listed");
        let mut members: Vec<Seen> = members.iter().map(seen).collect();
        members.sort_by(|one, two| one.name.cmp(&two.name));
        members
    }

    /// The numbers of those to which a node is connected.
    #[track_caller]
    pub fn connected_to(&self, number: usize) -> Vec<usize> {
        let seen = self.seen_by(number).into_iter().filter(|seen| seen.connected);
        let mut numbers: Vec<usize> = seen.filter_map(|seen| number_of(&seen.name)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until a node is connected to just these.
    #[track_caller]
    pub fn wait_until_connected(&mut self, number: usize, to: &[usize]) {
        let what = format!("node {number} to be connected to {to:?}");
        self.wait_until(number, &what, |members| members.connected_to(number) == to);
    }

    /// Waits until it is so, which may change when a node says something.
    #[track_caller]
    pub fn wait_until(&mut self, number: usize, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut node = self.take(number);
        node.says_until(what, || is_so(self));
        self.nodes[number] = Some(node);
    }

    /// Waits until all that run see all that run.
    #[track_caller]
    pub fn wait_until_all_connected(&mut self) {
        let running: Vec<usize> = (0..self.count()).filter(|number| self.runs(*number)).collect();
        for &number in &running {
            let others: Vec<usize> = running.iter().copied().filter(|&n| n != number).collect();
            self.wait_until_connected(number, &others);
        }
    }
}

/// What people call a node.
pub fn name(number: usize) -> String {
    format!("n{number}")
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

/// Looks again and again until it is so.
///
/// # Panics
/// If it takes longer than any machine should need.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}, in vain");
        std::thread::yield_now();
    }
}
