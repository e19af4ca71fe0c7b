//! Records: who has what, and what came of which thunk, told to those who are asked for it.
//!
//! Goals: many records are one message, and many questions one; a record says who vouches for it
//! and until when, so that it is worth the same whoever hands it on. Non-goals: finding out whom to
//! tell or to ask ([`crate::records`]), and trust beyond membership: a provider may have lost
//! the object, and a reduction is its publisher's word.
//!
//! ```text
//!  asker                                   holder
//!    | Publish: own records       -->        |      again and again on one stream,
//!    | <--  Kept: how many of them           |      one at a time
//!    | Ask: thunks, objects       -->        |
//!    | <--  Found: records                   |
//! ```
//!
//! A holder takes records from their publisher alone, whom the connection proves, so it need not
//! check signatures. Whoever asks must ([`Record::check`]).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::admission::{Roles, Signature, Verifier};
use crate::codec::{self, CodecError, Format};
use crate::limits;
use crate::name::{Digest, ThunkName};
use crate::peer::PeerId;
use crate::thunk::Reduction;

/// `\x89MRECRD` and the version: one record, as it is kept.
pub const RECORD_FORMAT: Format =
    Format { magic: *b"\x89MRECRD\x01", bytes_max: limits::RECORD_BYTES };

/// `\x89MSTATE` and the version: what is signed.
pub const STATEMENT_FORMAT: Format =
    Format { magic: *b"\x89MSTATE\x01", bytes_max: limits::RECORD_BYTES };

/// `\x89MRDASK` and the version: what askers say.
pub const RECORDS_ASK_FORMAT: Format =
    Format { magic: *b"\x89MRDASK\x01", bytes_max: limits::RECORDS_MESSAGE_BYTES };

/// `\x89MRDTEL` and the version: what holders say.
pub const RECORDS_TELL_FORMAT: Format =
    Format { magic: *b"\x89MRDTEL\x01", bytes_max: limits::RECORDS_MESSAGE_BYTES };

/// What a record is found by. Reductions are in front: they spare runs, and so go first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RecordKey {
    /// What came of a thunk.
    Reduction(ThunkName),
    /// Who has an object; a thunk is an object too.
    Provider(Digest),
}

impl RecordKey {
    /// What it is about.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Reduction(thunk) => thunk.digest(),
            Self::Provider(digest) => *digest,
        }
    }
}

/// What somebody vouches for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fact {
    /// "This came of that thunk, and I have its outputs." Who ran it is in the reduction.
    Reduced(Box<Reduction>),
    /// "I have this object."
    Provides(Digest),
}

/// A fact, whose it is and until when it holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// Who vouches.
    pub publisher: PeerId,
    /// When it was made, in seconds since 1970, by the publisher's clock.
    pub made_s: u64,
    /// From then on it does not count any more.
    pub expires_s: u64,
    /// What.
    pub fact: Fact,
}

/// A statement, with its publisher's signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What is said.
    pub statement: Statement,
    /// The publisher's ed25519 signature of the statement's canonical bytes, in two halves.
    pub signature: Signature,
}

/// Why a record is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Doubt {
    /// Its time is over, or has not begun, or is longer than allowed.
    #[error("it does not hold now")]
    Time,
    /// Whoever vouches is no member (any more).
    #[error("its publisher is no member")]
    Stranger,
    /// Whoever vouches may not run thunks for others.
    #[error("its publisher is no worker")]
    Role,
    /// The signature is not the publisher's.
    #[error("its signature is wrong")]
    Signature,
}

/// Who is a member, and who signed what.
pub trait Notary: Verifier {
    /// What this peer may do now; `None` if it is no member.
    fn roles(&self, peer: PeerId) -> Option<Roles>;

    /// May this peer say that? Any member knows what it has; what came of a thunk is for those to
    /// say who may run thunks for others.
    fn may_say(&self, peer: PeerId, key: &RecordKey) -> Result<(), Doubt> {
        let roles = self.roles(peer).ok_or(Doubt::Stranger)?;
        match key {
            RecordKey::Reduction(_) if !roles.include(Roles::WORKER) => Err(Doubt::Role),
            _ => Ok(()),
        }
    }
}

