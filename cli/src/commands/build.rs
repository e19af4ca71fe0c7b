//! `mesh make`, `mesh build`, `mesh infer`

use std::ffi::OsString;
use std::path::Path;

use mesh_node::api::PeerStatus;
use mesh_protocol::peer::PeerId;

use super::node_status;
use crate::args::{BuildArgs, InferArgs, MakeArgs};
use crate::build::{self, BuildOptions, Mode};
use crate::config::{BuildFlags, BuildSettings, Config};
use crate::error::CliError;
use crate::forcing::Where;
use crate::ui::report::{Ahead, Peer, Report};
use crate::ui::{Console, Summary, Verbosity};
use crate::{exit, home};

/// Files that tell about the build.
#[derive(Clone, Copy, Default)]
struct Records<'a> {
    report: Option<&'a Path>,
    trace: Option<&'a Path>,
}

impl Records<'_> {
    /// A build may take hours: what it is to leave behind must have a place from the beginning.
    fn check(&self) -> Result<(), CliError> {
        for path in self.report.iter().chain(&self.trace) {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.unwrap_or(Path::new("."));
            let found = std::fs::metadata(directory).map_err(CliError::io(directory))?;
            if !found.is_dir() || path.is_dir() {
                let text = format!("{} cannot be written", path.display());
                return Err(CliError::new(exit::USAGE, text).hint("name a file in a directory"));
            }
        }
        Ok(())
    }
}

pub(crate) fn make(args: &MakeArgs) -> Result<u8, CliError> {
    let command = std::iter::once("make".into()).chain(args.arguments.iter().cloned()).collect();
    let settings = BuildSettings::of(&Config::of_home()?, BuildFlags::default());
    run(&options(command, &settings), Records::default(), verbosity(&settings))
}

pub(crate) fn build(args: &BuildArgs) -> Result<u8, CliError> {
    let targets = Some(&args.targets_only).filter(|targets| !targets.is_empty());
    let settings = BuildSettings::of(&Config::of_home()?, args.into());
    let default = options(args.command.clone(), &settings);
    let mode = if targets.is_some() { Mode::OnUse } else { default.mode };
    let options = BuildOptions { targets: targets.cloned(), mode, ..default };
    let records = Records { report: args.report.as_deref(), trace: args.trace.as_deref() };
    run(&options, records, verbosity(&settings))
}

pub(crate) fn infer(args: &InferArgs) -> Result<u8, CliError> {
    let settings = BuildSettings::of(&Config::of_home()?, args.into());
    let default = options(args.command.clone(), &settings);
    let options = BuildOptions { targets: Some(Vec::new()), mode: Mode::OnUse, ..default };
    run(&options, Records::default(), verbosity(&settings))
}

fn verbosity(settings: &BuildSettings) -> Verbosity {
    if settings.quiet.value { Verbosity::Quiet } else { Verbosity::Normal }
}

fn options(command: Vec<OsString>, settings: &BuildSettings) -> BuildOptions {
    BuildOptions {
        command,
        mode: if settings.eager.value { Mode::Eager } else { Mode::Lazy },
        targets: None,
        at: Where::of(settings),
        bind: settings.bind.value,
        sandbox: settings.sandbox(),
    }
}

fn run(options: &BuildOptions, records: Records<'_>, verbosity: Verbosity) -> Result<u8, CliError> {
    records.check()?;
    let console = Console::new(verbosity);
    if records.trace.is_some() {
        console.record(options.at.slots);
    }
    let before = records.report.map(|_| standing(options));
    // A build that worked works without a store as well.
    let store = build::check_limits().and_then(|()| home::open_store());
    let ended = match &store {
        Ok(store) => build::run(options, &home::directory()?, store, &console),
        Err(error) => build::run_plain(options, &console, error),
    };
    let summary = console.finish();
    let trace = console.take_trace(store.as_ref().ok());
    // Threads of the build may be about still, on their way out.
    let is_interrupted = ended.as_ref().is_ok_and(|ended| ended.signal.is_some());
    let closed = match &store {
        Ok(store) if is_interrupted => {
            store.leave();
            Ok(())
        }
        Ok(store) => store.close(),
        Err(_) => Ok(()),
    };
    let ended = ended?;
    console.note(&summary);
    if let (Some(path), Some(before)) = (records.report, before) {
        let peers = peers(&summary, &before, &standing(options));
        let ahead = Ahead { taken_back: ended.taken_back, ended_because: ended.closed };
        Report::new(&summary, peers, ended.infer, ended.bytes, ahead).write(path)?;
    }
    if let (Some(path), Some(trace)) = (records.trace, trace) {
        trace.write(path)?;
    }
    closed?;
    if let Some(signal) = ended.signal {
        build::end_by(signal);
    }
    Ok(ended.code)
}

/// What there is to say about peers. A node that cannot be asked has nothing to say.
fn standing(options: &BuildOptions) -> Vec<PeerStatus> {
    let status = if options.at.mesh { node_status() } else { Ok(None) };
    status.ok().flatten().map_or_else(Vec::new, |status| status.peers)
}

/// Who ran something of a build, with what went to and fro meanwhile.
fn peers(summary: &Summary, before: &[PeerStatus], after: &[PeerStatus]) -> Vec<Peer> {
    let traffic = |status: &[PeerStatus], at: PeerId| {
        let known = status.iter().find(|known| known.peer == Some(at));
        known.map_or((0, 0), |known| (known.sent_bytes, known.received_bytes))
    };
    let shares = summary.shares.iter().map(|(at, share)| {
        let known = after.iter().find(|known| at.is_some() && known.peer == *at);
        let (then, now) =
            at.map_or_else(Default::default, |at| (traffic(before, at), traffic(after, at)));
        Peer {
            peer: at.map(|at| at.to_string()),
            name: known.and_then(|known| known.name.clone()),
            executed: share.executed,
            busy_ms: share.busy_us / 1000,
            bytes_in: now.0.saturating_sub(then.0),
            bytes_out: now.1.saturating_sub(then.1),
        }
    });
    shares.collect()
}
