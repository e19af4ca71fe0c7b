//! Transfer: objects by name, on direct streams.
//!
//! Goals: hundreds of small objects cost one round trip; a large one comes in ranges, so from several
//! peers at once, and goes on where a broken stream ended; neither end holds more than one
//! piece of memory for a message. Non-goals: finding out who has an object (leases and records say
//! so), trees (to the sender an object is bytes), and trust: whoever receives hashes the whole
//! against its name, and nothing else makes it an object.
//!
//! A large object, one of more than [`TRANSFER_HELD_BYTES`](limits::TRANSFER_HELD_BYTES), comes in
//! whole pieces of its [`outboard`], each with its proof: ranges of it begin and end where pieces do.
//!
//! ```text
//!  receiver                          sender
//!    | Want: ranges of objects  -->    |      again and again on one stream, one at a time
//!    | <--  Piece, its bytes           |      the items in their order, each from its start
//!    | <--  Missing                    |      the rest of that item does not come
//! ```
//!
//! The bytes of a piece follow it as a frame of their own: they are not encoded again.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::ValueName;
use crate::outboard;

const PIECE: u64 = limits::TRANSFER_PIECE_BYTES as u64;

/// `\x89MWANTS` and the version: what receivers say.
pub const WANT_FORMAT: Format =
    Format { magic: *b"\x89MWANTS\x02", bytes_max: limits::TRANSFER_WANT_BYTES };

/// `\x89MPIECE` and the version: what senders say.
pub const PIECE_FORMAT: Format =
    Format { magic: *b"\x89MPIECE\x02", bytes_max: limits::TRANSFER_HEADER_BYTES };

/// What a receiver wants.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Want {
    /// In the order in which they shall come.
    pub items: Vec<WantedRange>,
}

/// A part of one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantedRange {
    /// The object. A thunk is wanted by its name too: as bytes, it is a value.
    pub name: ValueName,
    /// Its first byte.
    pub start: u64,
    /// How many bytes; at least one.
    pub length: u64,
}

impl WantedRange {
    /// The whole of an object.
    pub fn whole(name: ValueName) -> Self {
        Self { name, start: 0, length: name.digest().length }
    }

    /// Is it of a large object, whose pieces have proofs?
    pub fn is_proven(&self) -> bool {
        self.name.digest().length > limits::TRANSFER_HELD_BYTES
    }

    fn keeps_rules(&self) -> bool {
        let object = self.name.digest().length;
        let Some(end) = self.start.checked_add(self.length) else { return false };
        let whole = |at: u64| at.is_multiple_of(PIECE) || at == object;
        let within = self.length > 0 && end <= object;
        within && (!self.is_proven() || whole(self.start) && whole(end))
    }
}

/// What a sender says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The next bytes of an item follow.
    Piece {
        /// Its place in the [`Want`].
        item: u32,
        /// How many bytes they are.
        length: u32,
        /// How they are written.
        encoding: Encoding,
        /// Of a large object: what shows that they belong to it. Of others: nothing.
        proof: Vec<outboard::Node>,
    },
    /// I do not have it, or cannot read it.
    Missing {
        /// Its place in the [`Want`].
        item: u32,
    },
}

/// How the bytes of a piece are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// Compressed (Zstandard, RFC 8878, one frame), in so many bytes.
    Zstd(u32),
}

impl Want {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(WANT_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let want: Self = codec::decode(WANT_FORMAT, bytes)?;
        want.check()?;
        Ok(want)
    }

    fn check(&self) -> Result<(), CodecError> {
        let total = self.items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.length));
        let few = self.items.len() <= limits::TRANSFER_WANTS;
        let small = total <= limits::TRANSFER_WANTED_BYTES;
        let kept = self.items.iter().all(WantedRange::keeps_rules);
        rules(!self.items.is_empty() && few && small && kept)
    }
}

impl Answer {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(PIECE_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let answer: Self = codec::decode(PIECE_FORMAT, bytes)?;
        answer.check()?;
        Ok(answer)
    }

    fn check(&self) -> Result<(), CodecError> {
        rules(match self {
            Self::Piece { length, encoding, proof, .. } => {
                let shorter = match encoding {
                    Encoding::Plain => true,
                    Encoding::Zstd(written) => *written > 0 && written < length,
                };
                let short = proof.len() <= limits::TRANSFER_PROOF_HASHES;
                (1..=limits::TRANSFER_PIECE_BYTES).contains(length) && shorter && short
            }
            Self::Missing { .. } => true,
        })
    }
}

