//! `mesh leave`

use std::time::{Duration, Instant};

use mesh_node::api::{Request, ServeError, alone};
use mesh_node::net::membership::Membership;

use super::try_node;
use crate::args::LeaveArgs;
use crate::error::CliError;
use crate::{exit, home};

/// How long a node may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &LeaveArgs) -> Result<(), CliError> {
    let home = home::directory()?;
    let Some(membership) = Membership::open(&home)? else {
        return Err(ServeError::NoMember.into());
    };
    if membership.has_mesh_key() && !args.force {
        return Err(CliError::new(exit::USAGE, "this machine has the key of the mesh")
            .hint("mesh leave --force removes it; nobody can make admins then"));
    }
    // It lets go of the home when it has ended.
    let deadline = Instant::now() + PATIENCE;
    try_node(&Request::Stop)?;
    loop {
        match alone(&home, || Membership::leave(&home)) {
            Err(ServeError::Running) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    eprintln!("mesh: left {}", membership.mesh());
    Ok(())
}
