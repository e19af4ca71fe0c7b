//! `mesh revoke` and `mesh forget`

use mesh_node::api::{MemberInfo, Reply, Request};

use super::ask_node;
use crate::args::{ForgetArgs, RevokeArgs};
use crate::error::CliError;
use crate::{exit, stderr};

/// Fewer digits than these name nobody: a slip of the hand is for ever.
const DIGITS_MIN: usize = 8;

pub(crate) fn run(args: &RevokeArgs) -> Result<(), CliError> {
    let member = member(&args.peer)?;
    ask_node(&Request::Revoke(member.peer))?;
    stderr::write_line(format_args!("mesh: {} ({}) is a member no more", member.name, member.peer));
    Ok(())
}

pub(crate) fn forget(args: &ForgetArgs) -> Result<(), CliError> {
    let member = member(&args.peer)?;
    if member.is_connected {
        let text = format!("{} is there", member.name);
        return Err(CliError::new(exit::USAGE, text)
            .hint("mesh revoke puts a member out; only those that are away can be forgotten"));
    }
    ask_node(&Request::Forget(member.peer))?;
    stderr::write_line(format_args!("mesh: {} ({}) is forgotten", member.name, member.peer));
    Ok(())
}

/// The one member that is meant.
fn member(meant: &str) -> Result<MemberInfo, CliError> {
    let Reply::Peers(peers) = ask_node(&Request::Peers)? else {
        return Err(CliError::new(exit::INTERNAL, "unexpected answer"));
    };
    let is_meant = |member: &MemberInfo| {
        let id = member.peer.to_string();
        let by_id = meant.len() >= DIGITS_MIN && id.starts_with(meant);
        by_id || member.name == meant
    };
    let mut all: Vec<MemberInfo> = peers.members.into_iter().filter(is_meant).collect();
    match (all.pop(), all.len()) {
        (Some(member), 0) => Ok(member),
        (found, others) => {
            let count = others + usize::from(found.is_some());
            let text = format!("{count} members are meant by {meant:?}");
            Err(CliError::new(exit::NOT_FOUND, text)
                .hint("mesh peers lists them; an id may be cut to its first 8 digits"))
        }
    }
}