/// How far the answer to one [`Want`] has come: says what each [`Answer`] means, and which is
/// against the rules.
#[derive(Clone, Debug)]
pub struct Expected {
    items: Vec<WantedRange>,
    item: usize,
    received: u64,
}

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The bytes that follow stand there.
    Bytes {
        /// The item.
        item: usize,
        /// Where in the object they begin.
        start: u64,
        /// Does the item end with them?
        last: bool,
    },
    /// What is left of that item does not come.
    Missing(usize),
}

impl Expected {
    /// Nothing has come yet.
    pub fn new(want: Want) -> Self {
        Self { items: want.items, item: 0, received: 0 }
    }

    /// Has everything come, or been said to be missing?
    pub fn is_complete(&self) -> bool {
        self.item >= self.items.len()
    }

    /// Takes the next answer.
    pub fn accept(&mut self, answer: &Answer) -> Result<Meaning, CodecError> {
        let (Answer::Piece { item, .. } | Answer::Missing { item }) = answer;
        let wanted = self.items.get(self.item).filter(|_| *item as usize == self.item);
        let wanted = *wanted.ok_or_else(|| malformed("an answer to what was not asked"))?;
        let item = self.item;
        let Answer::Piece { length, proof, .. } = answer else {
            (self.item, self.received) = (item + 1, 0);
            return Ok(Meaning::Missing(item));
        };
        let start = wanted.start + self.received;
        let received = self.received + u64::from(*length);
        if received > wanted.length {
            return Err(malformed("more bytes than were asked for"));
        }
        let hashes = match wanted.is_proven() {
            true if u64::from(*length) != PIECE.min(wanted.name.digest().length - start) => {
                return Err(malformed("a piece of a large object is not whole"));
            }
            true => outboard::proof_length(wanted.name.digest().length, start),
            false => 0,
        };
        if proof.len() != hashes {
            return Err(malformed("a proof is not as long as its tree is high"));
        }
        let last = received == wanted.length;
        (self.item, self.received) = if last { (item + 1, 0) } else { (item, received) };
        Ok(Meaning::Bytes { item, start, last })
    }
}

fn rules(kept: bool) -> Result<(), CodecError> {
    if kept { Ok(()) } else { Err(malformed("a message breaks its rules")) }
}

