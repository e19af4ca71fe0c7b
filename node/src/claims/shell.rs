//! The one task: picks what happened, tells a machine, carries out what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::audit::Audits;
use mesh_protocol::sched::lease::Leases;
use mesh_protocol::sched::member::{self, Effect, Member, Settings, Share};
use mesh_protocol::sched::{claim, lease};
use mesh_protocol::time::Time;
use mesh_protocol::wire::offer::Offer;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::client::{ClientId, FromMesh, ToMesh};
use super::job::Workshop;
use super::line::Lines;
use super::recalls::Recalls;
use super::requester::Requester;
use super::tasks::Tasks;
use super::worker::{Done, Worker};
use super::{MeshParts, Message, Status};
use crate::deadline::sleep_until;
use crate::driver::Load;
use crate::net::{NetworkEvent, Service, Topic};

pub(super) struct Shell {
    start: Instant,
    pub(super) workshop: Workshop,
    pub(super) lines: Lines,
    pub(super) watcher: Box<dyn FnMut(lease::Event) + Send>,
    pub(super) member: Member,
    /// Whose results are checked here, and who was found out to lie.
    pub(super) audits: Audits,
    pub(super) check_turns: Arc<Semaphore>,
    pub(super) liars: Vec<PeerId>,
    pub(super) requester: Requester,
    pub(super) worker: Worker,
    pub(super) tasks: Tasks,
    /// Cores that may be kept busy, and how many of them by others' work.
    slots: u32,
    given: u32,
    /// What the machine was told of them.
    share: Share,
    members: BTreeSet<PeerId>,
    clients: BTreeMap<ClientId, (mpsc::Sender<FromMesh>, u32)>,
    load: watch::Sender<Load>,
    offers_pending: usize,
    pub(super) recalls: Recalls,
    drains: Vec<oneshot::Sender<()>>,
}

impl Shell {
    pub(super) fn new(
        parts: MeshParts,
        inbox: mpsc::WeakSender<Message>,
        load: watch::Sender<Load>,
    ) -> Self {
        let MeshParts { store, engine, network, transfers, records, signer, verifier, .. } = parts;
        let own = network.own();
        // Higher than any number of an earlier run of this node.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let first_offer = u64::try_from(since.as_micros()).unwrap_or(0);
        let settings = Settings::of(parts.capabilities, parts.seed);
        Self {
            start: Instant::now(),
            lines: Lines {
                store: store.clone(),
                network,
                verifier,
                transfers: transfers.clone(),
                inbox,
            },
            workshop: Workshop { store, engine, transfers, records, signer, own },
            watcher: parts.watcher,
            member: Member::new(&settings, parts.policy, first_offer),
            audits: Audits::new(parts.check_permille, parts.seed),
            check_turns: Arc::new(Semaphore::new(parts.slots.max(1) as usize)),
            liars: Vec::new(),
            requester: Requester::default(),
            worker: Worker::default(),
            tasks: Tasks::default(),
            slots: parts.slots,
            given: parts.slots,
            share: Share::of(0),
            members: BTreeSet::new(),
            clients: BTreeMap::new(),
            load,
            offers_pending: 0,
            recalls: Recalls::default(),
            drains: Vec::new(),
        }
    }

    pub(super) async fn serve(mut self, mut inbox: mpsc::Receiver<Message>) {
        self.settle();
        loop {
            let due = sleep_until(self.next_deadline());
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return,
                },
                done = self.tasks.next() => self.on_done(done),
                () = due => self.on_due(),
            }
            self.settle();
            self.tell_clients().await;
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_us(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let next = self.member.next_deadline()?;
        Some(self.start + Duration::from_micros(next.us()))
    }

