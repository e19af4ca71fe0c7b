//! Peers that break the rules, against nodes that run: nobody crashes, memory is bounded, and the
//! others go on as if nothing had been.

mod liar;
mod peer;
mod thunks;

use std::collections::BTreeSet;
use std::future::Future;
use std::task::Poll;

use libp2p::futures::{AsyncWriteExt, future::join_all};
use libp2p::identity::Keypair;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::Platform;
use mesh_protocol::wire::admission::{FromDialer, MeshId};
use mesh_protocol::wire::claim::{CLAIM_FORMAT, Capabilities, FromWorker, Open, Window};
use mesh_protocol::wire::transfer::{WANT_FORMAT, Want, WantedRange};
use mesh_tests::{Members, PATIENCE, Project, Random, With, name};
use tokio::sync::mpsc;

use self::liar::{Liar, Lie};
use self::peer::{Knowledge, ask_for, hear, rest, say, say_frame};

/// What a node may need more than before, in bytes: what limits allow for the connections that are
/// open, and what an allocator keeps.
const SLACK_BYTES: u64 = 48 << 20;

/// What the protocols of members are called.
const SERVICES: [&str; 4] = ["claim", "transfer", "records", "roster"];

fn run(attack: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, attack).await });
    ended.expect("the node neither answers nor closes");
}

/// Two members, of which the first is attacked; a third joins afterwards, and all see each other.
fn withstand<F: Future<Output = ()>>(attack: impl FnOnce(Knowledge) -> F) {
    let mut members = Members::on_loopback(2);
    let before = members.node(0).usage().resident_bytes_max;
    run(attack(Knowledge::of(&members)));
    assert_eq!(members.node(0).has_ended(), None);
    let more = members.node(0).usage().resident_bytes_max.saturating_sub(before);
    eprintln!("it needed {} KiB more than {} KiB", more >> 10, before >> 10);
    assert!(more <= SLACK_BYTES, "{more} bytes more");
    assert!(members.connected_to(0).contains(&1));
    members.admit_another();
    for number in 0..3 {
        let others: Vec<usize> = (0..3).filter(|other| *other != number).collect();
        members.wait_until(number, "the members to see each other", |members| {
            let seen = members.connected_to(number);
            others.iter().all(|other| seen.contains(other))
        });
    }
}

fn noise(random: &mut Random, length: u64) -> Vec<u8> {
    (0..length).map(|_| random.below(256) as u8).collect()
}

#[test]
fn bytes_from_strangers() {
    withstand(async |victim: Knowledge| {
        let mut random = Random::new();
        for _ in 0..200 {
            let length = random.below(5000);
            let mut socket = victim.dial().await;
            // Closed in the middle, as it likes.
            let _ = socket.write_all(&noise(&mut random, length)).await;
            let _ = socket.close().await;
            assert_eq!(rest(socket).await, b"", "it answers who has not knocked");
        }
    });
}

#[test]
fn strangers_that_say_nothing() {
    withstand(async |victim: Knowledge| {
        // More than there is room for; each waits until the node has had enough.
        let count = 2 * limits::ADMISSIONS_PER_ADDRESS;
        let silent = join_all((0..count).map(|_| victim.dial())).await;
        for answer in join_all(silent.into_iter().map(rest)).await {
            assert_eq!(answer, b"");
        }
    });
}

#[test]
fn certificates_that_are_none() {
    withstand(async |victim: Knowledge| {
        let keypair = Keypair::generate_ed25519();
        let shown = |certificate| FromDialer::Certificate(Box::new(certificate)).encode().unwrap();
        let good = shown(victim.certificate(&keypair, |_| ()));
        let mut cases = vec![
            ("of nobody", Vec::new()),
            ("truncated", good[..good.len() / 2].to_vec()),
            ("with more after it", [good.as_slice(), b"more"].concat()),
            ("expired", shown(victim.certificate(&keypair, |grant| grant.expires_s = 1))),
            ("of another mesh", shown(victim.certificate(&keypair, |g| g.mesh = MeshId([9; 32])))),
            ("of another peer", shown(victim.certificate(&Keypair::generate_ed25519(), |_| ()))),
            ("from the future", shown(victim.certificate(&keypair, |g| g.issued_s = u64::MAX / 2))),
        ];
        let mut forged = victim.certificate(&keypair, |_| ());
        forged.member.signature[0][7] ^= 1;
        cases.push(("forged", shown(forged)));
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1 << (at % 8);
            cases.push(("damaged", damaged));
        }
        for (what, message) in cases {
            let mut io = victim.secure(&keypair).await.unwrap();
            hear(&mut io).await.unwrap();
            say(&mut io, &message).await.unwrap();
            // An end of an expired certificate is told; nobody is let in.
            let answer = rest(io).await;
            assert!(answer.len() < 64, "{what}: {} bytes", answer.len());
        }
        // The same key with the good one is let in, so it was not for anything else.
        let mut io = victim.secure(&keypair).await.unwrap();
        hear(&mut io).await.unwrap();
        say(&mut io, &good).await.unwrap();
        assert!(hear(&mut io).await.unwrap().len() > 64);
    });
}

