//! The checked bytes of one object, on their way to whoever wants them.

use std::fs::File;
use std::io::{self, Cursor, Read, Write};

/// Reads an object from its beginning. All of its bytes were hashed before this was made.
#[derive(Debug)]
pub struct ObjectReader {
    length: u64,
    from: From,
}

#[derive(Debug)]
enum From {
    Memory(Cursor<Vec<u8>>),
    File(File),
}

impl ObjectReader {
    pub(crate) fn held(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len() as u64, from: From::Memory(Cursor::new(bytes)) }
    }

    pub(crate) fn of_file(file: File, length: u64) -> Self {
        Self { length, from: From::File(file) }
    }

    /// Of the whole object, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes what has not been read yet to a file; within the kernel, where that is possible.
    pub fn copy_to(&mut self, target: &mut File) -> io::Result<()> {
        match &mut self.from {
            From::Memory(bytes) => {
                let at = bytes.position().min(self.length) as usize;
                target.write_all(&bytes.get_ref()[at..])?;
                bytes.set_position(self.length);
                Ok(())
            }
            From::File(file) => io::copy(file, target).map(drop),
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.from {
            From::Memory(bytes) => bytes.read(buffer),
            From::File(file) => file.read(buffer),
        }
    }
}