impl Statement {
    /// What is signed.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(STATEMENT_FORMAT, self)
    }

    /// What it is found by.
    pub fn key(&self) -> RecordKey {
        match &self.fact {
            Fact::Reduced(reduction) => RecordKey::Reduction(reduction.thunk),
            Fact::Provides(digest) => RecordKey::Provider(*digest),
        }
    }

    /// Does it hold at that time, as far as clocks agree?
    pub fn holds(&self, now_s: u64) -> bool {
        let life = self.expires_s.checked_sub(self.made_s);
        let has_begun = self.made_s <= now_s.saturating_add(limits::RECORD_SKEW_S);
        life.is_some_and(|life| life <= limits::RECORD_LIFE_S)
            && has_begun
            && now_s < self.expires_s
    }

    /// The record of it, signed by `sign`.
    pub fn signed(self, sign: impl FnOnce(&[u8]) -> Signature) -> Result<Record, CodecError> {
        let signature = sign(&self.encode()?);
        Ok(Record { statement: self, signature })
    }
}

impl Record {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(RECORD_FORMAT, self)
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(RECORD_FORMAT, bytes)
    }

    /// Is it the word of a member, and does it hold now?
    pub fn check(&self, now_s: u64, notary: &dyn Notary) -> Result<(), Doubt> {
        let Statement { publisher, .. } = self.statement;
        if !self.statement.holds(now_s) {
            return Err(Doubt::Time);
        }
        notary.may_say(publisher, &self.statement.key())?;
        let bytes = self.statement.encode().map_err(|_| Doubt::Signature)?;
        match notary.verify(&publisher.0, &bytes, &self.signature) {
            true => Ok(()),
            false => Err(Doubt::Signature),
        }
    }
}

/// What an asker says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromAsker {
    /// Keep these; I am their publisher.
    Publish(Vec<Record>),
    /// What do you know of these?
    Ask(BTreeSet<RecordKey>),
}

/// What a holder says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromHolder {
    /// So many of them, from the first on in their order, are kept; the others are over a bound.
    Kept(u32),
    /// All that I know and that fits into a message, in the order of the keys.
    Found(Vec<Record>),
}

impl FromAsker {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(RECORDS_ASK_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(RECORDS_ASK_FORMAT, bytes)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), CodecError> {
        rules(match self {
            Self::Publish(records) => (1..=limits::RECORDS_BATCH).contains(&records.len()),
            Self::Ask(keys) => (1..=limits::RECORDS_ASKED).contains(&keys.len()),
        })
    }
}

impl FromHolder {
    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        self.check()?;
        codec::encode(RECORDS_TELL_FORMAT, self)
    }

    /// Reads canonical bytes, and only what keeps the rules.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(RECORDS_TELL_FORMAT, bytes)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), CodecError> {
        rules(match self {
            Self::Kept(kept) => *kept as usize <= limits::RECORDS_BATCH,
            Self::Found(records) => records.len() <= limits::RECORDS_ASKED * limits::PROVIDERS,
        })
    }
}

