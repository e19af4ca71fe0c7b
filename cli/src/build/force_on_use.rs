//! Programs of the build that open or execute placeholders wait here until those are files.

use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use mesh_cli::frontend::Inode;
use mesh_protocol::name::OutputRef;
use tokio::runtime::Handle;

use super::binding::Binding;
use super::notify::{Access, Listener, Notification};
use super::pass::Pass;
use super::step::End;

/// Programs that mostly wait for others: they take no slot.
const COORDINATORS: &[&str] = &[
    "sh", "bash", "dash", "ash", "ksh", "zsh", "make", "gmake", "ninja", "samu", "cmake", "env",
    "libtool", "xargs", "nice", "time", "timeout", "mesh",
];

/// Answers the build's calls until no process of it is left. Blocks.
pub(crate) fn serve(listener: Listener, pass: &Arc<Pass>, runtime: &Handle) {
    let listener = Arc::new(listener);
    loop {
        let notification = match listener.next() {
            Ok(Some(notification)) => notification,
            // Without a listener the calls of what is left fail, and the build with them.
            Ok(None) | Err(_) => return,
        };
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(notification.path.as_bytes()));
        let binding = pass.site.binding.as_ref();
        let original = binding.and_then(|binding| binding.original(&path));
        let is_original = original.is_some();
        let path = original.unwrap_or(path);
        let Ok(metadata) = std::fs::metadata(&path) else {
            // It is not there, and the call will say so.
            drop(listener.allow(notification));
            continue;
        };
        let listener = Arc::clone(&listener);
        let call = Use { listener, notification, path, metadata, is_original };
        if let Some(tool) = call.tool(pass) {
            drop(call.listener.give(call.notification, &tool));
            continue;
        }
        match call.needs(pass) {
            None => drop(call.listener.allow(call.notification)),
            Some(need) => drop(runtime.spawn(call.wait(need, Arc::clone(pass)))),
        }
    }
}

/// A program is about to use a file.
struct Use {
    listener: Arc<Listener>,
    notification: Notification,
    path: PathBuf,
    metadata: Metadata,
    /// It is a tool, reached on the way around the interposer.
    is_original: bool,
}

/// What has to happen before it may.
struct Need {
    /// This placeholder has to be a file.
    real: Option<OutputRef>,
    /// It starts a command, or one of those that are not counted.
    starts: Option<Program>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Command,
    Coordinator,
}

impl Use {
    /// The tool, if somebody is about to read the interposer that is bound over it: programs that
    /// copy tools or take their fingerprints mean the tools.
    fn tool(&self, pass: &Pass) -> Option<File> {
        let binding = pass.site.binding.as_ref()?;
        if self.notification.access != Access::Read || self.is_original {
            return None;
        }
        let is_interposer = pass.site.interposer.is(&self.metadata);
        if !is_interposer && !binding.covers(&self.metadata) {
            return None;
        }
        // Through the caller's directory the path leads to what the caller sees there.
        let file = File::open(self.path.canonicalize().ok()?).ok()?;
        let found = file.metadata().ok()?;
        // This process may be allowed more than the caller.
        (binding.covers(&found) && found.mode() & 0o004 != 0).then_some(file)
    }

    /// `None`: nothing; the call can go on at once.
    fn needs(&self, pass: &Pass) -> Option<Need> {
        let access = self.notification.access;
        if !self.metadata.is_file() {
            return None;
        }
        if access == Access::Truncate {
            pass.files.placeholders.abandon(Inode::of(&self.metadata));
        }
        if matches!(access, Access::Truncate | Access::Write) {
            pass.files.stored.forget(&self.metadata);
        }
        let real = match access {
            Access::Truncate => None,
            _ => pass.files.output_at(&self.path, &self.metadata).ok().flatten(),
        };
        let starts = (access == Access::Execute).then(|| self.program(pass));
        (real.is_some() || starts.is_some()).then_some(Need { real, starts })
    }

    fn program(&self, pass: &Pass) -> Program {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_bound = |binding: &Binding| !self.is_original && binding.covers(&self.metadata);
        let is_interposer = pass.site.interposer.is(&self.metadata)
            || pass.site.binding.as_ref().is_some_and(is_bound);
        if is_interposer || COORDINATORS.contains(&name) {
            Program::Coordinator
        } else {
            Program::Command
        }
    }

    async fn wait(self, need: Need, pass: Arc<Pass>) {
        let pid = self.notification.pid;
        if let Some(output) = need.real {
            pass.keeper.waits(pid).await;
            let end = pass.real(&self.path, Inode::of(&self.metadata), output).await;
            pass.keeper.waited(pid).await;
            if end == End::Failed {
                drop(self.listener.terminate(self.notification));
                return;
            }
        }
        match need.starts {
            None => {}
            Some(Program::Coordinator) => pass.keeper.gone(pid).await,
            Some(Program::Command) => {
                let may_go = pass.keeper.command(pid).await;
                if !pass.exits.add(pid) {
                    pass.keeper.gone(pid).await;
                }
                let _ = may_go.await;
            }
        }
        // The caller may have been killed meanwhile.
        drop(self.listener.allow(self.notification));
    }
}
