//! Scenarios.

use mesh_protocol::sched::named::{PolicyNames, allowed};
use mesh_protocol::sched::policy::PlacementName;
use mesh_protocol::sched::speculation::SpeculationName;

use crate::config::{ConfigError, Document, Section, Unit};
use crate::kernel::{SimTime, Span};
use crate::limits::AHEAD_MAX;
use crate::network::Model;
use crate::platform::Platform;
use crate::policy::{Estimates, PROBES_MAX, Policy, PolicyChoice};
use crate::protocol::{self, ClaimProtocol, Policies};
use crate::run::{DataModel, Outcome, RunError, Setup, run};
use crate::workload::{Graph, TooLarge, Workload};

/// A scenario file, understood.
#[derive(Debug)]
pub struct Scenario {
    /// One line.
    pub title: String,
    /// What it shows.
    pub about: String,
    /// How many seeds, if nobody says otherwise.
    pub seeds: u32,
    /// The machines.
    pub platform: Platform,
    /// What they run.
    pub workload: Workload,
    /// The policy.
    pub policy: PolicyChoice,
    /// The policies of the protocol's own machines, if those are simulated.
    protocol: Option<Policies>,
    estimates: Estimates,
    network: Model,
    data: DataModel,
    ahead: u32,
    home: usize,
    horizon: SimTime,
}

/// Why a simulation failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The workload is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The run did not end.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A year.
const HORIZON_S: f64 = 365.0 * 86_400.0;

impl Scenario {
    /// Understands a document.
    pub fn read(document: &Document) -> Result<Self, ConfigError> {
        let root = document.root();
        let title = root.text("title")?;
        let fidelities = [
            ("fast", (Model::Constant, false)),
            ("flow", (Model::Fair, false)),
            ("protocol", (Model::Constant, true)),
        ];
        let fidelity = root.choice("fidelity", &fidelities)?;
        let (network, is_protocol) = fidelity.unwrap_or((Model::Constant, false));
        let data = [("objects", DataModel::Objects), ("edges", DataModel::Edges)];
        let platform = root.section("platform")?;
        let platform = Platform::read(&root.need("platform", platform, "a table [platform]")?)?;
        let workload = root.section("workload")?;
        let workload = Workload::read(&root.need("workload", workload, "a table [workload]")?)?;
        let (policy, ways, estimates, ahead) = read_policy(&root, is_protocol)?;
        let protocol = is_protocol.then(|| read_protocol(&root, &policy, ways)).transpose()?;
        let horizon = root.number("horizon", Unit::Seconds, 1.0..=1e9)?.unwrap_or(HORIZON_S);
        let scenario = Self {
            title: root.need("title", title, "one line of text")?.to_owned(),
            about: root.text("about")?.unwrap_or_default().trim().to_owned(),
            seeds: root.integer("seeds", 1..=100_000)?.unwrap_or(10) as u32,
            policy,
            protocol,
            estimates,
            network,
            data: root.choice("data", &data)?.unwrap_or(DataModel::Objects),
            ahead,
            home: read_home(&root, &platform)?,
            horizon: SimTime::ZERO + Span::from_seconds(horizon),
            platform,
            workload,
        };
        let goes = scenario.platform.groups.iter().any(|group| group.churn.is_some());
        if scenario.data == DataModel::Edges && (goes || is_protocol) {
            let problem = "edges, with hosts that go or the protocol";
            return Err(root.wrong("data", problem, "objects"));
        }
        let lies = scenario.platform.groups.iter().any(|group| group.liars.is_some());
        if lies && !is_protocol {
            let problem = "liars, of whom only the machines of the protocol make anything";
            return Err(root.wrong("fidelity", problem, "protocol"));
        }
        if !scenario.platform.machines.is_empty() && !is_protocol {
            let problem = "machines, whose time only the protocol takes";
            return Err(root.wrong("fidelity", problem, "protocol"));
        }
        root.finish()?;
        Ok(scenario)
    }

    /// Runs it under a seed.
    pub fn run(&self, seed: u64) -> Result<Outcome, SimulationError> {
        let graph = self.workload.build(seed)?;
        Ok(match self.protocol {
            Some(policies) => protocol::run(self.setup(&graph, seed), policies)?,
            None => self.run_graph(&graph, seed, self.policy.make().as_mut())?,
        })
    }

    /// Runs it under a policy that has no name.
    pub fn run_with(&self, seed: u64, policy: &mut dyn Policy) -> Result<Outcome, SimulationError> {
        Ok(self.run_graph(&self.workload.build(seed)?, seed, policy)?)
    }

