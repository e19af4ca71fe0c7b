//! `mesh leave`

use mesh_node::api::{ServeError, alone};
use mesh_node::net::membership::Membership;
use mesh_node::net::swarm;

use crate::args::LeaveArgs;
use crate::error::CliError;
use crate::{exit, home, stderr, threads};

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
    let mesh = membership.mesh();
    let told = alone(&home, || {
        // Read again: the node may have learned something before it ended.
        let told = Membership::open(&home)?.map_or(0, say_farewell);
        Membership::leave(&home).map(|_| told)
    })?;
    stderr::write_line(format_args!("mesh: left {mesh}"));
    if told == 0 && membership.members().next().is_some() {
        stderr::write_line(
            "mesh: no member could be told; they list this machine as away for 30 days, or until mesh forget",
        );
    }
    Ok(())
}

/// How many have heard it: who cannot be told finds out by the time.
fn say_farewell(membership: Membership) -> usize {
    let told =
        threads::start().ok().map(|runtime| runtime.block_on(swarm::say_farewell(membership)));
    told.and_then(Result::ok).unwrap_or(0)
}
