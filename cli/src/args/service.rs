//! `mesh service` as it is typed.

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    /// Write a systemd user unit that runs mesh join with what the config file says
    ///
    /// It is ~/.config/systemd/user/mesh.service. Nothing is started: what to do for that is said.
    Install(ServiceInstallArgs),
    /// End the service, and remove its unit
    Uninstall,
}

#[derive(Args, Debug)]
pub(crate) struct ServiceInstallArgs {
    /// Only print the unit
    #[arg(long)]
    pub(crate) print: bool,
}