    /// Runs a graph of one's own on the scenario's platform.
    pub fn run_graph(
        &self,
        graph: &Graph,
        seed: u64,
        policy: &mut dyn Policy,
    ) -> Result<Outcome, RunError> {
        run(self.setup(graph, seed), policy)
    }

    fn setup<'a>(&'a self, graph: &'a Graph, seed: u64) -> Setup<'a> {
        Setup {
            platform: &self.platform,
            graph,
            network: self.network,
            data: self.data,
            estimates: self.estimates,
            ahead: self.ahead,
            home: self.home,
            horizon: self.horizon,
            seed,
        }
    }
}

fn read_policy(
    root: &Section<'_>,
    is_protocol: bool,
) -> Result<(PolicyChoice, (ClaimProtocol, u32), Estimates, u32), ConfigError> {
    let section = root.section("policy")?;
    let section = root.need("policy", section, "a table [policy]")?;
    let claims = read_claims(&section, is_protocol)?;
    let check_permille = read_check(&section, is_protocol)?;
    let probing: &[&str] =
        if matches!(claims, ClaimProtocol::Probing(_)) { &["probes"] } else { &[] };
    let name = PolicyChoice::read(&section, probing)?;
    let kinds = [
        ("exact", Estimates::Exact),
        ("noisy", Estimates::Noisy(0.5)),
        ("class-mean", Estimates::ClassMean),
        ("blind", Estimates::Blind),
    ];
    let estimates = section.choice("estimates", &kinds)?.unwrap_or(Estimates::Exact);
    let cv = section.number("cv", Unit::Plain, 0.0..=100.0)?;
    let estimates = match (estimates, cv) {
        (Estimates::Noisy(_), Some(cv)) => Estimates::Noisy(cv),
        (Estimates::Noisy(_), None) => {
            return Err(section.wrong(
                "cv",
                "missing",
                "the coefficient of variation of the noise",
            ));
        }
        (other, None) => other,
        (_, Some(_)) => {
            return Err(section.wrong("cv", "without noise", "only with estimates = \"noisy\""));
        }
    };
    let ahead = section.integer("ahead", 0..=AHEAD_MAX)?.unwrap_or(0) as u32;
    section.finish()?;
    Ok((name, (claims, check_permille), estimates, ahead))
}

/// How work and slots find each other.
fn read_claims(section: &Section<'_>, is_protocol: bool) -> Result<ClaimProtocol, ConfigError> {
    let claims = section.choice("claims", &ClaimProtocol::ALL)?;
    if claims.is_some() && !is_protocol {
        let problem = "without the protocol";
        return Err(section.wrong("claims", problem, "only with fidelity = \"protocol\""));
    }
    Ok(match claims.unwrap_or_default() {
        ClaimProtocol::Probing(usual) => {
            let probes = section.integer("probes", 1..=PROBES_MAX)?;
            ClaimProtocol::Probing(probes.map_or(usual, |probes| probes as u32))
        }
        other => other,
    })
}

/// How many results in a thousand are checked, of workers that are proven.
fn read_check(section: &Section<'_>, is_protocol: bool) -> Result<u32, ConfigError> {
    let percent = section.number("check", Unit::Plain, 0.0..=100.0)?;
    if percent.is_some() && !is_protocol {
        let problem = "without the protocol";
        return Err(section.wrong("check", problem, "only with fidelity = \"protocol\""));
    }
    Ok((percent.unwrap_or(0.0) * 10.0).round() as u32)
}

/// What the machines of the protocol go by: a policy that sees no more than a requester does.
fn read_protocol(
    root: &Section<'_>,
    policy: &PolicyChoice,
    (claims, check_permille): (ClaimProtocol, u32),
) -> Result<Policies, ConfigError> {
    let Some(placement) = policy.placement() else {
        let problem = "protocol, with a policy that sees everything";
        let allowed = allowed(&PlacementName::ALL);
        let allowed = format!("one of the policies {allowed}, or another fidelity");
        return Err(root.wrong("fidelity", problem, allowed));
    };
    let speculation = root.choice("speculation", &SpeculationName::ALL)?.unwrap_or_default();
    Ok(Policies { names: PolicyNames { placement, speculation }, claims, check_permille })
}

/// The group from which users submit: the first, or the one that `home` names.
fn read_home(root: &Section<'_>, platform: &Platform) -> Result<usize, ConfigError> {
    let Some(name) = root.text("home")? else { return Ok(0) };
    platform.groups.iter().position(|group| group.name == name).ok_or_else(|| {
        let names: Vec<&str> = platform.groups.iter().map(|group| group.name.as_str()).collect();
        root.wrong("home", format!("no group {name:?}"), names.join(", "))
    })
}
