//! `mesh invite`

use mesh_node::api::{Reply, Request};

use super::{ask_node, print_line};
use crate::args::InviteArgs;
use crate::error::CliError;
use crate::exit;

pub(crate) fn run(args: &InviteArgs) -> Result<(), CliError> {
    let InviteArgs { role: roles, uses, expires: life_s } = *args;
    match ask_node(&Request::Invite { roles, uses, life_s })? {
        Reply::Ticket(ticket) => print_line(ticket),
        other => Err(CliError::new(exit::INTERNAL, format_args!("unexpected answer: {other:?}"))),
    }
}
