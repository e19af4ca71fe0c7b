//! Every message: what is encoded decodes to itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::claim::*;
use super::offer::*;
use crate::codec::{self, CodecError};
use crate::limits;
use crate::name::{Digest, ThunkName, ValueName};
use crate::peer::PeerId;
use crate::sched::force::FailureClass;
use crate::thunk::{OutputObject, Platform, Reduction, Usage};

fn digests() -> impl Strategy<Value = Digest> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(sha256, length)| Digest { sha256, length })
}

pub(super) fn values() -> impl Strategy<Value = ValueName> {
    digests().prop_map(ValueName)
}

fn platforms() -> impl Strategy<Value = Platform> {
    prop_oneof![Just(Platform::X86_64Linux), Just(Platform::Aarch64Linux)]
}

pub(super) fn offers() -> impl Strategy<Value = Offer> {
    let class = (platforms(), 1_u16.., proptest::option::of(0_u8..64)).prop_map(
        |(platform, cores, memory_mib_log2)| ResourceClass { platform, cores, memory_mib_log2 },
    );
    let ready = btree_map(class, 1_u32.., 0..=limits::OFFER_CLASSES);
    let trees = btree_set(values(), 0..=limits::OFFER_TREES);
    (any::<u64>(), ready, trees).prop_map(|(number, ready, trees)| Offer { number, ready, trees })
}

fn windows() -> impl Strategy<Value = Window> {
    (0..=limits::CLAIM_CORES, 0..=limits::CLAIM_CORES)
        .prop_map(|(slots, prefetch)| Window { slots, prefetch })
}

fn leases() -> impl Strategy<Value = BTreeSet<LeaseId>> {
    btree_set(any::<u64>().prop_map(LeaseId), 0..40)
}

fn objects() -> impl Strategy<Value = Vec<InlineObject>> {
    let object = (values(), vec(any::<u8>(), 0..100));
    vec(object.prop_map(|(name, bytes)| InlineObject { name, bytes }), 0..4)
}

pub(super) fn reductions() -> impl Strategy<Value = Reduction> {
    let object = prop_oneof![
        (values(), any::<bool>())
            .prop_map(|(name, executable)| OutputObject::File { name, executable }),
        values().prop_map(OutputObject::Tree),
        digests().prop_map(|digest| OutputObject::Thunk(ThunkName(digest))),
    ];
    let tag = "[a-z0-9._+-]{1,9}".prop_map(|text| text.parse().unwrap());
    (digests(), btree_map(tag, object, 0..4), values(), values(), any::<u64>()).prop_map(
        |(thunk, outputs, stdout, stderr, at)| Reduction {
            thunk: ThunkName(thunk),
            outputs,
            stdout,
            stderr,
            usage: Usage { wall_us: at, ..Usage::default() },
            executor: "somebody".to_owned(),
            finished_at_s: at,
        },
    )
}

fn receipts() -> impl Strategy<Value = Receipt> {
    let signed = (reductions(), any::<[[u8; 32]; 2]>(), any::<bool>()).prop_map(
        |(reduction, signature, remembered)| SignedReduction { reduction, signature, remembered },
    );
    let class = prop_oneof![Just(FailureClass::Program), Just(FailureClass::Machine)];
    let failure = (class, ".{0,40}").prop_map(|(class, reason)| LeaseFailure { class, reason });
    let end = prop_oneof![signed.prop_map(Ok), failure.prop_map(Err)];
    let timeline = any::<[u64; 4]>().prop_map(|[came_us, fetched_us, started_us, ended_us]| {
        Timeline { came_us, fetched_us, started_us, ended_us }
    });
    (any::<u64>(), end, objects(), timeline).prop_map(|(lease, end, objects, timeline)| Receipt {
        lease: LeaseId(lease),
        end,
        objects,
        timeline,
    })
}

pub(super) fn from_workers() -> impl Strategy<Value = FromWorker> {
    let capabilities = (platforms(), 1..=limits::CLAIM_CORES, any::<u64>(), 1_u32..).prop_map(
        |(platform, cores, memory_mib, speed_permille)| Capabilities {
            platform,
            cores,
            memory_mib,
            speed_permille,
        },
    );
    let open = (capabilities, windows(), btree_set(values(), 0..=limits::CLAIM_HOLDS))
        .prop_map(|(capabilities, window, holds)| Open { capabilities, window, holds });
    prop_oneof![
        open.prop_map(FromWorker::Open),
        windows().prop_map(FromWorker::Window),
        any::<u64>().prop_map(|lease| FromWorker::Started(LeaseId(lease))),
        leases().prop_map(FromWorker::Heartbeat),
        receipts().prop_map(|receipt| FromWorker::Receipt(Box::new(receipt))),
        leases().prop_map(FromWorker::HandBack),
    ]
}

