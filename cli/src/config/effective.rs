//! What is in effect: flags over the environment over the file over defaults.

use mesh_node::exec::SandboxOptions;
use mesh_node::net::swarm::SwarmConfig;
use mesh_node::node::{NodeOptions, cores};
use mesh_protocol::sched::named::PolicyNames;
use mesh_protocol::sched::policy::PlacementName;
use mesh_protocol::sched::speculation::SpeculationName;
use serde_json::{Value, json};

use super::file::Config;
use super::setting::{Origin, Row, Setting};
use crate::args::{BuildArgs, ForceArgs, IdleExit, InferArgs, JoinArgs, Metrics, RunArgs};
use crate::logging;

/// Set to anything, it means `--no-bind`.
const NO_BIND_VARIABLE: &str = "MESH_NO_BIND";

/// Where a node listens that was told nothing else.
const LISTEN: &str = "/ip4/0.0.0.0/tcp/6374";

/// What `mesh gc` leaves that was told nothing else.
const QUOTA_BYTES: u64 = 20 << 30;

/// What people call this machine.
pub(crate) fn name(config: &Config, flag: Option<&String>) -> Setting<String> {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Setting::pick(flag.cloned(), &config.name, host)
}

/// What is logged; an empty filter: nothing.
pub(crate) fn log_filter(config: &Config) -> Setting<String> {
    match std::env::var(logging::VARIABLE) {
        Ok(value) if !value.is_empty() => {
            Setting { value, origin: Origin::Environment(logging::VARIABLE) }
        }
        _ => Setting::pick(None, &config.log, || "off".to_owned()),
    }
}

/// Bytes that objects may take.
pub(crate) fn quota(config: &Config, flag: Option<u64>) -> Setting<u64> {
    Setting::pick(flag, &config.quota_bytes, || QUOTA_BYTES)
}

/// What `mesh join` does.
#[derive(Clone, Debug)]
pub(crate) struct JoinSettings {
    pub(crate) listen: Setting<Vec<String>>,
    pub(crate) mdns: Setting<bool>,
    pub(crate) slots: Setting<u32>,
    pub(crate) memory_bytes: Setting<u64>,
    pub(crate) files_bytes: Setting<u64>,
    pub(crate) only_when_idle: Setting<bool>,
    pub(crate) check_percent: Setting<u32>,
    pub(crate) idle_exit: Setting<IdleExit>,
    pub(crate) metrics: Setting<Metrics>,
    pub(crate) placement: Setting<PlacementName>,
    pub(crate) speculation: Setting<SpeculationName>,
}

impl JoinSettings {
    pub(crate) fn of(config: &Config, args: &JoinArgs) -> Self {
        let (keys, default) = (&config.join, NodeOptions::default());
        let listen = Some(args.listen.clone()).filter(|listen| !listen.is_empty());
        let mdns = args.no_mdns.map(|no_mdns| !no_mdns);
        Self {
            listen: Setting::pick(listen, &keys.listen, || vec![LISTEN.to_owned()]),
            mdns: Setting::pick(mdns, &keys.mdns, || true),
            slots: Setting::pick(args.slots, &keys.slots, || default.slots),
            memory_bytes: Setting::pick(args.memory, &keys.memory_bytes, || default.memory_bytes),
            files_bytes: Setting::pick(args.files, &keys.files_bytes, || default.files_bytes),
            only_when_idle: Setting::pick(args.only_when_idle, &keys.only_when_idle, || false),
            check_percent: Setting::pick(args.check, &keys.check_percent, || 0),
            idle_exit: Setting::pick(args.idle_exit, &keys.idle_exit, || IdleExit::Never),
            metrics: Setting::pick(args.metrics, &keys.metrics, || Metrics::Off),
            placement: Setting::pick(args.placement, &keys.placement, PlacementName::default),
            speculation: Setting::pick(
                args.speculation,
                &keys.speculation,
                SpeculationName::default,
            ),
        }
    }

