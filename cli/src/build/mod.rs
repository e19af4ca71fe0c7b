//! The build supervisor: a user's own build command, with its tools' calls turned into thunks.

mod jobserver;
mod notify;
mod placeholder;
