//! `mesh forget` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct ForgetArgs {
    /// Its id, or enough of its beginning, or its name, as `mesh peers` prints them
    pub(crate) peer: String,
}
