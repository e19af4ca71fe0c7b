//! The command line, as it is typed.

mod sim;

use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use mesh_node::metrics::{Loopback, NotLoopback};
use mesh_protocol::limits;
use mesh_protocol::sched::named::UnknownPolicy;
use mesh_protocol::sched::policy::PlacementName;
use mesh_protocol::sched::speculation::SpeculationName;
use mesh_protocol::wire::admission::Roles;

pub(crate) use sim::{
    Settings, SimCalibrateArgs, SimCommand, SimCompareArgs, SimReplayArgs, SimRunArgs,
    SimSweepArgs, SimValidateArgs,
};

/// Everyday command lines as graphs of content-addressed thunks.
///
/// State is kept in MESH_HOME (default: $XDG_DATA_HOME/mesh). Data goes to standard output, talk to
/// standard error. Defaults of flags are in MESH_HOME/config.toml (default: $XDG_CONFIG_HOME/mesh/config.toml);
/// flags override them, and mesh config check prints them. Exit codes: 0 done, 1 something found wrong, 64 wrong command line, 65 wrong
/// data, 66 not found, 69 this machine cannot, 70 a bug, 73 disk full, 74 other trouble with the file system.
#[derive(Parser, Debug)]
#[command(name = "mesh", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run make with its compilers, linkers and archivers as thunks: `mesh build -- make ARGS…`
    ///
    /// All arguments are make's.
    #[command(disable_help_flag = true)]
    Make(MakeArgs),
    /// Run a build command with its compilers, linkers and archivers as thunks
    ///
    /// The build goes on before its compilers have run: what they will leave is a placeholder until
    /// it is there, and a program that opens one waits. Files, errors and exit status are those of
    /// the build without mesh. What has been compiled before is not compiled again. What mesh does
    /// not understand runs as if mesh were absent, and is counted as local.
    Build(BuildArgs),
    /// Run a build command, but leave placeholders in place of what its tools would make
    ///
    /// `mesh force FILE…` makes them real, with all that they depend on.
    Infer(InferArgs),
    /// Run one command as a thunk, and bring what it leaves to its place
    ///
    /// The command sees its own program with what that loads, and what is given with -i, at the
    /// same paths as here; nothing else. What it writes on standard output and error is shown when
    /// it has ended, and the exit status is its own. What ran before is not run again.
    Run(RunArgs),
    /// Store files or directories and print their names
    Put(PutArgs),
    /// Write an object to a file, or a tree to a directory
    ///
    /// What is not here is brought by the node of this home (mesh join), if a member has it.
    Get(GetArgs),
    /// Say which members have an object, and what is known of a thunk
    Find(FindArgs),
    /// Write an object to standard output
    Cat(NameArgs),
    /// List a tree
    Ls(LsArgs),
    /// Make, show and draw thunks
    #[command(subcommand)]
    Thunk(ThunkCommand),
    /// Reduce thunks to values, make placeholders real, and print their names
    ///
    /// What is remembered is not run again. `mesh force -` reads thunks in the JSON form, one a
    /// line, and writes one JSON result a line as each is done:
    /// {"line": 1, "thunk": "T…", "outputs": {"out": {"file": {"name": "V…", "executable": false}}}},
    /// or "error" in place of "outputs".
    Force(ForceArgs),
    /// Show what a thunk wrote on standard output and error when it ran
    Log(LogArgs),
    /// Remove the objects used least recently until the quota is met
    ///
    /// What is pinned, and what another mesh process may be using, stays whatever the quota.
    Gc(GcArgs),
    /// Look after the store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Simulate scheduling: a workload on machines that a scenario describes
    ///
    /// docs/simulator.md tells how scenarios are written.
    #[command(subcommand)]
    Sim(SimCommand),
    /// Make a mesh, whose first member and admin is this machine
    Init(InitArgs),
    /// Print a ticket, with which another machine joins: `mesh join TICKET`
    ///
    /// Only an admin's node can, and only while it runs: it redeems the ticket itself. Whoever has
    /// the ticket can join, so send it as you would a password.
    Invite(InviteArgs),
    /// Be part of a mesh, in the foreground, until interrupted
    ///
    /// With a ticket (or MESH_TICKET) this machine becomes a member; without one it goes back to
    /// the mesh that it knows. It runs thunks of other members, and builds in this MESH_HOME use them.
    /// An interrupt lets it finish what it runs, half a minute at most; a second one ends it.
    Join(JoinArgs),
    /// End the node of this home: it finishes what it runs for others, half a minute at most
    Stop,
    /// Let others have nothing of this machine until `mesh resume`; what runs goes on
    Pause,
    /// Let others have what they had before `mesh pause`
    Resume,
    /// Say how the node of this home stands: what runs here and elsewhere, and for whom
    Status(JsonArgs),
    /// List the members of the mesh
    Peers(JsonArgs),
    /// Let a machine in no more, and tell all members: for ever
    Revoke(RevokeArgs),
    /// Forget the mesh; its members are not told
    Leave(LeaveArgs),
    /// Check the file with this machine's settings, and say what they come to
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Have systemd run this machine's node for you
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Say what this machine can do, and what to do about what it cannot
    Doctor(JsonArgs),
    /// Print completions for a shell
    ///
    /// For bash: mesh completions bash > ~/.local/share/bash-completion/completions/mesh
    Completions(CompletionsArgs),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct MakeArgs {
    /// Arguments of make
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct BuildArgs {
    /// Let each tool's caller wait until the tool has run
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) eager: Option<bool>,
    /// Run and bring only what these files need; the rest stays placeholders
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "eager")]
    pub(crate) targets_only: Vec<PathBuf>,
    /// Write counts and what ran locally, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Record what ran when, for Perfetto, chrome://tracing and the simulator, in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// After a failure, go on with what does not depend on it
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) keep_going: Option<bool>,
    /// Cores of this machine to keep busy (default: all); 0: thunks run on other members alone
    #[arg(long, value_name = "N", value_parser = slots())]
    pub(crate) slots: Option<u32>,
    /// Run everything here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Leave the build in the mount namespace it is in: tools called by their absolute paths run here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) no_bind: Option<bool>,
    /// Say nothing but what the build and its tools say
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The build command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct InferArgs {
    /// Say nothing but what the build says
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The build command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct RunArgs {
    /// A file or directory that the command reads; of a program, what it loads as well
    #[arg(short, long = "input", value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    /// A file or directory that it leaves; a path that ends in / is a directory
    #[arg(short, long = "output", value_name = "PATH")]
    pub(crate) outputs: Vec<PathBuf>,
    /// A variable of its environment; without a value, the one that it has here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// What it reads on standard input (default: nothing); - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// Wall time that it may take (default: a day)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<u64>,
    /// Memory that it may take: a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Run it even if its result is known
    #[arg(long)]
    pub(crate) no_memo: bool,
    /// Run it here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Print one JSON object in place of what the command writes
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but what the command says
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
    /// The command
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct PutArgs {
    /// Files or directories; - is standard input
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Never let `mesh gc` remove them
    #[arg(long)]
    pub(crate) pin: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct GetArgs {
    /// V…, T… or T…#tag
    pub(crate) name: String,
    /// Where to: a file that is replaced, or for a tree a directory that does not exist yet
    pub(crate) path: PathBuf,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct FindArgs {
    /// V… or T…
    pub(crate) name: String,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct NameArgs {
    /// V…, T… or T…#tag
    pub(crate) name: String,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LsArgs {
    /// V…, T… or T…#tag of a tree
    pub(crate) name: String,
    /// With everything below
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ThunkCommand {
    /// Store a thunk given as JSON and print its name
    ///
    /// The form: {"function": {"executable": "/bin/cp", "arguments": ["cp", "/in", "/out"]},
    /// "inputs": {"/in": "V…", …}, "outputs": {"out": "/out"}}. docs/thunk.md has the whole.
    Create(ThunkCreateArgs),
    /// Print a thunk as JSON
    Show(ThunkShowArgs),
    /// Print the graph of some thunks and all they depend on, in DOT
    Graph(ThunkGraphArgs),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ThunkCreateArgs {
    /// A file with the JSON form; - is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Write the thunk's bytes to this file and use no store: for programs that run as thunks and
    /// return thunks
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ThunkShowArgs {
    /// T… of a thunk
    pub(crate) name: String,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ThunkGraphArgs {
    /// T… of thunks
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ForceArgs {
    /// T…, T…#tag, or a file in which `mesh infer` left a placeholder; - reads thunks as JSON lines
    #[arg(required = true, value_name = "NAME|FILE")]
    pub(crate) names: Vec<String>,
    /// Cores of this machine to keep busy (default: all); 0: thunks run on other members alone
    #[arg(long, value_name = "N", value_parser = slots())]
    pub(crate) slots: Option<u32>,
    /// Run everything here, also if this home's node is a member of a mesh
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) local: Option<bool>,
    /// Record what ran when, for Perfetto, chrome://tracing and the simulator, in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Go on with what does not depend on a failed thunk
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) keep_going: Option<bool>,
    /// No progress, no closing line
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub(crate) quiet: Option<bool>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LogArgs {
    /// T… of a thunk
    pub(crate) name: String,
    /// What it took as well, all as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct GcArgs {
    /// Bytes the objects may take: a number, or one with K, M, G or T [default: 20G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) quota: Option<u64>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Compare every object with its name; what is corrupt is put aside and will be made again
    Verify(JsonArgs),
    /// Say how much the store holds
    Stats(JsonArgs),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct JsonArgs {
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct InitArgs {
    /// What people call this machine (default: its host name)
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct InviteArgs {
    /// What the newcomer may do: worker, submitter, member (both) or admin
    #[arg(long, default_value = "member")]
    pub(crate) role: Roles,
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::TICKET_USES)))]
    pub(crate) uses: u32,
    /// How long it may be used: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_span)]
    pub(crate) expires: u64,
}

#[derive(ClapArgs, Default, Debug)]
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
    /// Memory that one of others' thunks may take (default: all): a number of bytes, or one with K, M, G or T
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
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

#[derive(ClapArgs, Debug)]
pub(crate) struct RevokeArgs {
    /// Its id, or enough of its beginning, or its name, as `mesh peers` prints them
    pub(crate) peer: String,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct LeaveArgs {
    /// Also if this machine made the mesh: its key is lost, and with it the way to make admins
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Check a config file, and print what is in effect and where it comes from
    ///
    /// A command behind -- adds its flags: mesh config check -- join --slots 2. It is not run.
    Check(ConfigCheckArgs),
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ConfigCheckArgs {
    /// The file (default: that of this home)
    pub(crate) file: Option<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// A command whose flags are laid over the file
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    /// Write a systemd user unit that runs mesh join with what the config file says
    ///
    /// It is ~/.config/systemd/user/mesh.service. Nothing is started: what to do for that is said.
    Install(ServiceInstallArgs),
    /// End the service, and remove its unit
    Uninstall,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct ServiceInstallArgs {
    /// Only print the unit
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct CompletionsArgs {
    pub(crate) shell: Shell,
}

/// Cores that a flag or a key of the config file may name.
pub(crate) const SLOTS: RangeInclusive<u64> = 0..=limits::CLAIM_CORES as u64;

/// All of them.
pub(crate) const PERCENT_MAX: u32 = 100;

fn slots() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(limits::CLAIM_CORES))
}

/// When a node that has nothing to do ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdleExit {
    Never,
    After(Duration),
}

/// `never`, or a span.
/// One of the policies of a table.
fn named<T>(table: &[(&'static str, T)]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownPolicy> + Clone + Send + Sync + 'static,
{
    let names: Vec<&'static str> = table.iter().map(|(name, _)| *name).collect();
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

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

/// Seconds, perhaps with a fraction, as milliseconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a time is a number of seconds")?;
    let milliseconds = (seconds * 1000.0).ceil();
    let most = mesh_protocol::limits::TIMEOUT_MS_MAX;
    if !(1.0..=most as f64).contains(&milliseconds) {
        return Err(format!("a time is more than 0 and at most {} seconds", most / 1000));
    }
    Ok(milliseconds as u64)
}

/// `90s`, `30m`, `24h`, `7d`, as seconds.
fn parse_span(text: &str) -> Result<u64, String> {
    let expected = "a time is a number and s, m, h or d";
    let (at, unit) = text.char_indices().next_back().ok_or(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(expected.to_owned()),
    };
    let number: u64 = text[..at].parse().map_err(|_| expected)?;
    let most_s = 10 * 365 * 24 * 60 * 60;
    let span_s = number.checked_mul(seconds).filter(|span_s| (1..=most_s).contains(span_s));
    span_s.ok_or_else(|| "a time is more than 0 and at most ten years".to_owned())
}

/// `20G` and the like, in powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let unit = text.char_indices().next_back().map_or(0, |(at, last)| match last {
        'K' | 'M' | 'G' | 'T' => at,
        _ => text.len(),
    });
    let shift = match &text[unit..] {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => 0,
    };
    let number: u64 =
        text[..unit].parse().map_err(|_| "a size is a number, K, M, G or T behind it")?;
    number.checked_mul(1 << shift).ok_or_else(|| "larger than any disk".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(parse_seconds("1.5"), Ok(1500));
        assert_eq!(parse_seconds("0.0001"), Ok(1));
        for bad in ["", "0", "-1", "NaN", "inf", "1e9", "5s"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        assert_eq!(parse_span("90s"), Ok(90));
        assert_eq!(parse_span("24h"), Ok(86_400));
        assert_eq!(parse_span("7d"), Ok(604_800));
        for bad in ["", "h", "0h", "24", "-1h", "1.5h", "11y", "4000d", "9é"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("3K"), Ok(3072));
        assert_eq!(parse_size("20G"), Ok(20 << 30));
        for bad in ["", "G", "1.5G", "-1", "10g", "99999999999T", "1é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
