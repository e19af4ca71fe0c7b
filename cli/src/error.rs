//! What a person reads when a command fails, and the exit code that a script sees.

use std::fmt::Display;
use std::io;
use std::path::Path;

use mesh_node::api::{AskError, ServeError};
use mesh_node::net::identity::IdentityError;
use mesh_node::net::membership::MembershipError;
use mesh_node::node::NodeError;
use mesh_protocol::name::NameError;
use mesh_store::StoreError;

use crate::{exit, stderr};

/// A failed command: what failed, why, and what to do next.
#[derive(Debug)]
pub(crate) struct CliError {
    code: u8,
    text: String,
    hint: Option<String>,
    is_missing: bool,
}

impl CliError {
    /// An error with this exit code.
    pub(crate) fn new(code: u8, text: impl Display) -> Self {
        Self { code, text: text.to_string(), hint: None, is_missing: false }
    }

    /// Whoever read our output has seen enough (`| head`): the command ends in peace.
    pub(crate) fn reader_gone() -> Self {
        Self::new(exit::SUCCESS, "")
    }

    /// The file system refused something at `path`.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => exit::NOT_FOUND,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => exit::FULL,
                _ => exit::IO,
            };
            Self::new(code, format_args!("{}: {error}", path.display()))
        }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Is it that an object is missing, or was just found damaged, so that making it again would
    /// help?
    pub(crate) fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Writes it to standard error.
    pub(crate) fn print(&self) {
        if self.code == exit::SUCCESS {
            return;
        }
        stderr::write_line(format_args!("mesh: {}", self.text));
        if let Some(hint) = &self.hint {
            stderr::write_line(format_args!("hint: {hint}"));
        }
    }
}

/// An error with what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// What failed, without the hint.
impl Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (code, hint) = match &error {
            StoreError::Full { .. } => {
                (exit::FULL, Some("mesh gc --quota SIZE removes what was used least recently"))
            }
            StoreError::Missing(_) => (exit::NOT_FOUND, None),
            StoreError::Corrupt(_) => {
                (exit::FOUND_WRONG, Some("mesh store verify checks all the others"))
            }
            StoreError::Locked { .. } => {
                (exit::IO, Some("that process may be stopped: let it go on, or end it"))
            }
            StoreError::Version { .. } => {
                (exit::DATA, Some("set MESH_HOME to another directory, or remove that one"))
            }
            StoreError::TooLarge { .. }
            | StoreError::Form { .. }
            | StoreError::Unsupported { .. } => (exit::DATA, None),
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                (exit::NOT_FOUND, None)
            }
            StoreError::Io { .. } => (exit::IO, None),
        };
        let plain = Self { is_missing: error.is_missing(), ..Self::new(code, chain(&error)) };
        match hint {
            Some(hint) => plain.hint(hint),
            None => plain,
        }
    }
}

impl From<MembershipError> for CliError {
    fn from(error: MembershipError) -> Self {
        let code = match &error {
            MembershipError::Identity(IdentityError::Io { .. }) => exit::IO,
            MembershipError::Identity(_) | MembershipError::Damaged { .. } => exit::DATA,
            MembershipError::Already(_) | MembershipError::Uses => exit::USAGE,
            _ => exit::FOUND_WRONG,
        };
        Self::new(code, error)
    }
}

impl From<AskError> for CliError {
    fn from(error: AskError) -> Self {
        match &error {
            AskError::Version | AskError::Silent => {
                Self::new(exit::UNAVAILABLE, error).hint("restart it: mesh stop, then mesh join")
            }
            AskError::Io(_) => Self::new(exit::IO, format_args!("the node of this home: {error}")),
        }
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        let plain = |code| Self::new(code, &error);
        match &error {
            ServeError::Membership(_) => match error {
                ServeError::Membership(error) => error.into(),
                other => Self::new(exit::INTERNAL, other),
            },
            ServeError::Running => plain(exit::FOUND_WRONG)
                .hint("mesh peers asks it; a second node needs a MESH_HOME of its own"),
            ServeError::NoMember => {
                plain(exit::NOT_FOUND).hint("mesh init makes a mesh, mesh join TICKET enters one")
            }
            ServeError::Refused(_) => {
                plain(exit::FOUND_WRONG).hint("ask for another ticket: mesh invite prints one")
            }
            ServeError::Start(NodeError::Network(_)) => {
                plain(exit::UNAVAILABLE).hint("mesh join --listen /ip4/0.0.0.0/tcp/PORT")
            }
            ServeError::Start(_) => plain(exit::UNAVAILABLE).hint("mesh doctor says more"),
            ServeError::Store(_) => match error {
                ServeError::Store(error) => error.into(),
                other => Self::new(exit::INTERNAL, other),
            },
            ServeError::Metrics { .. } => plain(exit::UNAVAILABLE)
                .hint("mesh join --metrics 127.0.0.1:PORT; port 0 takes any"),
            ServeError::Io { .. } => plain(exit::IO),
        }
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        Self::new(exit::DATA, error)
            .hint("a name looks like V<64 hex>-<length>; mesh put prints one")
    }
}
