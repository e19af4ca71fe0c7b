//! Records that this node keeps for others: who has what, and what came of which thunk.
//!
//! **Soft state.** Nothing here is true because it is here: each record carries its publisher's
//! signature, ends by itself, and is published again while it holds. Losing all of them makes a mesh
//! slower for some hours, not wrong. So there is no fsync and no recovery: one file to which records are
//! appended, read once at the start up to the first byte that does not fit, and written anew when
//! half of it is over.
//!
//! ```text
//! file     8 bytes of magic and version, then records:
//! record   0  4  CRC-32 of what follows          36 32  publisher
//!          4 32  key                             68  8  when it ends, in seconds since 1970
//!                                                76  4  length of the body; then the body
//! ```
//!
//! Goals: bounds for all and for each publisher, in number and in bytes, so that nobody takes the place of
//! others; a publisher has one record of a key; a few dozen bytes of memory for each. Non-goals: what a
//! record says, and several processes at once (the node that owns it has a lock on its home).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, StoreError};
use crate::files;

const MAGIC: [u8; 8] = *b"\x89MRCRDS\x01";
const HEADER_BYTES: usize = 80;

/// A file shorter than this is not worth writing anew.
const COMPACT_BYTES_MIN: u64 = 1024 * 1024;

/// What a record is found by; the kind of record goes into it.
pub type Key = [u8; 32];

/// Who published it.
pub type Publisher = [u8; 32];

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordLimits {
    /// Records of all.
    pub records: usize,
    /// Their bodies, in bytes.
    pub bytes: u64,
    /// Records of one publisher.
    pub publisher_records: usize,
    /// Their bodies, in bytes.
    pub publisher_bytes: u64,
    /// Publishers of one key.
    pub key_publishers: usize,
    /// One body, in bytes.
    pub record_bytes: usize,
}

/// What came of an attempt to keep a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is here.
    Yes,
    /// It is over a bound.
    Full,
    /// Its time is over.
    Over,
}

/// The records. One process has them open.
#[derive(Debug)]
pub struct RecordStore {
    path: PathBuf,
    limits: RecordLimits,
    file: File,
    end: u64,
    records: BTreeMap<(Key, Publisher), Slot>,
    /// The first to end is the first here.
    expiries: BTreeSet<(u64, Key, Publisher)>,
    publishers: BTreeMap<Publisher, Share>,
    total: Share,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where its body begins.
    at: u64,
    length: u32,
    expires_s: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    records: usize,
    bytes: u64,
}