    /// For the node.
    pub(crate) fn node(&self) -> NodeOptions {
        let network = SwarmConfig {
            listen: self.listen.value.clone(),
            mdns: self.mdns.value,
            ..SwarmConfig::default()
        };
        NodeOptions {
            network,
            slots: self.slots.value,
            memory_bytes: self.memory_bytes.value,
            files_bytes: self.files_bytes.value,
            only_when_idle: self.only_when_idle.value,
            check_permille: 10 * self.check_percent.value,
            policies: PolicyNames {
                placement: self.placement.value,
                speculation: self.speculation.value,
            },
        }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let idle_exit = |idle_exit: &IdleExit| match idle_exit {
            IdleExit::Never => json!("never"),
            IdleExit::After(time) => json!(format!("{}s", time.as_secs())),
        };
        vec![
            self.listen.row("join.listen", |listen| json!(listen)),
            self.mdns.row("join.mdns", plain),
            self.slots.row("join.slots", |slots| json!(slots)),
            self.memory_bytes.row("join.memory", |bytes| json!(bytes)),
            self.files_bytes.row("join.files", |bytes| json!(bytes)),
            self.only_when_idle.row("join.only-when-idle", plain),
            self.check_percent.row("join.check", |percent| json!(percent)),
            self.idle_exit.row("join.idle-exit", idle_exit),
            self.metrics.row("join.metrics", |metrics| json!(metrics.to_string())),
            self.placement.row("join.placement", |placement| json!(placement.name())),
            self.speculation.row("join.speculation", |speculation| json!(speculation.name())),
        ]
    }
}

/// Flags of the commands that build.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct BuildFlags {
    pub(crate) slots: Option<u32>,
    pub(crate) local: Option<bool>,
    pub(crate) keep_going: Option<bool>,
    pub(crate) eager: Option<bool>,
    pub(crate) no_bind: Option<bool>,
    pub(crate) quiet: Option<bool>,
}

impl From<&BuildArgs> for BuildFlags {
    fn from(args: &BuildArgs) -> Self {
        let BuildArgs { slots, local, eager, no_bind, quiet, .. } = *args;
        Self { slots, local, eager, no_bind, quiet, ..Self::default() }
    }
}

impl From<&InferArgs> for BuildFlags {
    fn from(args: &InferArgs) -> Self {
        Self { quiet: args.quiet, ..Self::default() }
    }
}

impl From<&ForceArgs> for BuildFlags {
    fn from(args: &ForceArgs) -> Self {
        let ForceArgs { slots, local, keep_going, quiet, .. } = *args;
        Self { slots, local, keep_going, quiet, ..Self::default() }
    }
}

impl From<&RunArgs> for BuildFlags {
    fn from(args: &RunArgs) -> Self {
        let RunArgs { local, quiet, .. } = *args;
        Self { local, quiet, ..Self::default() }
    }
}

/// What builds do.
#[derive(Clone, Debug)]
pub(crate) struct BuildSettings {
    pub(crate) slots: Setting<u32>,
    pub(crate) local: Setting<bool>,
    pub(crate) keep_going: Setting<bool>,
    pub(crate) eager: Setting<bool>,
    pub(crate) files_bytes: Setting<u64>,
    pub(crate) bind: Setting<bool>,
    pub(crate) quiet: Setting<bool>,
}

impl BuildSettings {
    pub(crate) fn of(config: &Config, flags: BuildFlags) -> Self {
        let keys = &config.build;
        Self {
            slots: Setting::pick(flags.slots, &keys.slots, cores),
            local: Setting::pick(flags.local, &keys.local, || false),
            keep_going: Setting::pick(flags.keep_going, &keys.keep_going, || false),
            eager: Setting::pick(flags.eager, &keys.eager, || false),
            files_bytes: Setting::pick(None, &keys.files_bytes, || {
                SandboxOptions::default().files_bytes
            }),
            bind: bind(config, flags.no_bind),
            quiet: Setting::pick(flags.quiet, &keys.quiet, || false),
        }
    }

    /// For the sandboxes of thunks that run here.
    pub(crate) fn sandbox(&self) -> SandboxOptions {
        SandboxOptions { files_bytes: self.files_bytes.value, ..SandboxOptions::default() }
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        vec![
            self.slots.row("build.slots", |slots| json!(slots)),
            self.local.row("build.local", plain),
            self.keep_going.row("build.keep-going", plain),
            self.eager.row("build.eager", plain),
            self.files_bytes.row("build.files", |bytes| json!(bytes)),
            self.bind.row("build.bind", plain),
            self.quiet.row("build.quiet", plain),
        ]
    }
}

fn bind(config: &Config, no_bind: Option<bool>) -> Setting<bool> {
    let is_set = std::env::var_os(NO_BIND_VARIABLE).is_some_and(|value| !value.is_empty());
    match (no_bind, is_set) {
        (None, true) => Setting { value: false, origin: Origin::Environment(NO_BIND_VARIABLE) },
        (flag, _) => Setting::pick(flag.map(|no_bind| !no_bind), &config.build.bind, || true),
    }
}

fn plain(value: &bool) -> Value {
    json!(value)
}
