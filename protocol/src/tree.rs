//! Trees: a value that describes one directory, as a git tree does.
//!
//! Entries are sorted by name and sub-directories are trees of their own, so equal directories
//! have equal names wherever they stand, and two trees that share a sub-directory share its bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::ValueName;

/// `\x89MTREE\0` and the version.
pub const TREE_FORMAT: Format =
    Format { magic: *b"\x89MTREE\0\x01", bytes_max: limits::TREE_BYTES };

/// One directory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, TreeEntry>", into = "BTreeMap<String, TreeEntry>")]
pub struct Tree(BTreeMap<String, TreeEntry>);

/// What stands behind one name of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeEntry {
    /// A regular file.
    File {
        /// Its bytes.
        name: ValueName,
        /// May it be executed?
        executable: bool,
    },
    /// A sub-directory: the name of its tree.
    Directory(ValueName),
    /// A symbolic link: the text it holds.
    Symlink(String),
}

/// Why something is not a directory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// Empty, `.`, `..`, too long, or with a slash or zero byte.
    #[error("{0:?} cannot be the name of a directory entry")]
    Name(String),
    /// An empty or over-long link target, or one with a zero byte.
    #[error("entry {0:?} cannot be a symbolic link to that")]
    Target(String),
}

impl Tree {
    /// A directory of these entries.
    pub fn new(entries: BTreeMap<String, TreeEntry>) -> Result<Self, TreeError> {
        Self::try_from(entries)
    }

    /// The entries in the order of their names' bytes.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &TreeEntry)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&TreeEntry> {
        self.0.get(name)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(TREE_FORMAT, self)
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(TREE_FORMAT, bytes)
    }
}

impl TryFrom<BTreeMap<String, TreeEntry>> for Tree {
    type Error = TreeError;

    fn try_from(entries: BTreeMap<String, TreeEntry>) -> Result<Self, TreeError> {
        for (name, entry) in &entries {
            let bad = matches!(name.as_str(), "" | "." | "..")
                || name.len() > limits::PATH_COMPONENT_BYTES
                || name.contains(['/', '\0']);
            if bad {
                return Err(TreeError::Name(name.clone()));
            }
            if let TreeEntry::Symlink(target) = entry
                && !is_link_target(target)
            {
                return Err(TreeError::Target(name.clone()));
            }
        }
        Ok(Self(entries))
    }
}

impl From<Tree> for BTreeMap<String, TreeEntry> {
    fn from(tree: Tree) -> Self {
        tree.0
    }
}

/// May a symbolic link hold this text?
pub(crate) fn is_link_target(target: &str) -> bool {
    !target.is_empty() && target.len() <= limits::PATH_BYTES && !target.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> TreeEntry {
        TreeEntry::File { name: ValueName::of(bytes), executable: false }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let tree = Tree::new(BTreeMap::from([
            ("a".to_owned(), file(b"")),
            ("l".to_owned(), TreeEntry::Symlink("a".to_owned())),
        ]))
        .unwrap();
        let bytes = tree.encode().unwrap();
        let mut wanted = b"\x89MTREE\0\x01\x02\x01a\x00".to_vec();
        wanted.extend_from_slice(&ValueName::of(b"").digest().sha256);
        wanted.extend_from_slice(b"\x00\x00\x01l\x02\x01a");
        assert_eq!(bytes, wanted);
        assert_eq!(Tree::decode(&bytes).unwrap(), tree);
    }

    #[test]
    fn only_canonical_bytes_are_a_tree() {
        // The same entry twice, entries out of order, a number in a longer form, a byte too many.
        let link = |name: &str| format!("\x01{name}\x02\x01a");
        let with = |body: &[u8]| [b"\x89MTREE\0\x01".as_slice(), body].concat();
        assert!(Tree::decode(&with(format!("\x02{}{}", link("a"), link("b")).as_bytes())).is_ok());
        assert!(Tree::decode(&with(format!("\x02{}{}", link("a"), link("a")).as_bytes())).is_err());
        assert!(Tree::decode(&with(format!("\x02{}{}", link("b"), link("a")).as_bytes())).is_err());
        assert!(Tree::decode(&with(b"\xfb\x01\x00\x01a\x02\x01a")).is_err());
        assert!(Tree::decode(&with(b"\x01\x01a\x02\x01a\x00")).is_err());
        assert!(Tree::decode(&with(b"\x01\x02..\x02\x01a")).is_err());
        assert!(matches!(Tree::decode(b"\x89MTREE\0\x02\x00"), Err(CodecError::Version(2))));
    }

    #[test]
    fn a_false_length_gets_no_memory() {
        let mut bytes = b"\x89MTREE\0\x01".to_vec();
        bytes.extend_from_slice(b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f");
        assert!(Tree::decode(&bytes).is_err());
    }
}
