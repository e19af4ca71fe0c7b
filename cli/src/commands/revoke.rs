//! `mesh revoke`

use mesh_node::api::{MemberInfo, Reply, Request};

use super::ask_node;
use crate::args::RevokeArgs;
use crate::error::CliError;
use crate::{exit, stderr};

/// Fewer digits than these name nobody: a slip of the hand is for ever.
const DIGITS_MIN: usize = 8;

pub(crate) fn run(args: &RevokeArgs) -> Result<(), CliError> {
    let Reply::Peers(peers) = ask_node(&Request::Peers)? else {
        return Err(CliError::new(exit::INTERNAL, "unexpected answer"));
    };
    let is_meant = |member: &&MemberInfo| {
        let id = member.peer.to_string();
        let by_id = args.peer.len() >= DIGITS_MIN && id.starts_with(&args.peer);
        by_id || member.name == args.peer
    };
    let meant: Vec<&MemberInfo> = peers.members.iter().filter(is_meant).collect();
    let [member] = meant[..] else {
        let text = format!("{} members are meant by {:?}", meant.len(), args.peer);
        return Err(CliError::new(exit::NOT_FOUND, text)
            .hint("mesh peers lists them; an id may be cut to its first 8 digits"));
    };
    ask_node(&Request::Revoke(member.peer))?;
    stderr::write_line(format_args!("mesh: {} ({}) is a member no more", member.name, member.peer));
    Ok(())
}
