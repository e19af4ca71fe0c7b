//! The store of one machine: objects, trees, reductions and pins, shared by any number of `mesh`
//! processes at once.
//!
//! Read [`Store`] first. What is true is in plain files that a person can check by hand:
//!
//! - **Objects** are files named for their SHA-256 (`sha256sum` checks them), never changed.
//! - **The log** holds reductions, tombstones and pins, appended and checksummed.
//! - Everything else (index, stat cache, executable twins, materialised trees) is made from these
//!   and may be deleted at any time when no process is running.
//!
//! **Goals.** What [`Store::flush`] confirmed survives a power cut, and what was recorded survives
//! the death of the process; what comes out of the store is what went in, or an error; processes
//! share one store without a server.
//! **Non-goals.** Protection against the user who owns the files; packing; a store shared by
//! machines over a network file system.
//!
//! # Who owns what
//! | what | who writes | how others see it |
//! |---|---|---|
//! | objects, twins, trees | any process: temporary file, then rename | at once |
//! | log | who holds `log.lock`, for one append | at their next look: one `stat` |
//! | durable mark | who holds its lock | when the store is opened |
//! | index on disk (sled), with the stat cache | who got `index.lock` first | not: they keep their own in memory |
//! | session files | each its own | when they collect garbage |
//!
//! # Small objects are not packed
//! Objects are bound and linked into sandboxes, for which each needs an inode. Packing them would
//! only help objects that nobody executes or reads as a file: standard output and the like, most
//! of which are empty and so the same one. `cargo run --release -p mesh-store --example figures`
//! measures what a small object costs.

mod blob;
mod commit;
mod durable;
mod error;
mod fault;
#[cfg(test)]
mod fault_tests;
pub mod files;
pub mod gc;
mod incoming;
mod index;
mod layout;
mod lease;
mod lock;
mod log;
mod making;
mod memo;
mod notice;
mod options;
mod puts;
mod quota;
mod reach;
mod reader;
pub mod records;
mod recovery;
mod session;
mod sound;
mod stat_cache;
mod sync;
mod sys;
mod tree;
pub mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_protocol::limits;
use mesh_protocol::name::{Digest, ThunkName};
use mesh_protocol::thunk::Reduction;

pub use error::StoreError;
pub use incoming::{Arrival, Incoming};
pub use lease::is_open_elsewhere;
pub use notice::{Notice, RebuildReason};
pub use options::{ExportOptions, StoreOptions};
pub use reader::ObjectReader;
pub use stat_cache::NamedFile;
pub use sync::SYNC_NAME;
pub use sys::OBJECT_MTIME_S;
pub use verify::StoreStats;

use blob::Blobs;
use commit::{Committer, Parts};
use durable::DurableMark;
use layout::Layout;
use log::record::Kind;
use memo::Memo;
use notice::Notices;
use quota::Growth;
use reach::CompleteTrees;
use session::Session;

/// A handle to an open store; clones share it. The last one to go commits and closes.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    layout: Layout,
    blobs: Arc<Blobs>,
    memo: Arc<Memo>,
    committer: Arc<Committer>,
    complete_trees: CompleteTrees,
    notices: Arc<Notices>,
    quota_bytes: u64,
    // Last: while anything above is still being closed, the session lives.
    session: Session,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.committer.close();
        self.memo.close();
        // Without it the store is taken for smaller than it is until the next collection counts.
        let _ = quota::note_growth(&self.layout, &self.blobs.growth);
    }
}