impl RecordStore {
    /// Opens the file, or begins one; what cannot be read of it is dropped.
    pub fn open(path: &Path, limits: RecordLimits, now_s: u64) -> Result<Self, StoreError> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = files::open(path, &mut options).at("open", path)?;
        let mut store = Self {
            path: path.to_owned(),
            limits,
            file,
            end: MAGIC.len() as u64,
            records: BTreeMap::new(),
            expiries: BTreeSet::new(),
            publishers: BTreeMap::new(),
            total: Share::default(),
        };
        store.load(now_s)?;
        Ok(store)
    }

    fn load(&mut self, now_s: u64) -> Result<(), StoreError> {
        let mut reader = BufReader::new(self.file.try_clone().at("read", &self.path)?);
        let mut magic = [0; 8];
        if reader.read_exact(&mut magic).is_err() || magic != MAGIC {
            self.file.set_len(0).at("write", &self.path)?;
            return self.file.write_all_at(&MAGIC, 0).at("write", &self.path);
        }
        while let Some((key, publisher, slot)) = self.read_next(&mut reader) {
            self.end = slot.at + u64::from(slot.length);
            // Also one that is over stands in place of what was before it.
            self.remove(key, publisher);
            if slot.expires_s > now_s && self.has_room(key, publisher, slot.length) {
                self.insert(key, publisher, slot);
            }
        }
        // What was torn would hide what is appended.
        self.file.set_len(self.end).at("write", &self.path)
    }

    fn read_next(&self, reader: &mut impl Read) -> Option<(Key, Publisher, Slot)> {
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header).ok()?;
        let length = u32::from_le_bytes(header[76..80].try_into().ok()?);
        if length as usize > self.limits.record_bytes {
            return None;
        }
        let mut body = vec![0; length as usize];
        reader.read_exact(&mut body).ok()?;
        let sum = u32::from_le_bytes(header[..4].try_into().ok()?);
        if sum != checksum(&header[4..], &body) {
            return None;
        }
        let expires_s = u64::from_le_bytes(header[68..76].try_into().ok()?);
        let slot = Slot { at: self.end + HEADER_BYTES as u64, length, expires_s };
        Some((header[4..36].try_into().ok()?, header[36..68].try_into().ok()?, slot))
    }

    /// Keeps a record, in place of an earlier one of the same key and publisher.
    pub fn put(
        &mut self,
        now_s: u64,
        key: Key,
        publisher: Publisher,
        expires_s: u64,
        body: &[u8],
    ) -> Result<Kept, StoreError> {
        self.expire(now_s);
        if expires_s <= now_s {
            return Ok(Kept::Over);
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if body.len() > self.limits.record_bytes || !self.has_room(key, publisher, length) {
            return Ok(Kept::Full);
        }
        let slot = Slot { at: self.end + HEADER_BYTES as u64, length, expires_s };
        let bytes = frame(key, publisher, expires_s, body);
        self.file.write_all_at(&bytes, self.end).at("write", &self.path)?;
        self.end += bytes.len() as u64;
        self.insert(key, publisher, slot);
        self.compact_if_worth_it()?;
        Ok(Kept::Yes)
    }

    /// All records of a key that hold, with their publishers.
    pub fn get(&self, now_s: u64, key: Key) -> Result<Vec<(Publisher, Vec<u8>)>, StoreError> {
        let of_key = self.records.range((key, [0; 32])..=(key, [255; 32]));
        let hold = of_key.filter(|(_, slot)| slot.expires_s > now_s);
        hold.map(|((_, publisher), slot)| Ok((*publisher, self.body(*slot)?))).collect()
    }

    /// Forgets all of a publisher, until the next start.
    pub fn forget_publisher(&mut self, publisher: Publisher) {
        let its = self.records.keys().filter(|(_, of)| *of == publisher);
        let keys: Vec<Key> = its.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.remove(key, publisher));
    }

    /// How many there are, and the bytes of their bodies.
    pub fn size(&self) -> (usize, u64) {
        (self.total.records, self.total.bytes)
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now_s: u64) {
        while let Some((expires_s, key, publisher)) = self.expiries.first().copied() {
            if expires_s > now_s {
                return;
            }
            self.remove(key, publisher);
        }
    }

    fn body(&self, slot: Slot) -> Result<Vec<u8>, StoreError> {
        let mut body = vec![0; slot.length as usize];
        self.file.read_exact_at(&mut body, slot.at).at("read", &self.path)?;
        Ok(body)
    }

    fn has_room(&self, key: Key, publisher: Publisher, length: u32) -> bool {
        let old = self.records.get(&(key, publisher));
        let (records, bytes) = match old {
            Some(slot) => (0, u64::from(length).saturating_sub(slot.length.into())),
            None => (1, u64::from(length)),
        };
        let of_key = self.records.range((key, [0; 32])..=(key, [255; 32])).count();
        let share = self.publishers.get(&publisher).copied().unwrap_or_default();
        let limits = &self.limits;
        of_key + records <= limits.key_publishers
            && self.total.records + records <= limits.records
            && self.total.bytes + bytes <= limits.bytes
            && share.records + records <= limits.publisher_records
            && share.bytes + bytes <= limits.publisher_bytes
    }

    fn insert(&mut self, key: Key, publisher: Publisher, slot: Slot) {
        self.remove(key, publisher);
        self.records.insert((key, publisher), slot);
        self.expiries.insert((slot.expires_s, key, publisher));
        for share in [&mut self.total, self.publishers.entry(publisher).or_default()] {
            share.records += 1;
            share.bytes += u64::from(slot.length);
        }
    }

    fn remove(&mut self, key: Key, publisher: Publisher) {
        let Some(slot) = self.records.remove(&(key, publisher)) else { return };
        self.expiries.remove(&(slot.expires_s, key, publisher));
        let share = self.publishers.entry(publisher).or_default();
        for share in [&mut self.total, &mut *share] {
            share.records -= 1;
            share.bytes -= u64::from(slot.length);
        }
        if share.records == 0 {
            self.publishers.remove(&publisher);
        }
    }

    fn compact_if_worth_it(&mut self) -> Result<(), StoreError> {
        let live = self.total.bytes + (self.total.records * HEADER_BYTES) as u64;
        if self.end < COMPACT_BYTES_MIN || self.end < 2 * live {
            return Ok(());
        }
        let path = self.path.with_extension("new");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = files::open(&path, &mut options).at("create", &path)?;
        let mut writer = std::io::BufWriter::new(&file);
        let mut write = |bytes: &[u8]| std::io::Write::write_all(&mut writer, bytes);
        write(&MAGIC).at("write", &path)?;
        let (mut end, mut slots) = (MAGIC.len() as u64, Vec::with_capacity(self.records.len()));
        for ((key, publisher), slot) in &self.records {
            let bytes = frame(*key, *publisher, slot.expires_s, &self.body(*slot)?);
            write(&bytes).at("write", &path)?;
            slots.push(end + HEADER_BYTES as u64);
            end += bytes.len() as u64;
        }
        std::io::Write::flush(&mut writer).at("write", &path)?;
        drop(writer);
        fs::rename(&path, &self.path).at("rename", &path)?;
        for (slot, at) in self.records.values_mut().zip(slots) {
            slot.at = at;
        }
        (self.file, self.end) = (file, end);
        Ok(())
    }
}