pub(super) fn from_requesters() -> impl Strategy<Value = FromRequester> {
    let sources = vec(any::<[u8; 32]>().prop_map(PeerId), 0..=limits::LEASE_SOURCES);
    let bytes = proptest::option::of(vec(any::<u8>(), 0..200));
    let lease = (any::<u64>(), digests(), bytes, sources, objects()).prop_map(
        |(lease, thunk, bytes, sources, objects)| Lease {
            lease: LeaseId(lease),
            thunk: ThunkName(thunk),
            bytes,
            sources,
            objects,
        },
    );
    prop_oneof![
        lease.prop_map(FromRequester::Lease),
        leases().prop_map(FromRequester::Cancel),
        Just(FromRequester::Alive),
        Just(FromRequester::Dry),
        any::<u32>().prop_map(FromRequester::Refuse),
    ]
}

proptest! {
    #[test]
    fn messages_survive(offer in offers(), worker in from_workers(), requester in from_requesters()) {
        prop_assert_eq!(&Offer::decode(&offer.encode().unwrap()).unwrap(), &offer);
        prop_assert_eq!(&FromWorker::decode(&worker.encode().unwrap()).unwrap(), &worker);
        prop_assert_eq!(&FromRequester::decode(&requester.encode().unwrap()).unwrap(), &requester);
    }
}

fn refused(result: Result<Vec<u8>, CodecError>) -> bool {
    matches!(result, Err(CodecError::Malformed(_) | CodecError::TooLong { .. }))
}

#[test]
fn what_breaks_the_rules_is_neither_written_nor_read() {
    let class =
        |cores| ResourceClass { platform: Platform::X86_64Linux, cores, memory_mib_log2: None };
    let nobody = Offer { number: 1, ready: BTreeMap::from([(class(1), 0)]), ..Offer::default() };
    let classes = (1..=17).map(|cores| (class(cores), 1)).collect();
    let many = Offer { number: 1, ready: classes, ..Offer::default() };
    for offer in [nobody, many] {
        assert!(refused(offer.encode()));
        let bytes = codec::encode(OFFER_FORMAT, &offer).unwrap();
        assert!(Offer::decode(&bytes).is_err());
    }
    let greedy = FromWorker::Window(Window { slots: limits::CLAIM_CORES + 1, prefetch: 0 });
    assert!(refused(greedy.encode()));
    assert!(FromWorker::decode(&codec::encode(CLAIM_FORMAT, &greedy).unwrap()).is_err());
    let object = InlineObject { name: ValueName::of(b""), bytes: vec![0; 1024 * 1024 + 1] };
    let receipt = Receipt {
        lease: LeaseId(0),
        end: Err(LeaseFailure { class: FailureClass::Machine, reason: String::new() }),
        objects: vec![object],
        timeline: Timeline::default(),
    };
    assert!(refused(FromWorker::Receipt(Box::new(receipt)).encode()));
}

/// A length that promises more than there is costs no memory.
#[test]
fn a_promise_of_many_is_not_believed() {
    for variant in [3_u8, 5] {
        let mut bytes = CLAIM_FORMAT.magic.to_vec();
        bytes.extend([variant, 253, 255, 255, 255, 255, 255, 255, 255, 127]);
        assert!(FromWorker::decode(&bytes).is_err());
    }
}

#[test]
fn classes_round_memory_up_and_fit_what_has_it() {
    let limits = |memory_bytes| crate::thunk::Limits {
        memory_bytes,
        ..crate::thunk::Limits::for_platform(Platform::X86_64Linux)
    };
    let log2 = |bytes| ResourceClass::of(&limits(Some(bytes))).memory_mib_log2;
    assert_eq!(log2(1), Some(0));
    assert_eq!(log2(1 << 20), Some(0));
    assert_eq!(log2((1 << 20) + 1), Some(1));
    assert_eq!(log2(3 << 30), Some(12));
    assert_eq!(log2(u64::MAX), Some(44));
    let class = ResourceClass::of(&limits(Some(3 << 30)));
    assert!(class.fits(Platform::X86_64Linux, 4096) && !class.fits(Platform::X86_64Linux, 4095));
    assert!(!class.fits(Platform::Aarch64Linux, 4096));
    assert!(ResourceClass::of(&limits(None)).fits(Platform::X86_64Linux, 0));
}
