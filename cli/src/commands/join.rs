//! `mesh join`

use std::io::Write;
use std::path::Path;

use mesh_node::api::{Heard, ServeOptions, serve};
use mesh_node::net::membership::{Membership, MembershipError};
use mesh_node::net::swarm::{JoinState, SwarmConfig};
use mesh_node::node::{NodeEvent, NodeOptions};
use mesh_protocol::wire::admission::{Ticket, TicketError};

use super::machine_name;
use crate::args::JoinArgs;
use crate::error::CliError;
use crate::{exit, home};

pub(crate) fn run(args: &JoinArgs) -> Result<(), CliError> {
    let home = home::directory()?;
    let ticket = args.ticket.as_deref().map(str::parse::<Ticket>).transpose();
    let ticket = ticket.map_err(|error: TicketError| {
        CliError::new(exit::DATA, error).hint("copy the whole line that mesh invite printed")
    })?;
    let name = machine_name(args.name.as_ref());
    let config =
        SwarmConfig { listen: args.listen.clone(), mdns: !args.no_mdns, ..SwarmConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(exit::UNAVAILABLE, error))?;
    let prepare = |home: &Path| membership(home, ticket, &name);
    let node = NodeOptions { network: config, ..NodeOptions::default() };
    let options = ServeOptions { home, node };
    Ok(runtime.block_on(serve(options, prepare, |heard| tell(&heard)))?)
}

/// What we are already, or what the ticket makes of us. A ticket of the mesh in which we are is
/// none the worse, so that a container can be started again with it.
fn membership(
    home: &Path,
    ticket: Option<Ticket>,
    name: &str,
) -> Result<Option<Membership>, MembershipError> {
    let known = Membership::open(home)?;
    match (known, ticket) {
        (known, None) => Ok(known),
        (Some(known), Some(ticket))
            if known.certificate().is_some() && known.mesh() == ticket.mesh =>
        {
            Ok(Some(known))
        }
        (_, Some(ticket)) => Membership::invited(home, ticket, name).map(Some),
    }
}

/// Whoever read what we say may have gone; the node goes on.
fn tell(heard: &Heard) {
    let _ = writeln!(std::io::stderr(), "mesh: {}", text(heard));
}

fn text(heard: &Heard) -> String {
    match heard {
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
        Heard::Draining => {
            "finishing what runs for others; ^C once more ends it at once".to_owned()
        }
        Heard::Stopping => "ending".to_owned(),
    }
}
