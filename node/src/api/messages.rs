//! The bytes of all messages on the socket, held against those of the same version.
//!
//! When this fails, a message looks different than it did in version [`VERSION`]: raise that, have insta write
//! the bytes of the new one (`INSTA_UPDATE=always`), and remove those of the old one. A message that
//! is not listed does not compile.

use std::fmt::Write as _;

use mesh_protocol::name::{ThunkName, ValueName};
use mesh_protocol::owner::Reason;
use mesh_protocol::sched::force::FailureClass;
use mesh_protocol::sched::level::Level;
use mesh_protocol::sched::named::PolicyNames;
use mesh_protocol::thunk::{OutputObject, Usage};
use mesh_protocol::wire::claim::Timeline;

use super::session::{TO_BUILD, TO_NODE, ToBuild, ToNode};
use super::*;
use crate::claims::{News, Trip};
use crate::exec::{Excess, Exit, Outcome};

const PEER: PeerId = PeerId([7; 32]);
const TICKET: TicketId = TicketId([8; 16]);

fn thunk() -> ThunkName {
    ThunkName::of(b"a thunk")
}

fn value() -> ValueName {
    ValueName::of(b"a value")
}

fn outputs() -> std::collections::BTreeMap<mesh_protocol::name::Tag, OutputObject> {
    let objects = [
        OutputObject::File { name: value(), executable: true },
        OutputObject::Tree(value()),
        OutputObject::Thunk(thunk()),
    ];
    let tags = ["file", "tree", "thunk"].map(|tag| tag.parse().unwrap());
    tags.into_iter().zip(objects).collect()
}

fn usage() -> Usage {
    Usage { wall_us: 1, cpu_us: 2, memory_peak_bytes: 3 }
}

fn requests() -> [Request; 14] {
    // A new kind of request belongs below too.
    match Request::Peers {
        Request::Peers
        | Request::Invite { .. }
        | Request::Revoke(_)
        | Request::Tickets
        | Request::Withdraw(_)
        | Request::Forget(_)
        | Request::Status
        | Request::Pause(_)
        | Request::Find(_)
        | Request::Bring(_)
        | Request::Stored(_)
        | Request::Build
        | Request::Stop => {}
    }
    [
        Request::Peers,
        Request::Invite { roles: Roles::MEMBER, uses: 2, life_s: 3 },
        Request::Revoke(PEER),
        Request::Tickets,
        Request::Withdraw(TICKET),
        Request::Forget(PEER),
        Request::Status,
        Request::Pause(true),
        Request::Find(RecordKey::Reduction(thunk())),
        Request::Find(RecordKey::Provider(value().digest())),
        Request::Bring(RecordKey::Provider(value().digest())),
        Request::Stored(vec![value().digest()]),
        Request::Build,
        Request::Stop,
    ]
}

fn replies() -> [Reply; 7] {
    match Reply::Done {
        Reply::Peers(_)
        | Reply::Status(_)
        | Reply::Whereabouts(_)
        | Reply::Ticket(_)
        | Reply::Tickets(_)
        | Reply::Done
        | Reply::Failed(_) => {}
    }
    [
        Reply::Peers(peers()),
        Reply::Status(Box::new(status())),
        Reply::Whereabouts(whereabouts()),
        Reply::Ticket("ticket".to_owned()),
        Reply::Tickets(vec![TicketInfo {
            ticket: TICKET,
            roles: Roles::WORKER,
            uses_left: 1,
            expires_s: 2,
            redeemed: vec!["lab".to_owned()],
        }]),
        Reply::Done,
        Reply::Failed("reason".to_owned()),
    ]
}

fn peers() -> Peers {
    let member = MemberInfo {
        peer: PEER,
        name: "lab".to_owned(),
        roles: Roles::WORKER,
        addresses: vec!["/ip4/10.0.0.1".to_owned()],
        is_connected: true,
        round_trip_us: Some(1),
        met_s: 2,
        seen_s: 3,
    };
    Peers {
        mesh: MeshId([1; 32]),
        own: PEER,
        name: "desk".to_owned(),
        listening: vec!["/ip4/10.0.0.2".to_owned()],
        members: vec![member],
    }
}

fn status() -> NodeStatus {
    let peer = PeerStatus {
        peer: Some(PEER),
        name: Some("lab".to_owned()),
        works: Some((1, 2)),
        served: Some((3, 4)),
        succeeded: 5,
        failed: 6,
        busy_us: 7,
        speed_permille: 8,
        received_bytes: 9,
        sent_bytes: 10,
        sent_wire_bytes: 11,
        suspicion: Some("it lied".to_owned()),
    };
    NodeStatus {
        own: PEER,
        name: "desk".to_owned(),
        metrics: Some(([127, 0, 0, 1], 1).into()),
        slots: 1,
        given: 2,
        held: Some(Reason::InUse),
        revoked: Some(RevokedBy::Word(PEER)),
        own_cores: 3,
        others_cores: 4,
        policies: PolicyNames::default(),
        builds: 5,
        leases: 6,
        wanted: 7,
        counts: LeaseCounts { leased: 8, speculated: 9, moved: 10, put_back: 11, wasted_us: 12 },
        recalls_waiting: 13,
        recalls_dropped: 14,
        records: RecordCounts { published: 15, refused: 16, kept: 17 },
        peers: vec![peer],
    }
}

