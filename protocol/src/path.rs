//! Absolute, normal paths: the only kind a thunk may name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::limits;

/// An absolute path without `.`, `..`, empty components or a trailing slash.
///
/// Whoever holds one may join it to a root without leaving that root (symbolic links aside).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct AbsPath(String);

/// Why a text is not an [`AbsPath`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// No leading slash.
    #[error("path {0:?} is not absolute")]
    Relative(String),
    /// `.`, `..`, an empty component, or a trailing slash.
    #[error("path {0:?} is not normal: no '.', '..', doubled or trailing '/'")]
    NotNormal(String),
    /// Longer than the system takes.
    #[error("path of {0} bytes, or with a component, longer than Linux takes")]
    TooLong(usize),
    /// A zero byte.
    #[error("path {0:?} has a zero byte")]
    Zero(String),
}

impl AbsPath {
    /// The root directory, `/`.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its leading slash: what to join to another root.
    pub fn below_root(&self) -> &str {
        &self.0[1..]
    }

    /// Is this the root directory?
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The components between the slashes.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// The directory that holds it; none for the root.
    pub fn parent(&self) -> Option<Self> {
        parent_text(&self.0).map(|text| Self(text.to_owned()))
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// Is `self` strictly inside the directory `other`?
    pub fn is_below(&self, other: &Self) -> bool {
        if other.is_root() {
            return !self.is_root();
        }
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// `relative` taken from here; `.`, `..` and doubled slashes are folded by text alone, as a
    /// shell's logical paths are. An absolute `relative` replaces the whole.
    pub fn join(&self, relative: &str) -> Result<Self, PathError> {
        let mut parts: Vec<&str> =
            if relative.starts_with('/') { Vec::new() } else { self.components().collect() };
        for component in relative.split('/') {
            match component {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        format!("/{}", parts.join("/")).parse()
    }
}

/// The directories above a path that is absolute and normal, from the nearest to the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent_text(path), |text| parent_text(text))
}

fn parent_text(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() == 1 => None,
        Some(0) => Some("/"),
        Some(at) => Some(&path[..at]),
        None => None,
    }
}

impl FromStr for AbsPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for AbsPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        if text.len() > limits::PATH_BYTES {
            return Err(PathError::TooLong(text.len()));
        }
        if text.contains('\0') {
            return Err(PathError::Zero(text));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PathError::Relative(text));
        };
        if rest.is_empty() {
            return Ok(Self(text));
        }
        for component in rest.split('/') {
            if matches!(component, "" | "." | "..") {
                return Err(PathError::NotNormal(text));
            }
            if component.len() > limits::PATH_COMPONENT_BYTES {
                return Err(PathError::TooLong(text.len()));
            }
        }
        Ok(Self(text))
    }
}

impl Serialize for AbsPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<AbsPath> for String {
    fn from(path: AbsPath) -> Self {
        path.0
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for AbsPath {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_absolute_paths() {
        for good in ["/", "/a", "/a/b.c", "/a/...", "/ space/ü"] {
            assert_eq!(good.parse::<AbsPath>().unwrap().as_str(), good);
        }
        for bad in ["", "a", "./a", "//", "/a/", "/a//b", "/a/./b", "/..", "/a/../b", "/a\0"] {
            assert!(bad.parse::<AbsPath>().is_err(), "{bad:?}");
        }
        assert!(format!("/{}", "x".repeat(256)).parse::<AbsPath>().is_err());
    }

    #[test]
    fn below_is_by_component() {
        let path = |text: &str| text.parse::<AbsPath>().unwrap();
        assert!(path("/a/b").is_below(&path("/a")));
        assert!(path("/a").is_below(&path("/")));
        assert!(!path("/ab").is_below(&path("/a")));
        assert!(!path("/a").is_below(&path("/a")));
        assert!(!path("/").is_below(&path("/")));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        let path = |text: &str| text.parse::<AbsPath>().unwrap();
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/a").collect::<Vec<_>>(), ["/"]);
        assert_eq!(ancestors("/").count(), 0);
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/").parent(), None);
    }

    #[test]
    fn join_folds_dots() {
        let dir: AbsPath = "/work/src".parse().unwrap();
        assert_eq!(dir.join("../include//./a.h").unwrap().as_str(), "/work/include/a.h");
        assert_eq!(dir.join("/etc/x").unwrap().as_str(), "/etc/x");
        assert_eq!(dir.join("../../../..").unwrap().as_str(), "/");
    }
}
