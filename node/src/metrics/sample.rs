//! What is counted, at a moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_protocol::owner::Reason;
use mesh_store::Store;
use tokio::time::Instant;

use crate::claims::Status;
use crate::node::Node;
use crate::transfer::Traffic;

/// Measuring the store looks at each of its objects: no more often than this.
const MEASURE_EVERY: Duration = Duration::from_secs(60);

/// One look at a node.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) start_s: f64,
    pub(super) members: f64,
    pub(super) connected: f64,
    pub(super) suspected: f64,
    pub(super) held: Option<Reason>,
    pub(super) status: Status,
    pub(super) received_bytes: f64,
    pub(super) sent_bytes: f64,
    pub(super) sent_wire_bytes: f64,
    /// Objects, and their bytes; none: not measured yet.
    pub(super) store: Option<(u64, u64)>,
}

/// Looks at a node; clones share what is known of its store.
#[derive(Clone)]
pub(super) struct Sampler {
    node: Node,
    start_s: f64,
    store: Arc<Mutex<Measured>>,
}

#[derive(Default)]
struct Measured {
    last: Option<(u64, u64)>,
    /// When the last measurement began; one that fails is not tried again sooner.
    since: Option<Instant>,
}

impl Sampler {
    pub(super) fn new(node: Node) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { node, start_s: since.as_secs_f64(), store: Arc::default() }
    }

    pub(super) async fn sample(&self) -> Sample {
        let node = &self.node;
        let members = node.swarm().peers().await;
        let traffic = node.transfers().traffic();
        let sum = |count: fn(&Traffic) -> u64| -> u64 {
            traffic.iter().map(|(_, traffic)| count(traffic)).sum()
        };
        let (inline_received, inline_sent) =
            (sum(|of| of.inline_received_bytes), sum(|of| of.inline_sent_bytes));
        Sample {
            start_s: self.start_s,
            members: members.len() as f64,
            connected: members.iter().filter(|member| member.is_connected).count() as f64,
            suspected: node.transfers().suspicions().len() as f64,
            held: node.owner().reason(),
            status: node.mesh().status().await,
            received_bytes: (sum(|of| of.received_bytes) + inline_received) as f64,
            sent_bytes: (sum(|of| of.sent_bytes) + inline_sent) as f64,
            sent_wire_bytes: (sum(|of| of.sent_wire_bytes) + inline_sent) as f64,
            store: self.measure().await,
        }
    }

    /// Whoever comes first after a while waits for the measurement; others get the last one.
    async fn measure(&self) -> Option<(u64, u64)> {
        let is_due = {
            let mut measured = self.measured();
            let is_due = measured.since.is_none_or(|since| since.elapsed() >= MEASURE_EVERY);
            if is_due {
                measured.since = Some(Instant::now());
            }
            is_due
        };
        if is_due {
            let (store, sampler) = (self.node.store().clone(), self.clone());
            // It ends by itself also if nobody waits for it any more.
            let measuring = tokio::task::spawn_blocking(move || sampler.keep(&store));
            let _ = measuring.await;
        }
        self.measured().last
    }

    fn keep(&self, store: &Store) {
        match store.stats() {
            Ok(stats) => {
                self.measured().last = Some((stats.blobs, stats.blob_bytes + stats.derived_bytes));
            }
            Err(error) => tracing::warn!(%error, "the store cannot be measured"),
        }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