fn frame(key: Key, publisher: Publisher, expires_s: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&key);
    bytes.extend_from_slice(&publisher);
    bytes.extend_from_slice(&expires_s.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    let sum = checksum(&bytes[4..], body);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(header);
    sum.update(body);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RecordLimits = RecordLimits {
        records: 10,
        bytes: 1000,
        publisher_records: 4,
        publisher_bytes: 600,
        key_publishers: 3,
        record_bytes: 300,
    };

    fn open(directory: &Path, now_s: u64) -> RecordStore {
        RecordStore::open(&directory.join("records"), LIMITS, now_s).unwrap()
    }

    fn id(number: u8) -> [u8; 32] {
        [number; 32]
    }

    fn numbers(found: &[(Publisher, Vec<u8>)]) -> Vec<(u8, &[u8])> {
        found.iter().map(|(publisher, body)| (publisher[0], body.as_slice())).collect()
    }

    #[test]
    fn what_is_kept_is_found_until_it_ends_and_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path(), 0);
        assert_eq!(store.put(0, id(1), id(7), 100, b"old").unwrap(), Kept::Yes);
        assert_eq!(store.put(0, id(1), id(7), 200, b"new").unwrap(), Kept::Yes);
        assert_eq!(store.put(0, id(1), id(8), 50, b"short").unwrap(), Kept::Yes);
        assert_eq!(store.put(60, id(2), id(8), 60, b"late").unwrap(), Kept::Over);
        assert_eq!(store.put(0, id(3), id(9), 300, b"").unwrap(), Kept::Yes);
        for store in [&store, &open(directory.path(), 0)] {
            let found = store.get(60, id(1)).unwrap();
            assert_eq!(numbers(&found), [(7, b"new".as_slice())]);
            assert_eq!(store.get(200, id(1)).unwrap(), []);
            assert_eq!(store.get(60, id(2)).unwrap(), []);
            assert_eq!(numbers(&store.get(60, id(3)).unwrap()), [(9, b"".as_slice())]);
        }
        let mut later = open(directory.path(), 250);
        assert_eq!(later.size(), (1, 0));
        later.expire(300);
        assert_eq!(later.size(), (0, 0));
    }

    #[test]
    fn bounds_hold_for_each_and_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path(), 0);
        let mut put = |key, publisher, bytes| {
            store.put(0, id(key), id(publisher), 100, &vec![publisher; bytes]).unwrap()
        };
        assert_eq!(put(1, 1, 301), Kept::Full, "one body");
        assert_eq!(
            [put(1, 1, 300), put(2, 1, 300), put(3, 1, 1)],
            [Kept::Yes, Kept::Yes, Kept::Full]
        );
        assert_eq!(put(2, 1, 290), Kept::Yes, "in place of the other");
        assert_eq!([put(3, 1, 5), put(4, 1, 5), put(5, 1, 0)], [Kept::Yes, Kept::Yes, Kept::Full]);
        assert_eq!([put(1, 2, 0), put(1, 3, 0), put(1, 4, 0)], [Kept::Yes, Kept::Yes, Kept::Full]);
        assert_eq!([put(6, 2, 300), put(7, 2, 101)], [Kept::Yes, Kept::Full], "bytes of all");
        assert_eq!([put(6, 5, 0), put(7, 5, 0), put(8, 5, 0)], [Kept::Yes; 3]);
        assert_eq!(put(9, 6, 0), Kept::Full, "number of all");
        store.forget_publisher(id(5));
        assert_eq!(store.put(0, id(9), id(6), 100, b"").unwrap(), Kept::Yes);
    }

    #[test]
    fn what_is_torn_or_changed_ends_the_file_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut store = open(directory.path(), 0);
        store.put(0, id(1), id(1), 100, b"first").unwrap();
        let whole = fs::read(&path).unwrap();
        store.put(0, id(2), id(1), 100, b"second").unwrap();
        let both = fs::read(&path).unwrap();
        for cut in whole.len()..both.len() {
            fs::write(&path, &both[..cut]).unwrap();
            let mut store = open(directory.path(), 0);
            assert_eq!(store.size(), (1, 5), "cut at {cut}");
            store.put(0, id(3), id(1), 100, b"third").unwrap();
            assert_eq!(open(directory.path(), 0).size(), (2, 10), "appended after {cut}");
        }
        for at in 0..both.len() {
            let mut changed = both.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            let store = open(directory.path(), 0);
            let expected = if at < 8 { 0 } else { usize::from(at >= whole.len()) };
            assert_eq!(store.size().0, expected, "changed at {at}");
        }
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path(), 0);
        for round in 0..20_000_u64 {
            let body = [round as u8; 200];
            assert_eq!(
                store.put(round, id(round as u8 % 3), id(1), round + 5, &body).unwrap(),
                Kept::Yes
            );
            assert_eq!(store.get(round, id(round as u8 % 3)).unwrap()[0].1, body);
        }
        let length = fs::metadata(directory.path().join("records")).unwrap().len();
        assert!(length <= COMPACT_BYTES_MIN + 300, "{length}");
        assert_eq!(open(directory.path(), 20_000).size(), store.size());
    }

    #[derive(Clone, Debug)]
    enum Action {
        Put(u8, u8, u64, usize),
        Wait(u64),
        Restart,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// As long as nothing is refused for want of room, it is a map whose entries end.
        #[test]
        fn it_is_a_map_with_ends(actions in vec(prop_oneof![
            8 => (0..4_u8, 0..4_u8, 1..20_u64, 0..80_usize).prop_map(|(k, p, e, n)| Action::Put(k, p, e, n)),
            2 => (0..10_u64).prop_map(Action::Wait),
            1 => Just(Action::Restart),
        ], 1..60)) {
            let directory = tempfile::tempdir().unwrap();
            let (mut store, mut now) = (open(directory.path(), 0), 0);
            let mut model: BTreeMap<(u8, u8), (u64, usize)> = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Put(key, publisher, life, bytes) => {
                        let body = vec![publisher; bytes];
                        if store.put(now, id(key), id(publisher), now + life, &body).unwrap() == Kept::Yes {
                            model.insert((key, publisher), (now + life, bytes));
                        }
                    }
                    Action::Wait(seconds) => now += seconds,
                    Action::Restart => store = open(directory.path(), now),
                }
                model.retain(|_, (ends, _)| *ends > now);
                for key in 0..4 {
                    let found = store.get(now, id(key)).unwrap();
                    let found: Vec<(u8, usize)> = found.iter().map(|(p, body)| (p[0], body.len())).collect();
                    let known = model.iter().filter(|((k, _), _)| *k == key);
                    prop_assert_eq!(found, known.map(|((_, p), (_, n))| (*p, *n)).collect::<Vec<_>>());
                }
                store.expire(now);
                prop_assert_eq!(store.size().0, model.len());
            }
        }
    }
}
