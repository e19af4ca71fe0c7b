//! The command line, as it is typed: a file for each command that has flags of its own.

mod build;
mod completions;
mod config;
mod find;
mod force;
mod forget;
mod gc;
mod get;
mod init;
mod invite;
mod join;
mod leave;
mod log;
mod ls;
mod put;
mod revoke;
mod run;
mod service;
mod sim;
mod store;
mod thunk;
mod values;
mod withdraw;

use clap::{Args as ClapArgs, Parser, Subcommand};

pub(crate) use build::{BuildArgs, InferArgs, MakeArgs};
pub(crate) use completions::CompletionsArgs;
pub(crate) use config::{ConfigCheckArgs, ConfigCommand};
pub(crate) use find::FindArgs;
pub(crate) use force::ForceArgs;
pub(crate) use forget::ForgetArgs;
pub(crate) use gc::GcArgs;
pub(crate) use get::GetArgs;
pub(crate) use init::InitArgs;
pub(crate) use invite::InviteArgs;
pub(crate) use join::{IdleExit, JoinArgs, Metrics, parse_idle_exit};
pub(crate) use leave::LeaveArgs;
pub(crate) use log::LogArgs;
pub(crate) use ls::LsArgs;
pub(crate) use put::PutArgs;
pub(crate) use revoke::RevokeArgs;
pub(crate) use run::RunArgs;
pub(crate) use service::{ServiceCommand, ServiceInstallArgs};
pub(crate) use sim::{
    Settings, SimCalibrateArgs, SimCommand, SimCompareArgs, SimReplayArgs, SimRunArgs,
    SimSweepArgs, SimValidateArgs,
};
pub(crate) use store::StoreCommand;
pub(crate) use thunk::{ThunkCommand, ThunkCreateArgs, ThunkGraphArgs, ThunkShowArgs};
pub(crate) use values::{PERCENT_MAX, SLOTS, parse_size};
pub(crate) use withdraw::WithdrawArgs;

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
    ///
    /// The ticket by which it came lets nobody in any more either.
    Revoke(RevokeArgs),
    /// List the tickets of this node that may still let somebody in
    Tickets(JsonArgs),
    /// Let nobody in any more by a ticket; whom it has let in stays
    Withdraw(WithdrawArgs),
    /// Take a member that is gone from the list of this node
    ///
    /// It stays a member, and comes back to the list when it comes back to the mesh. Members whom
    /// nobody has met for 30 days are forgotten by themselves.
    Forget(ForgetArgs),
    /// Forget the mesh, and tell its members
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
pub(crate) struct NameArgs {
    /// V…, T… or T…#tag
    pub(crate) name: String,
}

#[derive(ClapArgs, Debug)]
pub(crate) struct JsonArgs {
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }
}