fn rules(kept: bool) -> Result<(), CodecError> {
    if kept {
        return Ok(());
    }
    Err(CodecError::Malformed("a message about records breaks its rules".to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::name::ValueName;
    use crate::thunk::{OutputObject, Usage};

    fn reduction(at: u8) -> Reduction {
        let name = ValueName::of(&[at]);
        let output = OutputObject::File { name, executable: at % 2 == 1 };
        Reduction {
            thunk: ThunkName::of(&[at]),
            outputs: BTreeMap::from([("out".parse().unwrap(), output)]),
            stdout: ValueName::of(b""),
            stderr: ValueName::of(b""),
            usage: Usage::default(),
            executor: "somebody".to_owned(),
            finished_at_s: 7,
        }
    }

    fn record(at: u8, is_reduction: bool) -> Record {
        let fact = match is_reduction {
            true => Fact::Reduced(Box::new(reduction(at))),
            false => Fact::Provides(Digest::of(&[at])),
        };
        let statement =
            Statement { publisher: PeerId([at; 32]), made_s: 1000, expires_s: 2000, fact };
        Record { statement, signature: [[at; 32], [9; 32]] }
    }

    pub(in crate::wire) fn records(max: usize) -> impl Strategy<Value = Vec<Record>> {
        vec((any::<u8>(), any::<bool>()).prop_map(|(at, kind)| record(at, kind)), 1..max)
    }

    pub(in crate::wire) fn askers() -> impl Strategy<Value = FromAsker> {
        let key = (any::<u8>(), any::<bool>()).prop_map(|(at, kind)| match kind {
            true => RecordKey::Reduction(ThunkName::of(&[at])),
            false => RecordKey::Provider(Digest::of(&[at])),
        });
        prop_oneof![
            records(20).prop_map(FromAsker::Publish),
            btree_set(key, 1..40).prop_map(FromAsker::Ask),
        ]
    }

    pub(in crate::wire) fn holders() -> impl Strategy<Value = FromHolder> {
        let kept = 0..=limits::RECORDS_BATCH as u32;
        prop_oneof![records(20).prop_map(FromHolder::Found), kept.prop_map(FromHolder::Kept)]
    }

    proptest! {
        #[test]
        fn messages_survive(asker in askers(), holder in holders()) {
            prop_assert_eq!(&FromAsker::decode(&asker.encode().unwrap()).unwrap(), &asker);
            prop_assert_eq!(&FromHolder::decode(&holder.encode().unwrap()).unwrap(), &holder);
        }
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let digest = |bytes: Vec<u8>| Digest::of(&bytes).to_string();
        let ask = BTreeSet::from([
            RecordKey::Provider(Digest::of(b"x")),
            RecordKey::Reduction(ThunkName::of(b"t")),
        ]);
        let seen = [
            digest(record(1, false).encode().unwrap()),
            digest(record(2, true).encode().unwrap()),
            digest(FromAsker::Publish(vec![record(1, false), record(2, true)]).encode().unwrap()),
            digest(FromAsker::Ask(ask).encode().unwrap()),
            digest(FromHolder::Found(vec![record(2, true)]).encode().unwrap()),
            digest(FromHolder::Kept(3).encode().unwrap()),
        ];
        assert_eq!(seen, GOLDEN);
        let kept = FromHolder::Kept(3).encode().unwrap();
        assert_eq!(kept, [0x89, b'M', b'R', b'D', b'T', b'E', b'L', 1, 0, 3]);
    }

    /// SHA-256 and length.
    const GOLDEN: [&str; 6] = [
        "148c1f1609915feabc3cf8f6a36f58d2f4ecc1a4430eedb70c76856fec28d0da-144",
        "26b8be718165da33fb5351ba4f5a1e4fbd2f03bcc9ba6df964c30dcf9c9a3b44-263",
        "b68ab2de05b5934839e5b97cfca6f79a966c7f885b3ffb3c516049a9f8f2f6bb-401",
        "de91e74e14b044f936df24ec8dad7ee72ff00f9df11f27d68559c278ef02b6e6-78",
        "d2cc162d82153b9cc602d6180c6a9b6201281312c063373e6d1e11f12a3826bf-265",
        "593301c93586742bbe8afd3988de38863f55fe2d052f7be28d2f1c1d9da36d18-10",
    ];

    #[test]
    fn what_breaks_the_rules_is_neither_written_nor_read() {
        let asker = |message: FromAsker| {
            let bytes = codec::encode(RECORDS_ASK_FORMAT, &message);
            assert!(message.encode().is_err());
            assert!(bytes.is_err() || FromAsker::decode(&bytes.unwrap()).is_err());
        };
        asker(FromAsker::Publish(vec![]));
        asker(FromAsker::Publish(vec![record(1, false); limits::RECORDS_BATCH + 1]));
        asker(FromAsker::Ask(BTreeSet::new()));
        let many = (0..=limits::RECORDS_ASKED as u32)
            .map(|at| RecordKey::Provider(Digest::of(&at.to_le_bytes())));
        asker(FromAsker::Ask(many.collect()));
        assert!(FromHolder::Kept(limits::RECORDS_BATCH as u32 + 1).encode().is_err());
        let mut long = reduction(1);
        long.executor = "x".repeat(limits::RECORD_BYTES as usize);
        let mut record = record(1, true);
        record.statement.fact = Fact::Reduced(Box::new(long));
        assert!(record.encode().is_err() && record.statement.encode().is_err());
    }

    /// A length that promises more than there is costs no memory.
    #[test]
    fn a_promise_of_many_is_not_believed() {
        for variant in [0_u8, 1] {
            let mut bytes = RECORDS_ASK_FORMAT.magic.to_vec();
            bytes.extend([variant, 253, 255, 255, 255, 255, 255, 255, 255, 127]);
            assert!(FromAsker::decode(&bytes).is_err());
        }
    }

    struct Village;

    impl Verifier for Village {
        fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
            *signature == [*key, Digest::of(message).sha256]
        }
    }

    impl Notary for Village {
        fn roles(&self, peer: PeerId) -> Option<Roles> {
            match peer.0[0] {
                0..50 => Some(Roles::WORKER),
                50..100 => Some(Roles::SUBMITTER),
                _ => None,
            }
        }
    }

    #[test]
    fn who_runs_nothing_for_others_says_what_it_has_and_no_more() {
        let (reduction, object) =
            (RecordKey::Reduction(ThunkName::of(b"x")), RecordKey::Provider(Digest::of(b"x")));
        let may = |peer: u8, key| Village.may_say(PeerId([peer; 32]), &key);
        assert_eq!([may(1, reduction), may(1, object)], [Ok(()), Ok(())]);
        assert_eq!([may(60, reduction), may(60, object)], [Err(Doubt::Role), Ok(())]);
        assert_eq!([may(200, reduction), may(200, object)], [Err(Doubt::Stranger); 2]);
    }

    #[test]
    fn a_record_is_a_members_word_for_a_while() {
        let signed = |publisher: u8, made_s, expires_s| {
            let fact = Fact::Provides(Digest::of(b"x"));
            let statement =
                Statement { publisher: PeerId([publisher; 32]), made_s, expires_s, fact };
            let sign = |bytes: &[u8]| [[publisher; 32], Digest::of(bytes).sha256];
            statement.signed(sign).unwrap()
        };
        let good = signed(1, 10_000, 20_000);
        assert_eq!(good.check(10_000, &Village), Ok(()));
        assert_eq!(good.check(10_000 - limits::RECORD_SKEW_S, &Village), Ok(()), "clocks differ");
        assert_eq!(good.check(9_999 - limits::RECORD_SKEW_S, &Village), Err(Doubt::Time));
        assert_eq!(good.check(20_000, &Village), Err(Doubt::Time));
        assert_eq!(signed(1, 2, 1).check(1, &Village), Err(Doubt::Time), "ends before it begins");
        let eternal = signed(1, 0, limits::RECORD_LIFE_S + 1);
        assert_eq!(eternal.check(1, &Village), Err(Doubt::Time));
        assert_eq!(signed(200, 0, 10).check(1, &Village), Err(Doubt::Stranger));
        let mut changed = good.clone();
        changed.statement.fact = Fact::Provides(Digest::of(b"y"));
        assert_eq!(changed.check(10_000, &Village), Err(Doubt::Signature));
        let mut stolen = good;
        stolen.statement.publisher = PeerId([2; 32]);
        assert_eq!(stolen.check(10_000, &Village), Err(Doubt::Signature));
    }
}
