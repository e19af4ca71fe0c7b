//! `mesh leave` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct LeaveArgs {
    /// Also if this machine made the mesh: its key is lost, and with it the way to make admins
    #[arg(long)]
    pub(crate) force: bool,
}
