//! A job's standard output or error as one object.
//!
//! The object holds what the job wrote, up to [`limits::STREAM_BYTES`]. If the job wrote more, a
//! notice that counts the rest follows, so that whoever reads the object by its name sees it.
//! Therefore a stream was cut if, and only if, its object is longer than [`limits::STREAM_BYTES`].

use crate::limits;
use crate::name::ValueName;

/// What was kept of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeptStream {
    /// What the job wrote, from the beginning.
    pub bytes: Vec<u8>,
    /// Number of bytes that the job wrote after those.
    pub cut_bytes: u64,
}

/// Returns true if the object with this name holds a stream that was cut.
pub fn is_cut(name: ValueName) -> bool {
    name.digest().length > limits::STREAM_BYTES
}

impl KeptStream {
    /// Encodes the stream as an object.
    ///
    /// `bytes` must be [`limits::STREAM_BYTES`] long if anything was cut.
    pub fn into_object(self) -> Vec<u8> {
        let Self { mut bytes, cut_bytes } = self;
        debug_assert!(cut_bytes == 0 || bytes.len() as u64 == limits::STREAM_BYTES);
        if cut_bytes > 0 {
            bytes.extend_from_slice(notice(cut_bytes).as_bytes());
        }
        bytes
    }

    /// Splits an object into what the job wrote and the notice, if there is one.
    ///
    /// An object of somebody else may hold anything: what follows the bound is never shown, and is
    /// counted as cut if it is no notice.
    pub fn from_object(mut bytes: Vec<u8>) -> Self {
        let bound = usize::try_from(limits::STREAM_BYTES).unwrap_or(usize::MAX);
        if bytes.len() <= bound {
            return Self { bytes, cut_bytes: 0 };
        }
        let rest = bytes.split_off(bound);
        let cut_bytes = counted(&rest).unwrap_or(rest.len() as u64);
        Self { bytes, cut_bytes }
    }
}

const BEFORE: &str = "\nmesh: ";
const AFTER: &str = " more bytes were cut off here\n";

fn notice(cut_bytes: u64) -> String {
    format!("{BEFORE}{cut_bytes}{AFTER}")
}

fn counted(notice: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(notice).ok()?;
    text.strip_prefix(BEFORE)?.strip_suffix(AFTER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = limits::STREAM_BYTES as usize;

    #[test]
    fn what_fits_is_kept_as_it_is() {
        for length in [0, 1, FULL] {
            let kept = KeptStream { bytes: vec![b'x'; length], cut_bytes: 0 };
            let object = kept.clone().into_object();
            assert_eq!(object.len(), length);
            assert!(!is_cut(ValueName::of(&object)));
            assert!(KeptStream::from_object(object) == kept);
        }
    }

    #[test]
    fn what_was_cut_is_counted() {
        for cut_bytes in [1, 1000, u64::MAX] {
            let kept = KeptStream { bytes: vec![b'x'; FULL], cut_bytes };
            let object = kept.clone().into_object();
            assert!(object.len() as u64 <= limits::STREAM_OBJECT_BYTES);
            assert!(is_cut(ValueName::of(&object)));
            assert!(KeptStream::from_object(object) == kept);
        }
    }

    #[test]
    fn a_false_notice_is_not_shown() {
        let object = [vec![b'x'; FULL], b"anything".to_vec()].concat();
        let kept = KeptStream::from_object(object);
        assert_eq!((kept.bytes.len(), kept.cut_bytes), (FULL, 8));
    }
}