    fn on_due(&mut self) {
        let mut effects = Vec::new();
        self.member.handle_timeout(self.now(), &mut effects);
        self.carry_out(effects);
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Network(event) => self.on_network(event),
            Message::Opened(stream, peer, open) => {
                self.lease(lease::Input::Opened(stream, peer, open));
            }
            Message::FromWorker(stream, message) => self.on_worker(stream, message),
            Message::ServedClosed(stream) => self.on_served_closed(stream),
            Message::FromRequester(stream, message) => {
                self.claim(claim::Input::Received(stream, message));
            }
            Message::ClaimClosed(stream) => self.on_claim_closed(stream),
            Message::Join(client, sender) => {
                self.clients.insert(client, (sender, 0));
            }
            Message::Client(client, message) => self.on_client(client, message),
            Message::Slots(slots) => self.slots = slots,
            Message::Give(slots) => self.given = slots,
            Message::Drain(drained) => self.on_drain(drained),
            Message::Watch(watcher) => self.worker.watchers.push(watcher),
            Message::Status(sender) => {
                // Whoever asked may have gone.
                let _ = sender.send(self.status());
            }
        }
    }

    fn on_network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Incoming { peer, service: Service::Claim, stream } => {
                self.on_incoming(peer, stream);
            }
            NetworkEvent::Gossip { from, topic: Topic::Offers, message } => {
                self.on_gossip(from, &message);
            }
            NetworkEvent::Connected(peer) => {
                self.members.insert(peer);
                self.lease(lease::Input::Others(true));
                self.tell(member::Input::Joined);
            }
            NetworkEvent::Disconnected(peer) => {
                self.members.remove(&peer);
                self.lease(lease::Input::Others(self.has_others()));
            }
            NetworkEvent::Incoming { .. } | NetworkEvent::Gossip { .. } => {}
        }
    }

    /// Looks which of the offered trees are here, away from this task.
    fn on_gossip(&mut self, from: PeerId, message: &[u8]) {
        let offer = match Offer::decode(message) {
            Ok(offer) => offer,
            Err(error) => return tracing::debug!(peer = %from, %error, "an offer is malformed"),
        };
        if from == self.workshop.own || self.offers_pending >= limits::OFFERS_PENDING {
            return;
        }
        self.offers_pending += 1;
        let store = self.workshop.store.clone();
        let unseen = Done::Looked(from, offer.clone(), BTreeSet::new());
        self.tasks.spawn_blocking(unseen, move || {
            let held: BTreeSet<ValueName> =
                offer.trees.iter().copied().filter(|tree| store.contains_tree(*tree)).collect();
            Done::Looked(from, offer, held)
        });
    }

    pub(super) fn on_looked(&mut self, peer: PeerId, offer: Offer, held: BTreeSet<ValueName>) {
        self.offers_pending -= 1;
        self.on_offer(peer, offer, held);
    }

    fn on_client(&mut self, client: ClientId, message: ToMesh) {
        match message {
            ToMesh::Ready { run, name, thunk, level } => {
                let run = self.requester.runs.add(client, run, name);
                self.lease(lease::Input::Ready { run, name, thunk, level });
            }
            ToMesh::Levels(levels) => {
                let runs = &self.requester.runs;
                let levels = levels.into_iter();
                let levels =
                    levels.filter_map(|(run, level)| Some((runs.find(client, run)?, level)));
                let levels = levels.collect();
                self.lease(lease::Input::Levels(levels));
            }
            ToMesh::Stop(run) => {
                if let Some(run) = self.requester.runs.stop(client, run) {
                    self.lease(lease::Input::Stop(run));
                }
            }
            ToMesh::Slots(slots) => {
                if let Some((_, own)) = self.clients.get_mut(&client) {
                    *own = slots;
                }
            }
            ToMesh::Recall(name) => self.recall(client, name),
            ToMesh::Leave => self.on_leave(client),
        }
    }

    fn on_leave(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.recalls.leave(client);
        for run in self.requester.runs.leave(client) {
            self.lease(lease::Input::Stop(run));
        }
    }

    fn on_drain(&mut self, drained: oneshot::Sender<()>) {
        self.drains.push(drained);
        self.claim(claim::Input::Drain);
        if self.worker.is_drained {
            self.on_drained();
        }
    }

    pub(super) fn on_drained(&mut self) {
        self.worker.is_drained = true;
        for drained in self.drains.drain(..) {
            let _ = drained.send(());
        }
    }

    /// After anything happened.
    fn settle(&mut self) {
        for liar in std::mem::take(&mut self.liars) {
            self.lease(lease::Input::Lied(liar));
        }
        while let Some(stream) = self.requester.broken.pop() {
            self.lease(lease::Input::Closed(stream));
        }
        while let Some(stream) = self.worker.broken.pop() {
            self.claim(claim::Input::Closed(stream));
        }
        let share = Share { slots: self.slots, given: self.given, own: self.own_slots() };
        if std::mem::replace(&mut self.share, share) != share {
            self.tell(member::Input::Share(share));
        }
        let mut effects = Vec::new();
        let wanted = self.member.settle(self.now(), &mut effects);
        self.carry_out(effects);
        let load = Load { running: self.requester.own_running(), wanted };
        self.load.send_if_modified(|known| std::mem::replace(known, load) != load);
    }

    /// What builds here may keep busy in all.
    fn own_slots(&self) -> u32 {
        self.clients.values().fold(0, |sum, (_, own)| sum.saturating_add(*own))
    }

    pub(super) fn lease(&mut self, input: lease::Input) {
        self.tell(member::Input::Lease(input));
    }

    pub(super) fn claim(&mut self, input: claim::Input) {
        self.tell(member::Input::Claim(input));
    }

    fn tell(&mut self, input: member::Input) {
        let mut effects = Vec::new();
        self.member.handle(self.now(), input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Lease(effect) => self.lease_effect(effect),
                Effect::Claim(effect) => self.claim_effect(effect),
                Effect::Publish(offer) => match offer.encode() {
                    Ok(message) => self.lines.network.publish(Topic::Offers, message),
                    Err(error) => tracing::warn!(%error, "an offer cannot be written"),
                },
            }
        }
    }

    async fn tell_clients(&mut self) {
        for (client, message) in self.requester.runs.take_told() {
            let Some((sender, _)) = self.clients.get(&client) else { continue };
            // Drivers always listen: this waits for a moment at most.
            if sender.send(message).await.is_err() {
                self.on_leave(client);
            }
        }
    }

    /// Is there any other member that could be asked?
    pub(super) fn has_others(&self) -> bool {
        !self.members.is_empty()
    }

    fn status(&self) -> Status {
        let (leases, claims) = (self.member.leases(), self.member.claims());
        Status {
            recalls: self.recalls.counts(),
            counts: leases.map(Leases::counts).unwrap_or_default(),
            leases: leases.map(Leases::load).unwrap_or_default(),
            jobs: claims.load(),
            oldest_job: self.worker.oldest_job(),
            cores: self.member.busy(),
            slots: (self.slots, self.given),
            builds: self.clients.len(),
            serving: claims.serving().collect(),
            workers: leases.into_iter().flat_map(Leases::claimants).collect(),
            ended: self.worker.counts,
            scores: leases
                .into_iter()
                .flat_map(|leases| leases.scores().iter())
                .map(|(peer, score)| (*peer, *score))
                .collect(),
        }
    }
}
