//! `mesh join`

use std::path::{Path, PathBuf};

use mesh_node::api::{Heard, RevokedBy, ServeOptions, serve};
use mesh_node::claims::JobEvent;
use mesh_node::net::membership::{Membership, MembershipError};
use mesh_node::net::swarm::JoinState;
use mesh_node::node::NodeEvent;
use mesh_protocol::wire::admission::{Ticket, TicketError};

use tracing_subscriber::filter::Targets;

use super::detach::{self, Starter};
use crate::args::{IdleExit, JoinArgs, Metrics};
use crate::config::{self, Config, JoinSettings};
use crate::error::CliError;
use crate::logging::{self, Log};
use crate::node_log::NodeLog;
use crate::ui::{NodeConsole, describe};
use crate::{exit, home, threads};

pub(crate) fn run(args: &JoinArgs) -> Result<(), CliError> {
    let ticket = args.ticket.as_deref().map(str::parse::<Ticket>).transpose();
    let ticket = ticket.map_err(|error: TicketError| {
        CliError::new(exit::DATA, error).hint("copy the whole line that mesh invite printed")
    })?;
    if args.ephemeral && ticket.is_none() {
        return Err(CliError::new(exit::USAGE, "a node that keeps nothing joins by a ticket")
            .hint("mesh join --ephemeral TICKET, or MESH_TICKET"));
    }
    let config = Config::of_home()?;
    let settings = JoinSettings::of(&config, args);
    let filter = logging::parse(&config::log_filter(&config))?;
    if args.detach {
        return detach::start(&home::directory()?, args.ephemeral);
    }
    let mut starter = Starter::new(args.detached);
    let (home, _removed) = place(args.ephemeral)?;
    let name = config::name(&config, args.name.as_ref()).value;
    let quota_bytes = config::quota(&config, None).value;
    let runtime = threads::start()?;
    let prepare = |home: &Path| membership(home, ticket, (&name, args.ephemeral));
    let console = console(args.detached)?;
    let log = start_log(&filter, &console);
    let (mut is_joined, mut listens) = (false, false);
    let tell = |heard| {
        console.take(&heard);
        let is_shown =
            console.is_live() && matches!(heard, Heard::Job(_, JobEvent::Started { .. }));
        if let Some(text) = text(&heard).filter(|_| !is_shown) {
            let line = format!("mesh: {text}");
            console.say(&line);
            starter.tell(&line);
        }
        is_joined |= matches!(heard, Heard::Join(JoinState::Joined));
        listens |= matches!(heard, Heard::Listening(_));
        if is_joined && listens {
            starter.ready();
        }
    };
    if args.ephemeral {
        console.say(&format!("mesh: its state is in {}", home.display()));
    }
    let ended = runtime.block_on(serve(options(&settings, home, quota_bytes), prepare, tell));
    drop(log);
    console.finish();
    Ok(ended?)
}

fn console(detached: bool) -> Result<NodeConsole, CliError> {
    if !detached {
        return Ok(NodeConsole::new());
    }
    let home = home::directory()?;
    let log = NodeLog::of_stderr(&home).map_err(CliError::io(NodeLog::path(&home)))?;
    Ok(NodeConsole::of_lines(Box::new(log)))
}

/// What is logged goes above the block.
fn start_log(filter: &Targets, console: &NodeConsole) -> Log {
    let console = console.clone();
    logging::start(filter, move |line| console.say(line.trim_end_matches('\n')))
}

fn options(settings: &JoinSettings, home: PathBuf, quota_bytes: u64) -> ServeOptions {
    let idle_exit = match settings.idle_exit.value {
        IdleExit::Never => None,
        IdleExit::After(time) => Some(time),
    };
    let metrics = match settings.metrics.value {
        Metrics::Off => None,
        Metrics::At(address) => Some(address),
    };
    ServeOptions { home, quota_bytes, node: settings.node(), idle_exit, metrics }
}

/// Where its state is, and what removes that in the end.
fn place(ephemeral: bool) -> Result<(PathBuf, Option<tempfile::TempDir>), CliError> {
    if !ephemeral {
        return Ok((home::directory()?, None));
    }
    let temporary = tempfile::Builder::new().prefix("mesh-node-").tempdir();
    let temporary = temporary.map_err(CliError::io(std::env::temp_dir()))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// What we are already, or what the ticket makes of us. A ticket of the mesh in which we are is
/// none the worse, so that a container can be started again with it.
fn membership(
    home: &Path,
    ticket: Option<Ticket>,
    (name, is_ephemeral): (&str, bool),
) -> Result<Option<Membership>, MembershipError> {
    let known = Membership::open(home)?;
    match (known, ticket) {
        (known, None) => Ok(known),
        (Some(known), Some(ticket))
            if known.certificate().is_some() && known.mesh() == ticket.mesh =>
        {
            Ok(Some(known))
        }
        (_, Some(ticket)) => Membership::invited(home, ticket, name, is_ephemeral).map(Some),
    }
}

/// None: a person need not hear of it.
fn text(heard: &Heard) -> Option<String> {
    let text = match heard {
        Heard::Listening(addresses) => format!("listening on {}", addresses.join(", ")),
        Heard::Join(JoinState::Waiting) => "redeeming the ticket".to_owned(),
        Heard::Join(JoinState::Joined) => "member of the mesh; ^C ends it".to_owned(),
        Heard::Join(JoinState::Unreachable(why)) => {
            format!("who issued the ticket cannot be reached ({why}); trying again")
        }
        Heard::Join(JoinState::Refused(why)) => {
            format!("who issued the ticket does not let us in: {why}; trying again")
        }
        Heard::Node(NodeEvent::Connected(peer, name)) => format!("{name} is there ({peer})"),
        Heard::Node(NodeEvent::Disconnected(peer)) => format!("{peer} is gone"),
        Heard::Node(NodeEvent::Declined(peer, service)) => {
            format!("{peer} asked for {service:?}, which this node does not do")
        }
        Heard::Revoked(RevokedBy::Signed) => "this node was revoked".to_owned(),
        Heard::Revoked(RevokedBy::Word(peer)) => {
            format!("this node was revoked, as {peer} says; mesh status tells how it comes back")
        }
        Heard::Held(Some(reason)) => format!("gives others nothing: {reason}"),
        Heard::Held(None) => "gives others something again".to_owned(),
        Heard::Job(peer, JobEvent::Started { name, thunk, .. }) => {
            format!("for {peer}: {}", describe(*name, thunk))
        }
        Heard::Job(peer, JobEvent::Ended { name, failure: Some(reason), .. }) => {
            format!("for {peer}: {name:?} came to nothing: {}", one_line(reason))
        }
        Heard::Job(_, JobEvent::Ended { failure: None, .. }) => return None,
        Heard::Idle => "nothing to do for so long as it was to wait".to_owned(),
        Heard::Draining => {
            "finishing what runs for others; ^C once more ends it at once".to_owned()
        }
        Heard::Stopping => "ending".to_owned(),
    };
    Some(text)
}

/// What others' programs say is nothing for a terminal to obey.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
