//! `mesh withdraw` as it is typed.

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct WithdrawArgs {
    /// Its id, or enough of its beginning, as `mesh tickets` prints them; or the ticket itself
    pub(crate) ticket: String,
}
