//! `mesh init`

use mesh_node::api::alone;
use mesh_node::net::membership::{Membership, now_s};

use super::print_line;
use crate::args::InitArgs;
use crate::config::{self, Config};
use crate::error::CliError;
use crate::{home, stderr};

pub(crate) fn run(args: &InitArgs) -> Result<(), CliError> {
    let home = home::directory()?;
    let name = config::name(&Config::of_home()?, args.name.as_ref()).value;
    let membership = alone(&home, || Membership::found(&home, &name, now_s()))?;
    print_line(membership.mesh())?;
    stderr::write_line(format_args!(
        "mesh: this machine is its first member, as {}",
        membership.name()
    ));
    stderr::write_line("hint: mesh join serves it; then mesh invite lets others in");
    Ok(())
}