impl Store {
    /// Opens the store, making it if it is not there.
    ///
    /// In the ordinary case this costs a handful of system calls: the index is opened when it is
    /// first needed. The first time after a power cut, what was being written is checked.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::open(&options.root)?;
        let notices = Arc::new(Notices::default());
        let boot_id = options.boot_id.unwrap_or_else(sys::boot_id);
        let session = Session::begin(&layout)?;
        let growth = Growth::new(options.quota_bytes);
        let blobs =
            Arc::new(Blobs::new(layout.clone(), Arc::clone(&notices), session.start, growth));
        let mark = DurableMark::open(&layout)?;
        recovery::recover(&layout, &blobs, &mark, &notices, &boot_id)?;
        let memo = Arc::new(Memo::open(&layout, Arc::clone(&notices), boot_id.clone())?);
        let committer = Arc::new(Committer::new(Parts {
            layout: layout.clone(),
            blobs: Arc::clone(&blobs),
            memo: Arc::clone(&memo),
            mark,
            notices: Arc::clone(&notices),
            boot_id,
            durable: options.durable,
        }));
        Ok(Self(Arc::new(Shared {
            layout,
            blobs,
            memo,
            committer,
            complete_trees: CompleteTrees::default(),
            notices,
            quota_bytes: options.quota_bytes,
            session,
        })))
    }

    fn shared(&self) -> &Shared {
        &self.0
    }

    /// The directory that holds the store.
    pub fn root(&self) -> &Path {
        self.0.layout.root()
    }

    /// The quota it was opened with.
    pub fn quota_bytes(&self) -> u64 {
        self.0.quota_bytes
    }

    /// What happened beside what was asked for; each notice is given once.
    pub fn take_notices(&self) -> Vec<Notice> {
        self.0.notices.take()
    }

    /// The warnings among [`Store::take_notices`] as one line. None if there are none.
    pub fn notice(&self) -> Option<String> {
        let notices = self.take_notices().into_iter().filter(Notice::is_warning);
        let lines: Vec<String> = notices.map(|notice| notice.to_string()).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// Stores bytes.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let stored = self.0.blobs.put_bytes(bytes);
        self.grown();
        stored
    }

    /// Stores bytes if they are those that the name stands for.
    pub fn put_named(&self, digest: Digest, bytes: &[u8]) -> Result<Arrival, StoreError> {
        if Digest::of(bytes) != digest {
            return Ok(Arrival::Refused);
        }
        self.0.blobs.put_hashed(digest, bytes)?;
        self.grown();
        Ok(Arrival::Stored)
    }

    /// Stores what is in an open file, from its beginning to its end, whatever its position.
    /// Shares blocks with it where the file system can; takes little memory.
    pub fn put_file(&self, file: &File) -> Result<Digest, StoreError> {
        self.put_file_while(file, &|| Ok(()))
    }

    /// The same, as long as `go_on` is no error: that is asked for each piece. Given up, nothing is left behind.
    pub fn put_file_while(
        &self,
        file: &File,
        go_on: &dyn Fn() -> std::io::Result<()>,
    ) -> Result<Digest, StoreError> {
        let stored = self.0.blobs.put_file(file, go_on);
        self.grown();
        stored
    }

    /// Is the object here, with the right length? Marks it as used, so that it stays as long as
    /// this store is open.
    pub fn contains(&self, digest: Digest) -> bool {
        self.0.blobs.contains(digest)
    }

    /// Opens an object to give its bytes to somebody who does not check them. They have been
    /// checked, all of them, when this returns.
    pub fn open_checked(&self, digest: Digest) -> Result<ObjectReader, StoreError> {
        self.0.blobs.reader(digest)
    }

    /// Where a checked object is, below the root: for a job, which reads the file itself.
    pub fn checked_blob(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        self.0.blobs.ensure_sound(digest)?;
        Ok(layout::relative_blob_path(digest))
    }

    /// Opens an object for reading. The bytes are not checked: whoever gets them must do that.
    pub fn open_blob(&self, digest: Digest) -> Result<File, StoreError> {
        self.0.blobs.open(digest)
    }

    /// Reads a whole object and checks it.
    pub fn read(&self, digest: Digest, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.0.blobs.read(digest, max_bytes)
    }

    /// Where the object is, below the root. Says nothing about whether it is there.
    pub fn relative_blob_path(digest: Digest) -> PathBuf {
        layout::relative_blob_path(digest)
    }

    /// Waits until nobody has the program at `path` open for writing, so that it can be executed, or
    /// until a second has passed. Whoever writes a program for others calls this before they may
    /// start it.
    pub fn settle_program(path: &Path) -> Result<(), StoreError> {
        lease::wait_for_writers(path)
    }

    /// Where a twin of the object is that may be executed, below the root; made if it is missing.
    ///
    /// Nobody has it open for writing, children that forked while it was written included: it can
    /// be executed, by whoever a job starts too, without `ETXTBSY`. Where the file system does not
    /// say so (no leases), it may still be busy for a moment.
    pub fn executable_blob(&self, digest: Digest) -> Result<PathBuf, StoreError> {
        self.0.blobs.executable(digest)
    }

    /// Writes an object to a file of the user: a new file beside `dest`, checked while it is
    /// copied, and renamed. Never a link: users edit their files. A symbolic link at `dest` is
    /// replaced.
    pub fn export(
        &self,
        digest: Digest,
        dest: &Path,
        options: &ExportOptions,
    ) -> Result<(), StoreError> {
        self.0.blobs.export(digest, dest, options)
    }

    /// The reduction of a thunk, if it is known and every value it names is here, entries of
    /// trees included.
    pub fn recall(&self, thunk: ThunkName) -> Result<Option<Arc<Reduction>>, StoreError> {
        let found = self.0.memo.reduction(thunk)?;
        Ok(found.filter(|reduction| self.is_complete(reduction)).map(Arc::new))
    }

    /// All thunks whose reductions are known, whether or not their values are here.
    pub fn reduced(&self) -> Result<Vec<ThunkName>, StoreError> {
        let mut thunks = Vec::new();
        self.0.memo.for_each_thunk(&mut |thunk| thunks.push(thunk))?;
        Ok(thunks)
    }

    /// Writes a reduction down. It is known to all processes and outlives this one at once; it
    /// reaches the disk itself within moments, or with [`Store::flush`].
    pub fn record(&self, reduction: &Reduction) -> Result<(), StoreError> {
        let bytes =
            reduction.encode().map_err(|source| StoreError::form(reduction.thunk, source))?;
        self.append(Kind::Reduction, reduction.thunk.digest(), &bytes)
    }

    /// Takes a reduction back: it must not be used again. A later one of the same thunk counts.
    pub fn forget(&self, thunk: ThunkName) -> Result<(), StoreError> {
        self.append(Kind::Forget, thunk.digest(), &[])
    }

    /// Keeps an object, and what it leads to, from being collected. A thunk leads to its inputs
    /// and to what it reduced to. The note says why; it is cut at 1,024 bytes.
    pub fn pin(&self, digest: Digest, note: &str) -> Result<(), StoreError> {
        let fits = |end: &usize| note.is_char_boundary(*end);
        let end = (0..=note.len().min(limits::PIN_NOTE_BYTES)).rev().find(fits).unwrap_or(0);
        self.append(Kind::Pin, digest, &note.as_bytes()[..end])
    }

    /// Takes a pin away.
    pub fn unpin(&self, digest: Digest) -> Result<(), StoreError> {
        self.append(Kind::Unpin, digest, &[])
    }

    /// What is pinned, with the notes.
    pub fn pins(&self) -> Result<BTreeMap<Digest, String>, StoreError> {
        self.0.memo.pins()
    }

    fn append(&self, kind: Kind, digest: Digest, body: &[u8]) -> Result<(), StoreError> {
        self.0.memo.append(kind, digest, body)?;
        self.0.committer.request();
        Ok(())
    }

    /// Lets go of what was last used before the call before this one: as far as this process goes, it may be
    /// collected from now on. For a process that runs for long, while nothing that it
    /// started counts on objects that it used so long ago.
    pub fn renew(&self, now: SystemTime) -> Result<(), StoreError> {
        let ended = self.0.blobs.begin_era(now);
        self.0.session.begun_at(ended)
    }

    /// Brings everything that this process stored and recorded to the disk itself. When it
    /// returns, a power cut takes none of it.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.0.committer.commit()
    }

    /// As [`Store::flush`], and leaves the index on disk to the next process, also while clones of
    /// this handle are about: for the end of a process whose threads are not waited for. What it
    /// used is not in use any more then; if the store is above its quota, it collects.
    pub fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush();
        self.0.session.end();
        self.collect_in_the_end();
        self.0.memo.close();
        flushed
    }

    /// As [`Store::close`] for a process that somebody wants to end at once: nothing is waited for that may
    /// take long. After a power cut within moments, some of what it stored may be missing.
    pub fn leave(&self) {
        self.0.session.end();
        self.0.memo.close();
    }
}
