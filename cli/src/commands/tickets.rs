//! `mesh tickets` and `mesh withdraw`

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_node::api::{Reply, Request, TicketInfo};
use mesh_protocol::wire::admission::Ticket;

use super::{ask_node, print_line};
use crate::args::{JsonArgs, WithdrawArgs};
use crate::error::CliError;
use crate::{exit, stderr};

/// Fewer digits than these name no ticket.
const DIGITS_MIN: usize = 4;

pub(crate) fn list(args: &JsonArgs) -> Result<(), CliError> {
    let tickets = tickets()?;
    if args.json {
        return print_line(serde_json::Value::from_iter(tickets.iter().map(json)));
    }
    if tickets.is_empty() {
        stderr::write_line("mesh: no ticket of this node lets anybody in");
    }
    tickets.iter().try_for_each(|ticket| print_line(line(ticket)))
}

pub(crate) fn withdraw(args: &WithdrawArgs) -> Result<(), CliError> {
    let given = args.ticket.parse::<Ticket>().ok().map(|ticket| ticket.secret.id().to_string());
    let meant = given.as_deref().unwrap_or(&args.ticket);
    let tickets = tickets()?;
    let is_meant = |ticket: &&TicketInfo| {
        meant.len() >= DIGITS_MIN && ticket.ticket.to_string().starts_with(meant)
    };
    let all: Vec<&TicketInfo> = tickets.iter().filter(is_meant).collect();
    let [ticket] = all[..] else {
        let text = format!("{} tickets are meant by {:?}", all.len(), args.ticket);
        return Err(CliError::new(exit::NOT_FOUND, text)
            .hint("mesh tickets lists them; an id may be cut to its first 4 digits"));
    };
    ask_node(&Request::Withdraw(ticket.ticket))?;
    stderr::write_line(format_args!("mesh: ticket {} lets nobody in any more", ticket.ticket));
    Ok(())
}

fn tickets() -> Result<Vec<TicketInfo>, CliError> {
    match ask_node(&Request::Tickets)? {
        Reply::Tickets(tickets) => Ok(tickets),
        other => Err(CliError::new(exit::INTERNAL, format_args!("unexpected answer: {other:?}"))),
    }
}

fn line(ticket: &TicketInfo) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let minutes = ticket.expires_s.saturating_sub(now_s) / 60;
    let left = match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / (24 * 60)),
    };
    let TicketInfo { ticket, roles, uses_left, redeemed, .. } = ticket;
    let mut line = format!("{ticket}  {roles}  {uses_left} more, for {left}");
    if !redeemed.is_empty() {
        line += &format!("  has let in: {}", redeemed.join(", "));
    }
    line
}

fn json(ticket: &TicketInfo) -> serde_json::Value {
    serde_json::json!({
        "ticket": ticket.ticket.to_string(),
        "role": ticket.roles.to_string(),
        "uses_left": ticket.uses_left,
        "expires_s": ticket.expires_s,
        "redeemed": ticket.redeemed,
    })
}
