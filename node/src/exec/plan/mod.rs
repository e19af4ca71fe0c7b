//! What a sandbox will hold, as a pure value: made first, looked at in tests, performed later.
//!
//! The rule for what stands at a path: a tree input is worth the same as naming each of its
//! entries; where several inputs say something about one path, the one whose own path is deeper
//! wins, and what the thunk names one by one wins over every tree. How an entry comes to be
//! there (copied, bind-mounted, part of an overlay) never changes what a job reads.
//!
//! Symbolic links inside trees are followed *here*, by looking into the trees, and never leave the
//! root. So the plan's paths have no link in front of their last component, and whoever performs
//! it has nothing to resolve.

mod lay;
mod resolve;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_protocol::codec::CodecError;
use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Platform, Thunk};
use mesh_protocol::tree::Tree;
use thiserror::Error;

/// Where a plan looks into trees.
pub trait Trees {
    /// The tree of that name.
    fn tree(&self, name: ValueName) -> Result<Arc<Tree>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Files of at most this many bytes are copied into the sandbox; larger ones are mounted. A copy
/// of 4 KiB costs 8 microseconds and a mount 11; at 64 KiB the copy has lost by a little.
pub const COPY_FILE_BYTES: u64 = 64 * 1024;

/// Trees of at most this many entries are copied, if all their files are small.
pub const COPY_TREE_ENTRIES: usize = 256;

/// Larger files that stand at several paths are copied, but not more than this in one sandbox.
pub const COPY_TWICE_BYTES: u64 = 64 * 1024 * 1024;

/// How many symbolic links one path may lead through: what Linux allows.
pub const LINKS_FOLLOWED: usize = 40;

/// The whole sandbox, from the outside in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExecPlan {
    /// Parts of the file system that are filled before anything is mounted; the first is the root.
    pub layers: Vec<Layer>,
    /// What is then mounted, outer paths before inner ones.
    pub mounts: Vec<Mount>,
    /// The program: a path in the sandbox.
    pub executable: AbsPath,
    /// `argv`.
    pub arguments: Vec<String>,
    /// `NAME=value`, sorted by name.
    pub environment: Vec<String>,
    /// Where it starts.
    pub working_directory: AbsPath,
    /// What it reads on standard input.
    pub stdin: Option<ValueName>,
    /// Where outputs are looked for, in the order of their tags.
    pub outputs: Vec<AbsPath>,
}

/// A directory that is filled by hand, and perhaps laid over trees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// Where it appears.
    pub at: AbsPath,
    /// The trees below it, upper ones first. None: the layer stands alone.
    pub lower: Vec<Lower>,
    /// What it holds itself; paths are relative to `at`, and their parents are made.
    pub entries: BTreeMap<String, Entry>,
    /// May the job write anywhere in it?
    pub writable: bool,
}

/// A directory of a materialised tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lower {
    /// The tree.
    pub tree: ValueName,
    /// Which of its directories, relative; empty for the tree itself.
    pub below: String,
}

/// Something made in a layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A directory, mode 0755.
    Directory,
    /// A directory for temporary files, mode 1777.
    Temporary,
    /// A private copy of a value.
    File {
        /// Its bytes.
        value: Digest,
        /// May it be executed?
        executable: bool,
        /// May the job change it? (It is an output as well.)
        writable: bool,
    },
    /// An empty file, to be mounted over.
    Stub,
    /// A symbolic link.
    Symlink(String),
}

/// Something mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Where.
    pub at: AbsPath,
    /// What.
    pub what: MountKind,
}

/// What can be mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountKind {
    /// The layer of that index over its trees.
    Overlay(usize),
    /// The directory over itself, so that it stays writable when its surroundings are not.
    Writable,
    /// A materialised tree, read-only.
    Tree(ValueName),
    /// A blob, read-only.
    File {
        /// Its bytes.
        value: Digest,
        /// May it be executed?
        executable: bool,
    },
    /// `/dev`.
    Devices,
    /// `/proc`.
    Processes,
}

/// Why there can be no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A tree could not be had.
    #[error("tree {name} cannot be read")]
    Tree {
        /// Which.
        name: ValueName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An input that another thunk has yet to make.
    #[error("input {0} is not a value yet")]
    NotAValue(String),
    /// `/dev`, `/proc` and `/sys` are not the thunk's.
    #[error("{0} is in a directory that belongs to the sandbox")]
    Reserved(AbsPath),
    /// Two paths lead to one place through links, and want different things there.
    #[error("two inputs want {0}, reached through symbolic links, to be different things")]
    Conflict(AbsPath),
    /// Too many links, or a link whose text cannot be followed.
    #[error("symbolic links on the way to {0} lead nowhere")]
    Links(AbsPath),
    /// A path that has to be a directory, but is a file of a tree.
    #[error("{0} is not a directory")]
    NotADirectory(AbsPath),
    /// A tree that has to be copied (the job changes it) has too many entries.
    #[error("the tree at {0} is too large to be changed in place")]
    TooLarge(AbsPath),
    /// What would be copied into the sandbox does not fit.
    #[error("its small inputs come to {bytes} bytes, where {bytes_max} are allowed")]
    Copies {
        /// What they come to, at all their paths.
        bytes: u64,
        /// What the files of a job may take.
        bytes_max: u64,
    },
    /// Looking its paths up would take too long.
    #[error("its paths are too many and too deep, down to {0}")]
    Depth(AbsPath),
    /// More than the kernel bears.
    #[error("its large inputs stand at more than {0} places: put them into a tree")]
    Mounts(usize),
    /// What a sandbox is told to build is too long.
    #[error("its inputs are too many")]
    Order(#[source] CodecError),
    /// The kernel cannot build it.
    #[error("no sandbox can be built for it")]
    Build(#[source] super::Failure),
    /// For another kind of machine.
    #[error("the thunk is for {0:?}, which this machine is not")]
    Platform(Platform),
}

impl ExecPlan {
    /// Plans a thunk whose sources are all values.
    pub fn new(thunk: &Thunk, trees: &dyn Trees) -> Result<Self, PlanError> {
        let spec = thunk.spec();
        let view = resolve::View::new(spec, trees)?;
        let (layers, mounts) = lay::lay(spec, &view)?;
        let function = &spec.function;
        Ok(Self {
            layers,
            mounts,
            executable: function.executable.clone(),
            arguments: function.arguments.clone(),
            environment: function.environment.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            working_directory: function.working_directory.clone(),
            stdin: spec.stdin.as_ref().map(resolve::value).transpose()?,
            outputs: spec.outputs.values().map(|output| output.path.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
