//! `mesh invite` as it is typed.

use clap::Args;
use mesh_protocol::limits;
use mesh_protocol::wire::admission::Roles;

use super::values::parse_span;

#[derive(Args, Debug)]
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
