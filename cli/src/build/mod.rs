//! The build supervisor: a user's own build command, with its tools' calls turned into thunks.

pub(crate) mod interposer;
mod jobserver;
mod notify;
mod placeholder;
mod wire;
