//! Transfer: objects by name, on direct streams.
//!
//! Goals: hundreds of small objects cost one round trip; a large one comes in ranges, so from several
//! peers at once, and goes on where a broken stream ended; neither end holds more than one
//! piece of memory for a message. Non-goals: finding out who has an object (leases and records say
//! so), trees (to the sender an object is bytes), and trust: whoever receives hashes the whole
//! against its name, and nothing else makes it an object.
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

/// `\x89MWANTS` and the version: what receivers say.
pub const WANT_FORMAT: Format =
    Format { magic: *b"\x89MWANTS\x01", bytes_max: limits::TRANSFER_WANT_BYTES };

/// `\x89MPIECE` and the version: what senders say.
pub const PIECE_FORMAT: Format =
    Format { magic: *b"\x89MPIECE\x01", bytes_max: limits::TRANSFER_HEADER_BYTES };

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
}

/// What a sender says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The next bytes of an item follow.
    Piece {
        /// Its place in the [`Want`].
        item: u32,
        /// How many bytes they are.
        length: u32,
        /// How they are written.
        encoding: Encoding,
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
    /// Compressed (LZ4, one block), in so many bytes.
    Lz4(u32),
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
        let within = |item: &WantedRange| {
            let end = item.start.checked_add(item.length);
            item.length > 0 && end.is_some_and(|end| end <= item.name.digest().length)
        };
        let total = self.items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.length));
        let few = self.items.len() <= limits::TRANSFER_WANTS;
        let small = total <= limits::TRANSFER_WANTED_BYTES;
        rules(!self.items.is_empty() && few && small && self.items.iter().all(within))
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
            Self::Piece { length, encoding, .. } => {
                let shorter = match encoding {
                    Encoding::Plain => true,
                    Encoding::Lz4(written) => *written > 0 && written < length,
                };
                (1..=limits::TRANSFER_PIECE_BYTES).contains(length) && shorter
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
    pub fn accept(&mut self, answer: Answer) -> Result<Meaning, CodecError> {
        let (Answer::Piece { item, .. } | Answer::Missing { item }) = answer;
        let wanted = self.items.get(self.item).filter(|_| item as usize == self.item);
        let wanted = *wanted.ok_or_else(|| malformed("an answer to what was not asked"))?;
        let item = self.item;
        let Answer::Piece { length, .. } = answer else {
            (self.item, self.received) = (item + 1, 0);
            return Ok(Meaning::Missing(item));
        };
        let start = wanted.start + self.received;
        let received = self.received + u64::from(length);
        if received > wanted.length {
            return Err(malformed("more bytes than were asked for"));
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
        Answer::Piece { item, length, encoding: Encoding::Plain }
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let plain = (any::<u32>(), 1..=limits::TRANSFER_PIECE_BYTES)
            .prop_map(|(item, length)| piece(item, length));
        let packed = (any::<u32>(), 1..limits::TRANSFER_PIECE_BYTES).prop_map(|(item, written)| {
            Answer::Piece { item, length: written + 1, encoding: Encoding::Lz4(written) }
        });
        prop_oneof![plain, packed, any::<u32>().prop_map(|item| Answer::Missing { item })]
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
                if let Ok(Meaning::Bytes { item, start, last }) = expected.accept(answer) {
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
        assert_eq!(expected.accept(piece(0, 200)).unwrap(), bytes(0, 100, false));
        assert!(expected.clone().accept(piece(1, 10)).is_err(), "the first is not complete");
        assert!(expected.clone().accept(piece(0, 101)).is_err(), "more than was asked for");
        assert_eq!(expected.accept(piece(0, 100)).unwrap(), bytes(0, 300, true));
        assert_eq!(expected.accept(Answer::Missing { item: 1 }).unwrap(), Meaning::Missing(1));
        assert!(!expected.is_complete());
        assert_eq!(expected.accept(piece(2, 5)).unwrap(), bytes(2, 0, true));
        assert!(expected.is_complete() && expected.accept(piece(3, 1)).is_err());
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
        let packed = Answer::Piece { item: 0, length: 9, encoding: Encoding::Lz4(9) };
        assert!(packed.encode().is_err(), "it gained nothing");
    }
}
