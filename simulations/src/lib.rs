//! The simulator: what would this workload take, on those machines, under that policy?
//!
//! For the researcher who compares scheduling policies, and for the developer who needs a change of a
//! policy judged before it meets a team. A run is a discrete-event simulation of hosts, a network,
//! faults and a graph of tasks, in virtual time, on one thread, and a function of its scenario and
//! its seed: the same bytes on any machine.
//!
//! ```text
//! scenario.toml --config--> Scenario = Platform + Workload + policy
//!                              | seed
//!      Hosts, Graph  <---------+
//!            \   /
//!             run  <-- kernel (events, randomness), network (transfers), policy (placements)
//!              |
//!           Outcome = Summary + a record per task  --experiment--> sweeps, comparisons, CSV
//! ```
//!
//! Read [`run`] for the life of a task and what is left out, [`policy`] for how to add a policy,
//! [`experiment::Scenario`] for how to run one:
//!
//! ```
//! use mesh_simulations::config::Document;
//! use mesh_simulations::experiment::Scenario;
//!
//! let text = "
//!     title = 'ten tasks on four cores'
//!     [platform]
//!     [[platform.hosts]]
//!     name = 'worker'
//!     count = 2
//!     cores = 2
//!     [workload]
//!     kind = 'bag'
//!     tasks = 10
//!     work = '3 s'
//!     [policy]
//!     name = 'fifo'
//! ";
//! let document = Document::parse(text, "example.toml", std::path::Path::new(""))?;
//! let outcome = Scenario::read(&document)?.run(1)?;
//! assert_eq!(outcome.summary.makespan, 9.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fidelities
//! `fast`: a global policy and a network in which transfers do not meet, the setting of most of the
//! literature. `flow`: the same with links that are shared by max-min fairness. `protocol`: the machines
//! of `mesh_protocol::sched` themselves, with gossip, claims and leases ([`protocol`]): what a
//! decentralised protocol costs, where the other two say what it could at best reach.
//!
//! # How far to trust it
//! Held by tests: M/M/c queues wait as Erlang's formula says within 1 %, and job by job as the
//! recursion of Kiefer and Wolfowitz says; identical tasks, chains and shared links take exactly what
//! arithmetic says; 27 makespans of three workflows of 1,000 tasks, on three sets of hosts and three
//! networks, equal SimGrid's within 1e-6 (`validation/`); a thousand sleeps on 33 real nodes, all on one
//! machine, take what they took within a tenth, when what the machine takes is calibrated by a run of
//! other thunks ([`experiment::Calibration`]). Not held: any comparison with a mesh of many machines.
//!
//! # Cost
//! One core of a 2-core virtual machine: 30 M bare events a second at 1,000 pending ones, 13 M at
//! 100,000; a million independent tasks on 10,000 hosts in one second and 180 MB, on 100,000 hosts in
//! two seconds and 220 MB; about 180 bytes per task and 470 per host. `flow` costs as many steps per
//! change as flows share links with it: 20,000 tasks on 1,000 hosts that fetch through one user's
//! link take six seconds (`cargo bench -p mesh-simulations`). `protocol`: 100,000 tasks on 1,000 hosts of
//! four cores in two seconds, 800,000 messages; 20,000 on 10,000 hosts in two seconds. What an event costs
//! does not grow with the hosts, but each offer is heard by all of them: ten users with 20,000 tasks each
//! among 100,000 hosts are 160 million events, seven minutes.

pub mod config;
pub mod experiment;
pub mod kernel;
pub mod limits;
pub mod network;
pub mod platform;
pub mod policy;
pub mod protocol;
pub mod report;
pub mod run;
pub mod workload;