fn whereabouts() -> Whereabouts {
    let reduction = Reduction {
        thunk: thunk(),
        outputs: outputs(),
        stdout: value(),
        stderr: value(),
        usage: usage(),
        executor: "local".to_owned(),
        finished_at_s: 4,
    };
    Whereabouts {
        is_here: true,
        providers: vec![(PEER, "lab".to_owned())],
        reduction: Some((Box::new(reduction), PEER)),
    }
}

fn to_node() -> [ToNode; 5] {
    match ToNode::Stop(0) {
        ToNode::Ready { .. }
        | ToNode::Levels(_)
        | ToNode::Stop(_)
        | ToNode::Slots(_)
        | ToNode::Recall(_) => {}
    }
    let level = Level { thunks: 2, us: 3 };
    [
        ToNode::Ready { run: 1, name: thunk(), thunk: b"a thunk".to_vec(), level },
        ToNode::Levels(vec![(1, level)]),
        ToNode::Stop(3),
        ToNode::Slots(4),
        ToNode::Recall(thunk()),
    ]
}

fn to_build() -> Vec<ToBuild> {
    match ToBuild::Load(0, 0) {
        ToBuild::Started(_)
        | ToBuild::Tried(..)
        | ToBuild::Ended(..)
        | ToBuild::News(_)
        | ToBuild::Load(..)
        | ToBuild::Learned(..) => {}
    }
    let excesses = [Excess::Bytes { bytes: 2, bytes_max: 1 }, Excess::Files { files_max: 1 }];
    let ends = [Exit::Code(1), Exit::Signal(2), Exit::TimedOut, Exit::OutOfMemory];
    let exits = ends.into_iter().chain(excesses.map(Exit::TooLarge));
    let outcome = |exit| Outcome {
        exit,
        outputs: outputs(),
        missing: vec!["log".parse().unwrap()],
        stdout: value(),
        stderr: value(),
        usage: usage(),
    };
    let (thunk, at) = (thunk(), Some(PEER));
    let timeline = Timeline { came_us: 1, fetched_us: 2, started_us: 3, ended_us: 4 };
    let trip = Trip { given_us: 5, received_us: 6, settled_us: 7, timeline };
    let news = [
        News::Ran { thunk, at: None, busy_us: 1, trip: None },
        News::Ran { thunk, at, busy_us: 1, trip: Some(trip) },
        News::PutBack { thunk, at, reason: "reason".to_owned() },
        News::Speculated(thunk),
        News::Wasted(thunk, 2),
        News::Checked(thunk),
    ];
    let failures = [FailureClass::Program, FailureClass::Machine];
    let failures = failures.map(|class| ToBuild::Ended(1, Err((class, "reason".to_owned()))));
    let tried = exits.map(|exit| ToBuild::Tried(thunk, Ok(outcome(exit))));
    let mut all = vec![
        ToBuild::Started(thunk),
        ToBuild::Tried(thunk, Err("reason".to_owned())),
        ToBuild::Ended(2, Ok(outputs())),
        ToBuild::Load(1, 2),
        ToBuild::Learned(thunk, outputs(), at),
    ];
    all.extend(tried.into_iter().chain(failures).chain(news.map(ToBuild::News)));
    all
}

fn list<T: Serialize>(format: Format, messages: impl IntoIterator<Item = T>) -> String {
    let mut lines = format!("{}\n", format.magic.escape_ascii());
    for message in messages {
        for byte in codec::encode(format, &message).unwrap().split_off(format.magic.len()) {
            let _ = write!(lines, "{byte:02x}");
        }
        lines.push('\n');
    }
    lines
}

#[test]
fn messages_look_as_their_version_says() {
    let all = [
        list(REQUEST, requests()),
        list(REPLY, replies()),
        list(TO_NODE, to_node()),
        list(TO_BUILD, to_build()),
    ];
    insta::assert_snapshot!(format!("version_{VERSION}"), all.concat());
}

#[test]
fn the_longest_list_of_names_fits_a_request() {
    let longest = mesh_protocol::name::Digest { sha256: [255; 32], length: u64::MAX };
    let request = Request::Stored(vec![longest; limits::STORED_NAMES]);
    assert_eq!(
        parse::<Request>(REQUEST, &codec::encode(REQUEST, &request).unwrap()).unwrap(),
        request
    );
}

/// Answers one question with these bytes, if any.
fn node_that_answers(home: &Path, answer: Option<Vec<u8>>) -> std::thread::JoinHandle<()> {
    let listener = std::os::unix::net::UnixListener::bind(socket(home)).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let asked = (&stream).take(u32::from_le_bytes(length).into());
        io::copy(&mut { asked }, &mut io::sink()).unwrap();
        stream.write_all(&answer.unwrap_or_default()).unwrap();
    })
}

#[test]
fn a_node_of_another_version_is_known_by_its_answer_or_its_silence() {
    let other = Format { magic: *b"\x89MREPLY\x01", ..REPLY };
    let home = tempfile::tempdir().unwrap();
    let node = node_that_answers(home.path(), Some(frame(other, &Reply::Done).unwrap()));
    assert!(matches!(ask(home.path(), &Request::Status), Err(AskError::Version)));
    node.join().unwrap();
    std::fs::remove_file(socket(home.path())).unwrap();
    let node = node_that_answers(home.path(), None);
    assert!(matches!(ask(home.path(), &Request::Status), Err(AskError::Silent)));
    node.join().unwrap();
    // A child that another test starts may have the listener as well, until it executes its program: whoever
    // asks then is cut off.
    let is_gone = || matches!(ask(home.path(), &Request::Status), Ok(None));
    assert!((0..1_000).any(|_| is_gone()), "it is gone");
}
