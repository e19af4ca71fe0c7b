//! Which driver wants which run: drivers number their own, the machines need one numbering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_protocol::graph::Outputs;
use mesh_protocol::name::ThunkName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::sched::force::{Failure, RunId};
use mesh_protocol::thunk::Reduction;

use super::client::{ClientId, FromMesh, News};
use crate::exec::{Exit, Outcome};

/// The books, and what drivers are to be told.
#[derive(Default)]
pub(super) struct Runs {
    next: u64,
    wanted: BTreeMap<RunId, Wanted>,
    by_client: BTreeMap<(ClientId, RunId), RunId>,
    by_name: BTreeMap<ThunkName, BTreeSet<RunId>>,
    told: Vec<(ClientId, FromMesh)>,
}

struct Wanted {
    client: ClientId,
    run: RunId,
    name: ThunkName,
    /// Was the driver told that a try began, and not yet that it ended?
    begun: bool,
}

impl Runs {
    /// A number for a driver's run.
    pub(super) fn add(&mut self, client: ClientId, run: RunId, name: ThunkName) -> RunId {
        let id = RunId(self.next);
        self.next += 1;
        self.wanted.insert(id, Wanted { client, run, name, begun: false });
        self.by_client.insert((client, run), id);
        self.by_name.entry(name).or_default().insert(id);
        id
    }

    /// The number of a driver's run.
    pub(super) fn find(&self, client: ClientId, run: RunId) -> Option<RunId> {
        self.by_client.get(&(client, run)).copied()
    }

    /// A driver does not want it any more.
    pub(super) fn stop(&mut self, client: ClientId, run: RunId) -> Option<RunId> {
        let id = self.find(client, run)?;
        self.remove(id)?;
        Some(id)
    }

    /// A driver is gone: all its runs.
    pub(super) fn leave(&mut self, client: ClientId) -> Vec<RunId> {
        let range = (client, RunId(0))..=(client, RunId(u64::MAX));
        let runs: Vec<RunId> = self.by_client.range(range).map(|(_, id)| *id).collect();
        for id in &runs {
            self.remove(*id);
        }
        runs
    }

    /// A try of a thunk began.
    pub(super) fn begun(&mut self, name: ThunkName) {
        for id in self.by_name.get(&name).into_iter().flatten() {
            if let Some(wanted) = self.wanted.get_mut(id)
                && !std::mem::replace(&mut wanted.begun, true)
            {
                self.told.push((wanted.client, FromMesh::Started(name)));
            }
        }
    }

    /// Something for the books of whoever wants that thunk.
    pub(super) fn news(&mut self, thunk: ThunkName, news: &News) {
        self.tell_all(thunk, || FromMesh::News(news.clone()));
    }

    /// A thunk was run before, for somebody else.
    pub(super) fn learned(&mut self, thunk: ThunkName, outputs: &Outputs, by: Option<PeerId>) {
        self.tell_all(thunk, || FromMesh::Learned(thunk, Arc::clone(outputs), by));
    }

    fn tell_all(&mut self, thunk: ThunkName, message: impl Fn() -> FromMesh) {
        let runs = self.by_name.get(&thunk).into_iter().flatten();
        let clients: BTreeSet<ClientId> =
            runs.filter_map(|id| self.wanted.get(id)).map(|wanted| wanted.client).collect();
        self.told.extend(clients.into_iter().map(|id| (id, message())));
    }

    /// A try of a thunk ended.
    pub(super) fn tried(&mut self, name: ThunkName, end: &Result<Outcome, String>) {
        for id in self.by_name.get(&name).into_iter().flatten() {
            if let Some(wanted) = self.wanted.get_mut(id)
                && std::mem::take(&mut wanted.begun)
            {
                self.told.push((wanted.client, FromMesh::Tried(name, end.clone())));
            }
        }
    }

    /// A run has its answer.
    pub(super) fn ended(&mut self, id: RunId, end: Result<Outputs, Failure>) {
        let Some(name) = self.name(id) else { return };
        if let Err(failure) = &end {
            self.tried(name, &Err(failure.reason.to_string()));
        }
        if let Some(wanted) = self.remove(id) {
            self.told.push((wanted.client, FromMesh::Ended(wanted.run, end)));
        }
    }

    pub(super) fn name(&self, id: RunId) -> Option<ThunkName> {
        self.wanted.get(&id).map(|wanted| wanted.name)
    }

    /// Something else for a driver.
    pub(super) fn tell(&mut self, client: ClientId, message: FromMesh) {
        self.told.push((client, message));
    }

    /// What is to be told, in order.
    pub(super) fn take_told(&mut self) -> Vec<(ClientId, FromMesh)> {
        std::mem::take(&mut self.told)
    }

    fn remove(&mut self, id: RunId) -> Option<Wanted> {
        let wanted = self.wanted.remove(&id)?;
        self.by_client.remove(&(wanted.client, wanted.run));
        if let Some(runs) = self.by_name.get_mut(&wanted.name) {
            runs.remove(&id);
            if runs.is_empty() {
                self.by_name.remove(&wanted.name);
            }
        }
        Some(wanted)
    }
}

/// A run elsewhere, as if it had been here.
pub(super) fn outcome(reduction: &Reduction) -> Outcome {
    Outcome {
        exit: Exit::Code(0),
        outputs: reduction.outputs.clone(),
        missing: Vec::new(),
        stdout: reduction.stdout,
        stderr: reduction.stderr,
        usage: reduction.usage,
    }
}
