//! Packs what goes over a slow line, and each piece once, however many ask for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::limits;
use mesh_protocol::name::Digest;

use super::kept::Kept;

/// What to do with a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    /// Nobody knows how fast the line is: packed if that costs nothing, because it has been done.
    IfDone,
    /// The line is faster than packing.
    Never,
    /// With this level of Zstandard.
    Level(i32),
}

/// How fast a stream carries what is written.
#[derive(Default)]
pub(super) struct Pace {
    bytes_per_s: Option<f64>,
}

impl Pace {
    pub(super) fn note(&mut self, bytes: usize, took: Duration) {
        // Less may lie in a buffer on the way, and says nothing.
        if bytes >= limits::TRANSFER_PIECE_BYTES as usize / 4 {
            self.bytes_per_s = Some(bytes as f64 / took.as_secs_f64().max(1e-9));
        }
    }

    /// What pays: nothing where the stream is faster than that of a gigabit. Measured with a
    /// compiler's program in pieces: level 1 packs 398 MB/s to 1/2.45, level 3 211 MB/s to 1/2.65, level 9
    /// 60 MB/s to 1/2.81; packing and sending take turns.
    pub(super) fn packing(&self) -> Packing {
        match self.bytes_per_s {
            None => Packing::IfDone,
            Some(slow) if slow < 2e6 => Packing::Level(9),
            Some(slow) if slow < 14e6 => Packing::Level(3),
            Some(slow) if slow < 120e6 => Packing::Level(1),
            Some(_) => Packing::Never,
        }
    }
}

/// Of which object, and where in it a piece begins and how long it is.
type Key = (Digest, u64, usize);

/// About what it costs to remember one.
const KEY_BYTES: usize = 128;

/// Nothing if it does not get shorter.
pub(super) type Packed = Option<Arc<Vec<u8>>>;

/// What was packed lately.
pub(super) struct Packer(Kept<Key, Packed>);

impl Packer {
    pub(super) fn new() -> Self {
        let weigh = |packed: &Packed| KEY_BYTES + packed.as_ref().map_or(0, |bytes| bytes.len());
        Self(Kept::new(limits::TRANSFER_PACKED_BYTES, weigh))
    }

    /// A piece as one frame of Zstandard, if it gets shorter. Blocks if it is to be packed.
    pub(super) fn pack(&self, key: (Digest, u64), bytes: &[u8], packing: Packing) -> Packed {
        let key = (key.0, key.1, bytes.len());
        match packing {
            Packing::Never => None,
            Packing::IfDone => self.0.get(key).flatten(),
            Packing::Level(level) => self.0.get_or_make(key, || {
                // A tenth less at least, or unpacking costs more than it brings.
                let pays = |packed: &Vec<u8>| packed.len() < bytes.len() - bytes.len() / 10;
                zstd::bulk::compress(bytes, level).ok().filter(pays).map(Arc::new)
            }),
        }
    }
}

/// A piece as it was before it was packed; it must be so long.
pub(super) fn unpack(packed: &[u8], length: usize) -> io::Result<Vec<u8>> {
    // Into a buffer of the right size: whatever the frame says of itself, it allocates nothing.
    let mut bytes = vec![0; length];
    match zstd::bulk::decompress_to_buffer(packed, &mut bytes)? {
        unpacked if unpacked == length => Ok(bytes),
        _ => Err(io::Error::other("a piece is shorter than it says")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_a_stream_the_more_it_is_packed() {
        let mut pace = Pace::default();
        let mut packing = |kib: usize, millis| {
            pace.note(kib * 1024, Duration::from_millis(millis));
            pace.packing()
        };
        assert_eq!(packing(1, 1), Packing::IfDone, "a few bytes say nothing");
        assert_eq!(packing(256, 10), Packing::Level(1));
        assert_eq!(packing(1, 0), Packing::Level(1));
        assert_eq!(packing(256, 50), Packing::Level(3));
        assert_eq!(packing(256, 500), Packing::Level(9));
        assert_eq!(packing(256, 1), Packing::Never);
        assert_eq!(packing(256, 0), Packing::Never);
    }

    #[test]
    fn what_is_packed_is_kept_and_unpacked_to_the_length_it_says() {
        let text = b"all work and no play ".repeat(100);
        let (packer, digest) = (Packer::new(), Digest::of(&text));
        let pack = |packing| packer.pack((digest, 0), &text, packing);
        assert_eq!(pack(Packing::IfDone), None);
        let packed = pack(Packing::Level(1)).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(pack(Packing::IfDone).as_ref(), Some(&packed));
        assert_eq!(pack(Packing::Never), None);
        assert_eq!(packer.pack((digest, 5), b"no", Packing::Level(9)), None, "it gets no shorter");

        assert_eq!(unpack(&packed, text.len()).unwrap(), text);
        for wrong in [text.len() - 1, text.len() + 1] {
            assert!(unpack(&packed, wrong).is_err());
        }
        assert!(unpack(&[0xff; 50], 100).is_err());
    }
}
