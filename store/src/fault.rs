//! Places where tests make the disk fail: see `fault_tests`. Nothing of it is in what users run.

use std::fs::File;
use std::io::{self, Write};

/// Where something can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests name all of them"))]
pub(crate) enum At {
    /// A temporary file is made.
    Create,
    /// Bytes are written to it.
    Write,
    /// It gets its mode and times.
    Seal,
    /// It gets its name.
    Rename,
    /// It has its name.
    Renamed,
    /// Something damaged is moved away.
    Aside,
    /// An object is marked as used.
    Touch,
    /// An object is read.
    Read,
    /// A record is appended to the log.
    Append,
    /// The log is read.
    ReadLog,
    /// A new log is brought to the disk.
    Sync,
    /// Everything is brought to the disk.
    Commit,
    /// The durable mark is written.
    Mark,
    /// The index is used.
    Index,
    /// A lock is waited for.
    Lock,
}

/// Fails if a test wants that here.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn at(_place: At) -> io::Result<()> {
    Ok(())
}

/// Writes bytes at the end of a file, or half of them if a test wants that.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn write(_place: At, mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

#[cfg(test)]
pub(crate) use planned::{Strike, at, has_struck, plan, write};

#[cfg(test)]
mod planned {
    use std::sync::Mutex;

    use super::*;

    /// What happens at the place, and how many times it is passed by before.
    #[derive(Clone, Copy, Debug)]
    struct Plan {
        place: At,
        passes: u32,
        strike: Strike,
    }

    /// What a fault is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Strike {
        /// This error, once. Of a write, half of the bytes have been written.
        Once(i32),
        /// This error from then on.
        Always(i32),
        /// The process dies; of a write, half of the bytes have been written.
        Crash,
    }

    static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
    static STRUCK: Mutex<bool> = Mutex::new(false);

    /// Plans one fault of this process.
    pub(crate) fn plan(place: At, passes: u32, strike: Strike) {
        *PLAN.lock().unwrap() = Some(Plan { place, passes, strike });
    }

    /// Has it happened?
    pub(crate) fn has_struck() -> bool {
        *STRUCK.lock().unwrap()
    }

    fn struck(place: At) -> Option<Strike> {
        let mut plan = PLAN.lock().unwrap();
        let known = plan.as_mut().filter(|plan| plan.place == place)?;
        if known.passes > 0 {
            known.passes -= 1;
            return None;
        }
        let strike = known.strike;
        if !matches!(strike, Strike::Always(_)) {
            *plan = None;
        }
        *STRUCK.lock().unwrap() = true;
        Some(strike)
    }

    fn strike(strike: Strike) -> io::Result<()> {
        match strike {
            Strike::Once(errno) | Strike::Always(errno) => Err(io::Error::from_raw_os_error(errno)),
            // Nothing is dropped, and nobody is told.
            Strike::Crash => std::process::abort(),
        }
    }

    pub(crate) fn at(place: At) -> io::Result<()> {
        struck(place).map_or(Ok(()), strike)
    }

    pub(crate) fn write(place: At, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        match struck(place) {
            None => file.write_all(bytes),
            Some(how) => {
                file.write_all(&bytes[..bytes.len() / 2])?;
                strike(how)
            }
        }
    }
}
