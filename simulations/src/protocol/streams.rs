//! Claim streams: what one end says, the other hears, in order and without loss.

use std::collections::VecDeque;

use mesh_protocol::peer::StreamId;
use mesh_protocol::sched::{claim, lease};
use mesh_protocol::wire::claim::{FromRequester, FromWorker, Open};

use super::ClaimProtocol;
use super::node::peer;
use super::world::{Event, World};
use crate::platform::HostId;

/// What is said on one.
pub(super) enum Message {
    Opened(Open),
    FromWorker(FromWorker),
    FromRequester(FromRequester),
    Closed,
}

/// Who is at an end of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Worker,
    Requester,
}

/// A claim stream.
pub(super) struct Link {
    pub(super) worker: (HostId, u32, StreamId),
    requester: (HostId, u32, StreamId),
    open: [bool; 2],
    queue: [VecDeque<Message>; 2],
}

impl Link {
    /// Its host, that host's life, and what it calls the stream.
    pub(super) fn at(&self, end: End) -> (HostId, u32, StreamId) {
        match end {
            End::Worker => self.worker,
            End::Requester => self.requester,
        }
    }

    /// The worker's end broke with the worker, which the other end hears after all that is on its way.
    pub(super) fn break_off(&mut self) {
        self.open[End::Worker as usize] = false;
        self.queue[End::Requester as usize].push_back(Message::Closed);
    }
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Worker => Self::Requester,
            Self::Requester => Self::Worker,
        }
    }
}

impl World<'_> {
    pub(super) fn open(&mut self, worker: HostId, stream: StreamId, requester: HostId, open: Open) {
        let Some(node) = self.node(requester) else {
            return self.drive(worker, |node, now, wishes| {
                node.claim(now, claim::Input::Closed(stream), wishes);
            });
        };
        let served = StreamId(node.next_served);
        node.next_served += 1;
        let link = Link {
            worker: (worker, self.lives[worker.index()], stream),
            requester: (requester, self.lives[requester.index()], served),
            open: [true; 2],
            queue: Default::default(),
        };
        let number = match self.free_links.pop() {
            Some(number) => {
                self.links[number as usize] = link;
                number
            }
            None => {
                self.links.push(link);
                (self.links.len() - 1) as u32
            }
        };
        if let Some(node) = self.node(worker) {
            node.claimed.insert(stream, number);
        }
        if let Some(node) = self.node(requester) {
            node.served.insert(served, number);
        }
        if self.policies.claims == ClaimProtocol::Central {
            self.totals.messages += 1;
            return self.hear(requester, served, End::Requester, Message::Opened(open));
        }
        self.send(Some(number), End::Requester, Message::Opened(open));
    }

    pub(super) fn send(&mut self, link: Option<u32>, to: End, message: Message) {
        let Some(link) = link else { return };
        self.totals.messages += 1;
        self.apply(Event::Say(link, to, Box::new(message)));
    }

    /// Sends what its host has had the time to say, if it is still there.
    pub(super) fn on_said(&mut self, link: u32, to: End, message: Message) {
        let state = &mut self.links[link as usize];
        let (host, life, _) = state.at(to.other());
        if self.lives[host.index()] != life {
            return;
        }
        state.queue[to as usize].push_back(message);
        let at = self.queue.now() + self.setup.platform.control;
        self.queue.schedule(at, Event::On(link, to));
    }

    /// One end closes; the other hears of it after what was said before.
    pub(super) fn close(&mut self, link: Option<u32>, by: End) {
        let Some(link) = link else { return };
        self.links[link as usize].open[by as usize] = false;
        self.send(Some(link), by.other(), Message::Closed);
    }

    pub(super) fn on_message(&mut self, link: u32, end: End) {
        let state = &mut self.links[link as usize];
        let Some(message) = state.queue[end as usize].pop_front() else { return };
        let (host, life, stream) = state.at(end);
        let is_there = state.open[end as usize] && self.lives[host.index()] == life;
        let is_last = matches!(message, Message::Closed);
        if is_there {
            self.hear(host, stream, end, message);
        }
        if is_last {
            let state = &mut self.links[link as usize];
            state.open[end as usize] = false;
            if state.open == [false; 2] && state.queue.iter().all(VecDeque::is_empty) {
                self.free_links.push(link);
            }
        }
    }

    fn hear(&mut self, host: HostId, stream: StreamId, end: End, message: Message) {
        match message {
            Message::Opened(open) => {
                let worker = self.node(host).and_then(|node| node.served.get(&stream).copied());
                let Some(link) = worker else { return };
                let peer = peer(self.links[link as usize].worker.0);
                let input = lease::Input::Opened(stream, peer, open);
                self.drive(host, |node, now, wishes| node.lease(now, input, wishes));
            }
            Message::FromWorker(message) => {
                let input = lease::Input::Received(stream, message);
                self.drive(host, |node, now, wishes| node.lease(now, input, wishes));
            }
            Message::FromRequester(message) => {
                let input = claim::Input::Received(stream, message);
                self.drive(host, |node, now, wishes| node.claim(now, input, wishes));
            }
            Message::Closed if end == End::Worker => {
                self.drive(host, |node, now, wishes| {
                    node.claimed.remove(&stream);
                    node.claim(now, claim::Input::Closed(stream), wishes);
                });
            }
            Message::Closed => self.drive(host, |node, now, wishes| {
                node.served.remove(&stream);
                node.lease(now, lease::Input::Closed(stream), wishes);
            }),
        }
    }
}
