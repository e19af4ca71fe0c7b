//! `mesh join` as it is typed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mesh_node::metrics::{Loopback, NotLoopback};
use mesh_protocol::sched::named::UnknownPolicy;
use mesh_protocol::sched::policy::PlacementName;
use mesh_protocol::sched::speculation::SpeculationName;

use super::values::{PERCENT_MAX, parse_size, parse_span, slots};

#[derive(Args, Default, Debug)]
pub(crate) struct JoinArgs {
    /// What `mesh invite` printed
    #[arg(env = "MESH_TICKET", hide_env_values = true)]
    pub(crate) ticket: Option<String>,
    /// Where to listen, as a multiaddress [default: /ip4/0.0.0.0/tcp/6374]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// What people call this machine (default: its host name)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Neither look for members on the local network nor be found there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) no_mdns: Option<bool>,
    /// Cores that others' thunks may keep busy (default: all)
    #[arg(long, value_name = "N", value_parser = slots())]
    pub(crate) slots: Option<u32>,
    /// Help only while nobody else uses the machine and it is not on battery; thunks stand back then
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) only_when_idle: Option<bool>,
    /// Compute so many in a hundred of the results that others send once more here (default: none), and all of
    /// those whom it does not know well; who is found to lie gets nothing any more
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=i64::from(PERCENT_MAX)))]
    pub(crate) check: Option<u32>,
    /// Memory that others' thunks may take, each and all together (default: all): a number of bytes, or one with
    /// K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// What the files that one of others' thunks makes may take, and what it leaves (default: half of the memory
    /// of this machine): a size, as for --memory
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) files: Option<u64>,
    /// Go on in the background once it is a member; what it says goes to MESH_HOME/node.log
    #[arg(long)]
    pub(crate) detach: bool,
    /// Keep nothing: key, membership and objects are in a temporary directory that is removed in the end
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// End after having had nothing to do for so long: a number and s, m, h or d; or never
    #[arg(long, value_name = "TIME", value_parser = parse_idle_exit)]
    pub(crate) idle_exit: Option<IdleExit>,
    /// Serve metrics for Prometheus at this loopback address; port 0: any (mesh status --json has it); or off
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<Metrics>,
    /// Which ready thunk of a build here goes to others first (default: critical-path)
    #[arg(long, value_name = "NAME", value_parser = named(&PlacementName::ALL))]
    pub(crate) placement: Option<PlacementName>,
    /// Which runs of a build here get a second copy on idle slots (default: ours)
    #[arg(long, value_name = "NAME", value_parser = named(&SpeculationName::ALL))]
    pub(crate) speculation: Option<SpeculationName>,
    /// It was started by --detach
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) detached: bool,
}

/// When a node that has nothing to do ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdleExit {
    Never,
    After(Duration),
}

/// `never`, or a span.
pub(crate) fn parse_idle_exit(text: &str) -> Result<IdleExit, String> {
    match text {
        "never" => Ok(IdleExit::Never),
        span => parse_span(span).map(|span_s| IdleExit::After(Duration::from_secs(span_s))),
    }
}

/// Where a node tells monitors how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metrics {
    Off,
    At(Loopback),
}

impl FromStr for Metrics {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// One of the policies of a table.
fn named<T>(table: &[(&'static str, T)]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownPolicy> + Clone + Send + Sync + 'static,
{
    let names: Vec<&'static str> = table.iter().map(|(name, _)| *name).collect();
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}
