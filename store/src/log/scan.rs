//! Reads records from some offset to the end of the file, past damage.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use mesh_protocol::limits;

use super::Location;
use super::record::{self, ALIGNMENT, HEADER_BYTES, Record};
use crate::error::StoreError;
use crate::fault::{self, At};

/// How much is read at a time: several of the largest records.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
const _: () = assert!(PIECE_BYTES as u64 > 2 * limits::LOG_RECORD_BYTES);

/// What came of it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Scanned {
    /// The end of the last good record.
    pub(super) position: u64,
    /// Damage with good records behind it: where, and how many bytes.
    pub(super) skipped: Vec<(u64, u64)>,
    /// Is there something behind `position` that is not a record?
    pub(super) torn: bool,
}

#[derive(Debug)]
pub(super) enum ScanError {
    Read(io::Error),
    Sink(StoreError),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

type Take<'take> = &'take mut dyn FnMut(Location, Record<'_>) -> Result<(), StoreError>;

/// Gives every good record in `from..length` to `take`.
pub(super) fn scan(
    file: &File,
    from: u64,
    length: u64,
    take: Take<'_>,
) -> Result<Scanned, ScanError> {
    let mut scanned = Scanned { position: from, skipped: Vec::new(), torn: false };
    while scanned.position < length {
        let start = scanned.position;
        let piece = read_piece(file, start, length)?;
        scanned.position = take_records(start, &piece, take)?;
        if scanned.position > start {
            continue;
        }
        // Not one record where one should begin, and the piece holds the longest.
        match find_record(file, start + ALIGNMENT, length)? {
            Some(next) => {
                scanned.skipped.push((start, next - start));
                scanned.position = next;
            }
            None => {
                scanned.torn = true;
                break;
            }
        }
    }
    Ok(scanned)
}

/// Takes records from the beginning of a piece; says where the first stands that it cannot.
fn take_records(start: u64, piece: &[u8], take: Take<'_>) -> Result<u64, ScanError> {
    let mut at = 0;
    while let Some(record) = record::decode(start + at as u64, &piece[at..]) {
        let bytes = record::record_bytes(record::DIGEST_BYTES + record.body.len());
        let location = Location { offset: start + at as u64, bytes: bytes as u32 };
        take(location, record).map_err(ScanError::Sink)?;
        at += bytes as usize;
    }
    Ok(start + at as u64)
}

/// The first good record at or behind `from`.
fn find_record(file: &File, from: u64, length: u64) -> Result<Option<u64>, ScanError> {
    let mut start = from;
    while start < length {
        let piece = read_piece(file, start, length)?;
        let step = ALIGNMENT as usize;
        for at in (0..piece.len()).step_by(step) {
            let offset = start + at as u64;
            if piece[at..].starts_with(&record::MAGIC) && is_record(file, offset, length)? {
                return Ok(Some(offset));
            }
        }
        start += (piece.len() as u64).next_multiple_of(ALIGNMENT);
    }
    Ok(None)
}

fn is_record(file: &File, offset: u64, length: u64) -> Result<bool, ScanError> {
    let mut header = [0; HEADER_BYTES];
    if length - offset < HEADER_BYTES as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut header, offset)?;
    let Some(payload) = record::payload_length(&header) else { return Ok(false) };
    let bytes = record::record_bytes(payload);
    if length - offset < bytes {
        return Ok(false);
    }
    let mut whole = vec![0; bytes as usize];
    file.read_exact_at(&mut whole, offset)?;
    Ok(record::decode(offset, &whole).is_some())
}

fn read_piece(file: &File, start: u64, length: u64) -> Result<Vec<u8>, ScanError> {
    let wanted = (length - start).min(PIECE_BYTES as u64) as usize;
    let mut piece = vec![0; wanted];
    fault::at(At::ReadLog).map_err(ScanError::Read)?;
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut piece[filled..], start + filled as u64) {
            // Cut off meanwhile.
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ScanError::Read(error)),
        }
    }
    piece.truncate(filled);
    Ok(piece)
}