#[test]
fn admission_cut_short_or_too_long() {
    withstand(async |victim: Knowledge| {
        let keypair = Keypair::generate_ed25519();
        for length in [0, 1, limits::ADMISSION_BYTES as u16, u16::MAX] {
            let mut io = victim.secure(&keypair).await.unwrap();
            hear(&mut io).await.unwrap();
            // It may be closed while we go on.
            let _ = say_frame(&mut io, length, &[7; 60_000]).await;
            assert_eq!(rest(io).await, b"");
            let mut io = victim.secure(&keypair).await.unwrap();
            hear(&mut io).await.unwrap();
            say_frame(&mut io, length, b"").await.unwrap();
            io.close().await.unwrap();
            assert_eq!(rest(io).await, b"");
        }
    });
}

#[test]
fn a_member_that_speaks_no_yamux() {
    withstand(async |victim: Knowledge| {
        let mut random = Random::new();
        for _ in 0..20 {
            let mut io = victim.enter().await.unwrap();
            let bytes = noise(&mut random, 100_000);
            let _ = io.write_all(&bytes).await;
            let _ = io.flush().await;
            rest(io).await;
        }
    });
}

#[test]
fn a_member_that_talks_garbage() {
    withstand(async |victim: Knowledge| {
        let mut random = Random::new();
        for service in SERVICES {
            let mut streams = victim.streams().await.unwrap();
            let protocol = format!("/mesh/{}/{service}/1", victim.mesh);
            for length in [0, 1, 100, 4096, 1 << 22, u32::MAX] {
                for said in [0, 3, 1000, 300_000] {
                    let mut stream = streams.recv().await.unwrap();
                    ask_for(&mut stream, &protocol).await.unwrap();
                    let bytes = [&length.to_le_bytes()[..], &noise(&mut random, said)].concat();
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.close().await;
                    rest(stream).await;
                }
            }
            // And what is no protocol at all.
            for _ in 0..20 {
                let mut stream = streams.recv().await.unwrap();
                let _ = stream.write_all(&noise(&mut random, 500)).await;
                let _ = stream.close().await;
                rest(stream).await;
            }
        }
    });
}