fn malformed(what: &str) -> CodecError {
    CodecError::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::name::Digest;

    fn name(length: u64) -> ValueName {
        ValueName(Digest { sha256: [7; 32], length })
    }

    fn wanted(start: u64, length: u64) -> WantedRange {
        WantedRange { name: name(1000), start, length }
    }

    fn piece(item: u32, length: u32) -> Answer {
        Answer::Piece { item, length, encoding: Encoding::Plain, proof: Vec::new() }
    }

    fn proven(length: u32, hashes: usize) -> Answer {
        let proof = vec![[9; 32]; hashes];
        Answer::Piece { item: 0, length, encoding: Encoding::Plain, proof }
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let plain = (any::<u32>(), 1..=limits::TRANSFER_PIECE_BYTES)
            .prop_map(|(item, length)| piece(item, length));
        let packed = (any::<u32>(), 1..limits::TRANSFER_PIECE_BYTES).prop_map(|(item, written)| {
            let encoding = Encoding::Zstd(written);
            Answer::Piece { item, length: written + 1, encoding, proof: Vec::new() }
        });
        let hashes = 0..=limits::TRANSFER_PROOF_HASHES;
        let proven = hashes.prop_map(|hashes| proven(limits::TRANSFER_PIECE_BYTES, hashes));
        let missing = any::<u32>().prop_map(|item| Answer::Missing { item });
        prop_oneof![plain, packed, proven, missing]
    }

    fn wants() -> impl Strategy<Value = Want> {
        let range = (0_u64..900, 1_u64..=100).prop_map(|(start, length)| wanted(start, length));
        vec(range, 1..=limits::TRANSFER_WANTS).prop_map(|items| Want { items })
    }

    proptest! {
        #[test]
        fn messages_survive(want in wants(), answer in answers()) {
            prop_assert_eq!(&Want::decode(&want.encode().unwrap()).unwrap(), &want);
            prop_assert_eq!(Answer::decode(&answer.encode().unwrap()).unwrap(), answer);
        }

        #[test]
        fn damaged_messages_do_no_harm(
            want in wants(), answer in answers(),
            at in any::<prop::sample::Index>(), with in any::<u8>(), how in 0..3,
        ) {
            for mut bytes in [want.encode().unwrap(), answer.encode().unwrap()] {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = with,
                    1 => bytes.truncate(at),
                    _ => bytes.insert(at, with),
                }
                if let Ok(want) = Want::decode(&bytes) {
                    prop_assert_eq!(want.encode().unwrap(), bytes.clone());
                }
                if let Ok(answer) = Answer::decode(&bytes) {
                    prop_assert_eq!(answer.encode().unwrap(), bytes);
                }
            }
        }

        /// Whatever a sender says, no byte comes twice, and none from where nobody asked.
        #[test]
        fn only_what_was_asked_for_is_taken(want in wants(), said in vec((0_u32..4, 1_u32..120, any::<bool>()), 0..40)) {
            let mut expected = Expected::new(want.clone());
            let mut next: Vec<u64> = want.items.iter().map(|item| item.start).collect();
            for (item, length, missing) in said {
                let answer = if missing { Answer::Missing { item } } else { piece(item, length) };
                if let Ok(Meaning::Bytes { item, start, last }) = expected.accept(&answer) {
                    prop_assert_eq!(start, next[item]);
                    next[item] += u64::from(length);
                    let end = want.items[item].start + want.items[item].length;
                    prop_assert!(next[item] <= end && last == (next[item] == end));
                }
            }
        }
    }

    #[test]
    fn answers_come_in_order_and_say_what_is_missing() {
        let items = vec![wanted(100, 300), wanted(0, 10), wanted(0, 5)];
        let mut expected = Expected::new(Want { items });
        let bytes = |item, start, last| Meaning::Bytes { item, start, last };
        assert_eq!(expected.accept(&piece(0, 200)).unwrap(), bytes(0, 100, false));
        assert!(expected.clone().accept(&piece(1, 10)).is_err(), "the first is not complete");
        assert!(expected.clone().accept(&piece(0, 101)).is_err(), "more than was asked for");
        assert_eq!(expected.accept(&piece(0, 100)).unwrap(), bytes(0, 300, true));
        assert_eq!(expected.accept(&Answer::Missing { item: 1 }).unwrap(), Meaning::Missing(1));
        assert!(!expected.is_complete());
        assert_eq!(expected.accept(&piece(2, 5)).unwrap(), bytes(2, 0, true));
        assert!(expected.is_complete() && expected.accept(&piece(3, 1)).is_err());
    }

    #[test]
    fn what_breaks_the_rules_is_neither_written_nor_read() {
        let refused = |items: Vec<WantedRange>| Want { items }.encode().is_err();
        assert!(refused(vec![]));
        assert!(refused(vec![wanted(0, 0)]));
        assert!(refused(vec![wanted(999, 2)]));
        assert!(refused(vec![wanted(u64::MAX, 2)]));
        assert!(refused(vec![wanted(0, 1); limits::TRANSFER_WANTS + 1]));
        assert!(refused(vec![WantedRange::whole(name(limits::TRANSFER_WANTED_BYTES + 1))]));
        assert!(!refused(vec![WantedRange::whole(name(limits::TRANSFER_WANTED_BYTES))]));
        assert!(piece(0, 0).encode().is_err());
        assert!(piece(0, limits::TRANSFER_PIECE_BYTES + 1).encode().is_err());
        let (encoding, proof) = (Encoding::Zstd(9), Vec::new());
        let packed = Answer::Piece { item: 0, length: 9, encoding, proof };
        assert!(packed.encode().is_err(), "it gained nothing");
        assert!(proven(1, limits::TRANSFER_PROOF_HASHES).encode().is_ok());
        assert!(proven(1, limits::TRANSFER_PROOF_HASHES + 1).encode().is_err());
    }

    #[test]
    fn large_objects_are_asked_for_and_come_in_whole_pieces_with_proofs() {
        // Five pieces, the last one short.
        let object = 4 * PIECE + 100;
        let range = |start, length| WantedRange { name: name(object), start, length };
        let refused = |start, length| Want { items: vec![range(start, length)] }.encode().is_err();
        assert!(!refused(0, object) && !refused(PIECE, 2 * PIECE) && !refused(4 * PIECE, 100));
        assert!(refused(1, PIECE) && refused(0, PIECE - 1) && refused(4 * PIECE, 99));

        let expected = Expected::new(Want { items: vec![range(3 * PIECE, PIECE + 100)] });
        let piece = limits::TRANSFER_PIECE_BYTES;
        let bytes = |start, last| Meaning::Bytes { item: 0, start, last };
        assert!(expected.clone().accept(&proven(piece - 1, 3)).is_err(), "not whole");
        assert!(expected.clone().accept(&proven(piece, 2)).is_err(), "no proof");
        let mut expected = expected;
        assert_eq!(expected.accept(&proven(piece, 3)).unwrap(), bytes(3 * PIECE, false));
        assert!(expected.clone().accept(&proven(100, 3)).is_err(), "it has no neighbour at first");
        assert_eq!(expected.accept(&proven(100, 1)).unwrap(), bytes(4 * PIECE, true));
        let mut small = Expected::new(Want { items: vec![wanted(0, 9)] });
        assert!(small.accept(&proven(9, 1)).is_err(), "small objects have none");
    }
}
