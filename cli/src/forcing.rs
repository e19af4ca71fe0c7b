//! Where thunks run: on the node of this home, or in this process alone.

use std::path::Path;
use std::sync::Arc;

use mesh_node::api::Session;
use mesh_node::driver::{Driver, Elsewhere, Watcher};
use mesh_node::exec::Engine;
use mesh_node::node::cores;
use mesh_protocol::sched::force::ForcePolicy;
use mesh_store::Store;

use crate::config::BuildSettings;
use crate::ui::Console;

/// What the user wants to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Where {
    /// Cores of this machine.
    pub(crate) slots: u32,
    /// Is the node of this home asked?
    pub(crate) mesh: bool,
    /// Does anything run here, if others can?
    pub(crate) elsewhere: Elsewhere,
}

impl Where {
    /// What the settings `slots` and `local` say.
    pub(crate) fn of(settings: &BuildSettings) -> Self {
        // What runs here after all, and a build's own commands, have the machine.
        let (slots, elsewhere) = match settings.slots.value {
            0 => (cores(), Elsewhere::All),
            slots => (slots, Elsewhere::Rest),
        };
        Self { slots, mesh: !settings.local.value, elsewhere }
    }
}

/// What drivers need.
pub(crate) struct Forcing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) home: &'a Path,
    pub(crate) console: &'a Console,
    pub(crate) at: Where,
}

impl Forcing<'_> {
    /// Starts a driver which keeps `slots` of this machine busy.
    pub(crate) async fn driver(self, policy: ForcePolicy, slots: u32, watcher: Watcher) -> Driver {
        let Self { store, engine, home, console, at } = self;
        let session = if at.mesh { Session::open(home).await } else { Ok(None) };
        match session {
            Ok(Some(session)) => {
                // The driver itself tries here once more what fails elsewhere.
                let (store, elsewhere) = (store.clone(), at.elsewhere);
                Driver::start_in_session(store, session, engine, elsewhere, policy, slots, watcher)
            }
            Ok(None) => Driver::start(store.clone(), engine, policy, slots, watcher),
            Err(error) => {
                console.note(format_args!("the node of this home cannot be used: {error}"));
                Driver::start(store.clone(), engine, policy, slots, watcher)
            }
        }
    }
}