/// A first message as it should be, with its length, of each service that takes one.
fn good_beginnings() -> [(&'static str, Vec<u8>, [u8; 8]); 2] {
    let platform = Platform::host().unwrap();
    let capabilities =
        Capabilities { platform, cores: 1024, memory_mib: u64::MAX, speed_permille: u32::MAX };
    let window = Window { slots: 1024, prefetch: 0 };
    let open = FromWorker::Open(Open { capabilities, window, holds: BTreeSet::new() });
    let unheard_of = |number: u32| WantedRange::whole(ValueName::of(&number.to_le_bytes()));
    let want = Want { items: (0..limits::TRANSFER_WANTS as u32).map(unheard_of).collect() };
    let framed = |bytes: Vec<u8>| [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
    [
        ("claim", framed(open.encode().unwrap()), CLAIM_FORMAT.magic),
        ("transfer", framed(want.encode().unwrap()), WANT_FORMAT.magic),
    ]
}

#[test]
fn a_member_that_begins_well() {
    withstand(async |victim: Knowledge| {
        let mut random = Random::new();
        for (service, beginning, magic) in good_beginnings() {
            let mut streams = victim.streams().await.unwrap();
            let protocol = format!("/mesh/{}/{service}/1", victim.mesh);
            for round in 0..60 {
                let mut stream = streams.recv().await.unwrap();
                ask_for(&mut stream, &protocol).await.unwrap();
                stream.write_all(&beginning).await.unwrap();
                let garbage = noise(&mut random, 2000);
                let length = [8 + 2000, 1 << 22, 9, u32::MAX][round % 4];
                let bytes = [&u32::to_le_bytes(length)[..], &magic, &garbage].concat();
                let _ = stream.write_all(&bytes).await;
                let _ = stream.close().await;
                rest(stream).await;
            }
        }
        // Asked again and again, and never heard: it must not wait for us with all that it says.
        let [_, (service, beginning, _)] = good_beginnings();
        let mut streams = victim.streams().await.unwrap();
        for _ in 0..limits::TRANSFER_SERVED_PER_PEER {
            let mut stream = streams.recv().await.unwrap();
            ask_for(&mut stream, &format!("/mesh/{}/{service}/1", victim.mesh)).await.unwrap();
            let asking = async { while stream.write_all(&beginning).await.is_ok() {} };
            // As much as the window of the stream takes.
            let _ = poll_some(asking, 10_000).await;
        }
    });
}

/// Lets a future go on until it has waited so many times.
async fn poll_some<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
        if let Poll::Ready(value) = polled.await {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[test]
fn a_member_that_opens_streams_without_end() {
    withstand(async |victim: Knowledge| {
        for service in SERVICES {
            let mut streams = victim.streams().await.unwrap();
            let protocol = format!("/mesh/{}/{service}/1", victim.mesh);
            let mut open = Vec::new();
            // Until the node closes the connection, or our own end has had enough.
            while let Some(mut stream) = streams.recv().await
                && ask_for(&mut stream, &protocol).await.is_ok()
            {
                open.push(stream);
            }
            eprintln!("{service}: {} streams", open.len());
        }
    });
}

/// Workers that lie about what they ran, among an honest one.
#[test]
fn liars_are_not_believed() {
    let Some(project) = Project::source("lua5.4") else { return };
    let plain = project.build(With::Plain, "make linux").ok();
    let members = Members::on_loopback(2);
    let uses = Lie::PLAIN.len().to_string();
    let ticket = members.home(0).ok(["invite", "--role", "worker", "--uses", &uses]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (leased, mut leases) = mpsc::channel(1024);
    for lie in Lie::PLAIN {
        let liar = runtime.block_on(Liar::join(&ticket, lie, leased.clone()));
        runtime.spawn(liar.work());
    }
    project.reset();
    let built = project.build(With::Elsewhere(members.home(0)), "make linux").ok();
    plain.snapshot.differences(&built.snapshot, &[]).assert_none("among liars");
    let mut lied: Vec<Lie> = Vec::new();
    while let Ok(lie) = leases.try_recv() {
        lied.push(lie);
    }
    eprintln!("{lied:?}\n{}\n{}", built.finished.stderr, built.report().json);
    let seen = members.seen_by(0);
    let honest = seen.iter().find(|seen| seen.name == name(1)).unwrap();
    assert!(honest.json["suspicion"].is_null(), "{}", honest.json);
    for lie in Lie::PLAIN {
        let count = lied.iter().filter(|one| **one == lie).count();
        assert!(count > 0, "{lie:?} was not believed, for it never was asked");
        assert!(count < 8, "{lie:?} was asked again and again: {count} times");
        // Outputs that cannot be had may have been lost in good faith.
        if lie != Lie::Nothing {
            let liar = seen.iter().find(|seen| seen.name == lie.name()).unwrap();
            let suspicion = liar.json["suspicion"].as_str().unwrap_or_default();
            assert!(suspicion.contains("lied"), "{}", liar.json);
        }
    }
}

/// Well-formed, signed and there: who checks results finds out, and nobody else.
#[test]
fn false_outputs_are_found_out() {
    let Some(project) = Project::source("lua5.4") else { return };
    let plain = project.build(With::Plain, "make linux").ok();
    let mut members = Members::on_loopback(2);
    members.take(0).interrupt();
    members.pass(&["--check", "100"]);
    members.start(0);
    members.wait_until_all_connected();
    let ticket = members.home(0).ok(["invite", "--role", "worker"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (leased, mut leases) = mpsc::channel(1024);
    let liar = runtime.block_on(Liar::join(&ticket, Lie::Outputs, leased));
    runtime.spawn(liar.work());
    project.reset();
    let built = project.build(With::Elsewhere(members.home(0)), "make linux").ok();
    plain.snapshot.differences(&built.snapshot, &[]).assert_none("with false outputs");
    assert!(leases.try_recv().is_ok(), "it was never asked");
    assert_ne!(built.report().json["checked"], 0);
    let seen = members.seen_by(0);
    let of = |name: &str| seen.iter().find(|seen| seen.name == name).unwrap();
    let suspicion = of(&Lie::Outputs.name()).json["suspicion"].to_string();
    assert!(suspicion.contains("other outputs than its own"), "{suspicion}");
    assert!(of(&name(1)).json["suspicion"].is_null(), "{}", of(&name(1)).json);
}
