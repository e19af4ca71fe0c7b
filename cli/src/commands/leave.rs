//! `mesh leave`

use mesh_node::api::{Request, ServeError, alone, wait_for_end};
use mesh_node::net::membership::Membership;

use super::try_node;
use crate::args::LeaveArgs;
use crate::error::CliError;
use crate::{exit, home};

pub(crate) fn run(args: &LeaveArgs) -> Result<(), CliError> {
    let home = home::directory()?;
    let Some(membership) = Membership::open(&home)? else {
        return Err(ServeError::NoMember.into());
    };
    if membership.has_mesh_key() && !args.force {
        return Err(CliError::new(exit::USAGE, "this machine has the key of the mesh")
            .hint("mesh leave --force removes it; nobody can make admins then"));
    }
    if try_node(&Request::Stop)?.is_some() {
        wait_for_end(&home).map_err(CliError::io(home.join("node.lock")))?;
    }
    alone(&home, || Membership::leave(&home))?;
    eprintln!("mesh: left {}", membership.mesh());
    Ok(())
}
