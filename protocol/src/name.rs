//! Content names: which bytes, exactly.
//!
//! A name is a kind, the SHA-256 of the bytes and their length, written
//! `V<64 hex>-<decimal length>` for values and `T<64 hex>-<decimal length>` for thunks. So
//! `sha256sum` checks a name by hand, and a Bazel Remote Execution digest *is* one.
//!
//! The kinds are types of their own ([`ValueName`], [`ThunkName`]) and never mix; [`ObjectName`]
//! is for the places where either may stand.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::limits;

/// SHA-256 and length of some bytes: a name without its kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Length in bytes.
    pub length: u64,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 lower-case hex digits of the hash.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        self.sha256.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

/// By hash, then by length, as if derived. Nearly every comparison is settled by the first word,
/// which needs no call: maps of names are most of what a large graph costs.
impl Ord for Digest {
    fn cmp(&self, other: &Self) -> Ordering {
        let head =
            |digest: &Self| digest.sha256.first_chunk().map(|word| u64::from_be_bytes(*word));
        let rest = || (self.sha256, self.length).cmp(&(other.sha256, other.length));
        head(self).cmp(&head(other)).then_with(rest)
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Digests bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Hasher {
    sha256: Sha256,
    length: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The digest of everything seen.
    pub fn finish(self) -> Digest {
        Digest { sha256: self.sha256.finalize().into(), length: self.length }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hex(), self.length)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…-{}", &self.hex()[..8], self.length)
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Neither `V` nor `T` in front, or not the kind that is wanted here.
    #[error("{text:?} does not begin with {wanted}")]
    Kind {
        /// What was given.
        text: String,
        /// The letters that are allowed.
        wanted: &'static str,
    },
    /// The part after the kind is not `<64 hex>-<length>`.
    #[error("{0:?} is not <kind><64 lower-case hex digits>-<decimal length>")]
    Form(String),
    /// The tag is empty, too long or has a character outside `A-Z a-z 0-9 . _ + -`.
    #[error("{0:?} is not a tag (1 to {max} of the characters A-Z a-z 0-9 . _ + -)", max = limits::TAG_BYTES)]
    Tag(String),
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let malformed = || NameError::Form(text.chars().take(128).collect());
        let (hex, length) = text.split_once('-').ok_or_else(malformed)?;
        if hex.len() != 64 || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        if length.len() > 1 && length.starts_with('0') {
            return Err(malformed());
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let (high, low) = nibble(pair[0]).zip(nibble(pair[1])).ok_or_else(malformed)?;
            *byte = high << 4 | low;
        }
        Ok(Self { sha256, length: length.parse().map_err(|_| malformed())? })
    }
}

/// Readable formats (JSON) carry the text form, compact ones the fields.
macro_rules! text_in_readable_formats {
    ($name:ident, $fields:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.fields().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <$fields>::deserialize(deserializer).map(Self::from)
                }
            }
        }
    };
}

impl OutputRef {
    fn fields(&self) -> (&ThunkName, &Tag) {
        (&self.thunk, &self.tag)
    }
}

macro_rules! kind_of_name {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Digest);

        impl $name {
            /// The name of `bytes`, taken to be of this kind.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Digest::of(bytes))
            }

            /// The digest without the kind.
            pub fn digest(&self) -> Digest {
                self.0
            }

            fn fields(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{:?}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let rest = text.strip_prefix($letter).ok_or_else(|| NameError::Kind {
                    text: text.chars().take(128).collect(),
                    wanted: $letter,
                })?;
                rest.parse().map(Self)
            }
        }

        impl From<$name> for Digest {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        text_in_readable_formats!($name, Digest);
    };
}

kind_of_name!(
    /// The name of an object that needs no evaluation.
    ValueName, "V"
);
kind_of_name!(
    /// The name of a thunk: the digest of its canonical encoding.
    ThunkName, "T"
);

/// The label of one output of a thunk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(String);

impl Tag {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        if text.is_empty() || text.len() > limits::TAG_BYTES || !text.bytes().all(allowed) {
            return Err(NameError::Tag(text.chars().take(128).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One output of one thunk: `T<hex>-<length>#<tag>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OutputRef {
    /// The thunk that makes it.
    pub thunk: ThunkName,
    /// Which of its outputs.
    pub tag: Tag,
}

impl fmt::Display for OutputRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.thunk, self.tag)
    }
}

impl FromStr for OutputRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form(text.chars().take(128).collect());
        let (thunk, tag) = text.split_once('#').ok_or_else(form)?;
        Ok(Self { thunk: thunk.parse()?, tag: tag.parse()? })
    }
}

impl From<(ThunkName, Tag)> for OutputRef {
    fn from((thunk, tag): (ThunkName, Tag)) -> Self {
        Self { thunk, tag }
    }
}

text_in_readable_formats!(OutputRef, (ThunkName, Tag));

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name of either kind; a thunk's may carry the tag of one output.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectName {
    /// A value: its bytes are final.
    Value(ValueName),
    /// A thunk, and perhaps one of its outputs.
    Thunk(ThunkName, Option<Tag>),
}

impl ObjectName {
    /// The digest of the named bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Value(name) => name.0,
            Self::Thunk(name, _) => name.0,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(name) => name.fmt(f),
            Self::Thunk(name, None) => name.fmt(f),
            Self::Thunk(name, Some(tag)) => write!(f, "{name}#{tag}"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.as_bytes().first() {
            Some(b'V') => text.parse().map(Self::Value),
            Some(b'T') => match text.split_once('#') {
                Some((thunk, tag)) => Ok(Self::Thunk(thunk.parse()?, Some(tag.parse()?))),
                None => Ok(Self::Thunk(text.parse()?, None)),
            },
            _ => Err(NameError::Kind { text: text.chars().take(128).collect(), wanted: "V or T" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_sha256sum_prints() {
        let name = ValueName::of(b"hello\n");
        let text = "V5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03-6";
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }

    #[test]
    fn digests_are_in_the_order_of_their_hex_digits_then_length() {
        let digest = |first: u8, last: u8, length: u64| {
            let mut sha256 = [0; 32];
            (sha256[0], sha256[31]) = (first, last);
            Digest { sha256, length }
        };
        let sorted =
            [digest(0, 9, 9), digest(1, 0, 2), digest(1, 0, 3), digest(1, 1, 0), digest(255, 0, 0)];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j));
            }
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let good = ValueName::of(b"x").to_string();
        assert!(good.replace('V', "T").parse::<ValueName>().is_err());
        assert!(good.to_uppercase().parse::<ValueName>().is_err());
        assert!(good.replace("-1", "-01").parse::<ValueName>().is_err());
        assert!(good.replace("-1", "-").parse::<ValueName>().is_err());
        assert!(good.replace("-1", "-99999999999999999999").parse::<ValueName>().is_err());
        assert!(format!("{good}#out").parse::<ObjectName>().is_err());
        assert!(good.replace('V', "T").parse::<ThunkName>().is_ok());
        assert!("".parse::<ObjectName>().is_err());
    }

    #[test]
    fn json_is_text() {
        let output = OutputRef { thunk: ThunkName::of(b"t"), tag: "o".parse().unwrap() };
        let json = serde_json::to_string(&output).unwrap();
        assert_eq!(json, format!("\"{output}\""));
        assert_eq!(serde_json::from_str::<OutputRef>(&json).unwrap(), output);
    }
}
