//! `mesh leave`

use mesh_node::api::{ServeError, alone};
use mesh_node::net::membership::Membership;

use crate::args::LeaveArgs;
use crate::error::CliError;
use crate::{exit, home, stderr};

pub(crate) fn run(args: &LeaveArgs) -> Result<(), CliError> {
    let home = home::directory()?;
    let Some(membership) = Membership::open(&home)? else {
        return Err(ServeError::NoMember.into());
    };
    if membership.has_mesh_key() && !args.force {
        return Err(CliError::new(exit::USAGE, "this machine has the key of the mesh")
            .hint("mesh leave --force removes it; nobody can make admins then"));
    }
    super::stop::end(&home)?;
    alone(&home, || Membership::leave(&home))?;
    stderr::write_line(format_args!("mesh: left {}", membership.mesh()));
    Ok(())
}
