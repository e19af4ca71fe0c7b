//! Answers the watched calls of a build's processes.
//!
//! A program that uses a placeholder waits until it is a file. While steps are pending, the old
//! state of whatever changes is saved, and what cannot be undone waits until they have finished.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_cli::frontend::Inode;
use mesh_protocol::name::OutputRef;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::binding::Binding;
use super::caller::{RUN_RECIPES, parent_of, status_of};
use super::pass::{Mode, Pass};
use super::slots::Pid;
use super::step::End;
use super::undo::{CannotUndo, UndoLog};
use super::watch::{Call, Change, Listener, Notification, Peer, words};

/// Programs that mostly wait for others: they take no slot.
const COORDINATORS: &[&str] = &[
    "sh", "bash", "dash", "ash", "ksh", "zsh", "make", "gmake", "ninja", "samu", "env", "libtool",
    "xargs", "nice", "time", "timeout", "mesh",
];

/// Words of a command that are looked at for programs.
const NAMES_MAX: usize = 4096;

/// Devices that give nothing and keep nothing: major and minor numbers (Linux, `devices.txt`).
const MEMORY_DEVICES: u32 = 1;
const HARMLESS_MEMORY_DEVICES: &[u32] = &[3, 5, 7, 8, 9];

/// The name service cache, which libc asks for users and groups.
const NAME_SERVICE: &str = "/var/run/nscd/socket";

/// Answers calls until no process of the build is left. Blocks.
pub(crate) fn serve(listener: Listener, pass: &Arc<Pass>, runtime: &Handle) {
    let mut watcher = Watcher {
        shared: Arc::new(Shared {
            listener,
            pass: Arc::clone(pass),
            siblings: Siblings::default(),
        }),
        runtime: runtime.clone(),
        lookers: BTreeSet::new(),
    };
    pass.watched_through(watcher.shared.listener.descriptor());
    loop {
        match watcher.next() {
            Ok(Some(notification)) if pass.is_handed_over() => {
                drop(watcher.shared.listener.allow(&notification));
                return;
            }
            Ok(Some(notification)) => watcher.on_call(notification),
            // Without a listener the calls of what is left fail, and the build with them.
            Ok(None) | Err(_) => return,
        }
    }
}

struct Watcher {
    shared: Arc<Shared>,
    runtime: Handle,
    /// Processes that run one of [`RUN_RECIPES`].
    lookers: BTreeSet<Pid>,
}

struct Shared {
    listener: Listener,
    pass: Arc<Pass>,
    siblings: Siblings,
}

/// What has to happen before a call may go on.
#[derive(Default)]
struct Need {
    /// These placeholders have to be files.
    real: Vec<(PathBuf, Inode, OutputRef)>,
    /// What will be changed.
    save: Option<Save>,
    /// Nothing may be pending any more, because of this.
    settle: Option<String>,
    /// A program starts.
    starts: Option<Program>,
    /// The shell that started it, if not `make` itself.
    shell: Option<Pid>,
    /// Another command of the same shell waits.
    sibling: Option<Pid>,
}

type Save = Box<dyn FnOnce(&UndoLog) -> Result<(), CannotUndo> + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Command,
    Coordinator,
}

impl Watcher {
    /// The next call. Looks matter because the sizes of placeholders are wrong.
    fn next(&self) -> io::Result<Option<Notification>> {
        let placeholders = &self.shared.pass.files.placeholders;
        let matters = |pid| !placeholders.is_empty() && !self.lookers.contains(&pid);
        self.shared.listener.next(matters)
    }

    fn on_call(&mut self, notification: Notification) {
        let pid = notification.pid;
        let need = match &notification.call {
            Call::Open { path, flags } => match self.shared.open(path, *flags) {
                Opened::Needs(need) => need,
                Opened::Tool(file) => {
                    let _ = self.shared.listener.give(&notification, &file);
                    return;
                }
            },
            Call::Execute { path, arguments } => self.execute(pid, path, *arguments),
            Call::Look(path) => self.shared.looked_at(path),
            Call::Change(change) => self.shared.change(change),
            Call::Connect(peer) => self.shared.connect(peer),
            Call::Affect(whom) => self.shared.affect(pid, *whom),
            Call::ReadInput => self.shared.read_input(pid),
            Call::ChangeRoot => Need::settled("another root directory or name space"),
            Call::Final(what) => Need::settled(*what),
        };
        self.meet(need, notification);
    }

    /// Does at once what does not have to wait.
    fn meet(&self, mut need: Need, notification: Notification) {
        let shared = &self.shared;
        if need.real.is_empty() {
            if let Some(save) = need.save.take() {
                need.settle = shared.save(save).or(need.settle);
            }
            if let Some(reason) = need.settle.take_if(|_| !shared.pass.must_wait_to_settle()) {
                shared.pass.close(&reason);
            }
        }
        if need.is_met() {
            // The caller may have been killed meanwhile.
            let _ = shared.listener.allow(&notification);
            return;
        }
        let shared = Arc::clone(shared);
        shared.pass.waiting_calls.send_modify(|count| *count += 1);
        self.runtime.spawn(async move {
            let pass = Arc::clone(&shared.pass);
            shared.wait(need, &notification).await;
            pass.waiting_calls.send_modify(|count| *count -= 1);
        });
    }

    fn execute(&mut self, pid: Pid, path: &Path, arguments: u64) -> Need {
        let pass = &self.shared.pass;
        let (path, is_original) = pass.site.original_of(path);
        let Ok(metadata) = std::fs::metadata(&path) else { return Need::default() };
        if !metadata.is_file() {
            return Need::default();
        }
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match RUN_RECIPES.contains(&name) {
            true => self.lookers.insert(pid),
            false => self.lookers.remove(&pid),
        };
        let is_bound = |binding: &Binding| !is_original && binding.covers(&metadata);
        let is_interposer =
            pass.site.interposer.is(&metadata) || pass.site.binding.as_ref().is_some_and(is_bound);
        let mut need = Need::default();
        need.real.extend(self.shared.placeholder(&path, &metadata));
        let is_coordinator = COORDINATORS.contains(&name)
            || name == "cmake" && words(pid, arguments).iter().any(|word| word == "--build");
        need.starts = Some(match is_interposer || is_coordinator {
            true => Program::Coordinator,
            false => Program::Command,
        });
        if pass.files.placeholders.has_programs() && !is_interposer {
            need.real.extend(self.shared.interpreter(pid, &path));
            if !RUN_RECIPES.contains(&name) {
                need.real.extend(self.shared.named(pid, arguments));
            }
        }
        if !need.real.is_empty() {
            need.shell = parent_of(pid).filter(|parent| !self.lookers.contains(parent));
        }
        need.sibling = self.shared.siblings.waiting_parent_of(pid);
        need
    }
}

enum Opened {
    Needs(Need),
    /// It gets this file.
    Tool(File),
}

impl Shared {
    fn looked_at(&self, path: &Path) -> Need {
        let placeholders = &self.pass.files.placeholders;
        if placeholders.is_empty() {
            return Need::default();
        }
        let Ok(metadata) = std::fs::metadata(path) else { return Need::default() };
        let inode = Inode::of(&metadata);
        let output = placeholders.output(inode);
        let real = output.map(|output| (path.to_owned(), inode, output)).into_iter().collect();
        Need { real, ..Need::default() }
    }

    fn open(&self, path: &Path, flags: u64) -> Opened {
        let pass = &self.pass;
        let has = |flag: i32| flags & flag as u64 == flag as u64;
        if has(libc::O_PATH) {
            // It may ask the descriptor for the size.
            return Opened::Needs(self.looked_at(path));
        }
        let is_reader = flags & libc::O_ACCMODE as u64 == libc::O_RDONLY as u64;
        let is_change = !is_reader || has(libc::O_TRUNC) || has(libc::O_CREAT);
        let (path, is_original) = pass.site.original_of(path);
        let found = std::fs::metadata(&path).ok();
        if !is_change
            && !is_original
            && let Some(file) = found.as_ref().and_then(|found| self.tool(&path, found))
        {
            return Opened::Tool(file);
        }
        let mut need = Need::default();
        match &found {
            Some(found) if found.is_file() => {
                need.real.extend(self.placeholder(&path, found));
                if !is_reader || has(libc::O_TRUNC) {
                    pass.files.stored.forget(found);
                }
            }
            Some(found) if found.is_dir() => return Opened::Needs(need),
            Some(found) => need.settle = device(&path, found),
            None => {}
        }
        if is_change && is_of_system(&path) {
            need.settle = Some(format!("a change of {}", path.display()));
        }
        let is_new = found.is_none();
        if pass.is_watching_changes()
            && (!is_reader || has(libc::O_TRUNC) || is_new && has(libc::O_CREAT))
        {
            need.save = Some(Box::new(move |undo| undo.content(&path)));
        }
        Opened::Needs(need)
    }

    /// The tool, if somebody is about to read the interposer that is bound over it: programs that
    /// copy tools or take their fingerprints mean the tools.
    fn tool(&self, path: &Path, found: &Metadata) -> Option<File> {
        let binding = self.pass.site.binding.as_ref()?;
        if !self.pass.site.interposer.is(found) && !binding.covers(found) {
            return None;
        }
        // Through the caller's directory the path leads to what the caller sees there.
        let file = File::open(path.canonicalize().ok()?).ok()?;
        let found = file.metadata().ok()?;
        // This process may be allowed more than the caller.
        (binding.covers(&found) && found.mode() & 0o004 != 0).then_some(file)
    }

    fn change(&self, change: &Change) -> Need {
        if !self.pass.is_watching_changes() {
            return Need::default();
        }
        let mut need = Need::default();
        let save: Save = match change {
            Change::Make(path) | Change::Remove(path) => {
                let path = path.clone();
                Box::new(move |undo| undo.name(&path, None))
            }
            Change::RemoveDirectory(path) => {
                let path = path.clone();
                Box::new(move |undo| undo.directory(&path))
            }
            Change::Move(from, to) => {
                let (from, to) = (from.clone(), to.clone());
                Box::new(move |undo| undo.moved(&from, &to))
            }
            Change::Link(from, to) => {
                let (from, to) = (from.clone(), to.clone());
                Box::new(move |undo| undo.linked(&from, &to))
            }
            Change::Truncate(path) => {
                if let Ok(found) = std::fs::metadata(path) {
                    need.real.extend(self.placeholder(path, &found));
                    self.pass.files.stored.forget(&found);
                }
                let path = path.clone();
                Box::new(move |undo| undo.content(&path))
            }
            Change::Attributes(path, follow) => {
                let (path, follow) = (path.clone(), *follow);
                Box::new(move |undo| undo.attributes(&path, follow))
            }
            Change::Owner(path, follow) => {
                let (path, follow) = (path.clone(), *follow);
                Box::new(move |undo| undo.owner(&path, follow))
            }
        };
        need.save = Some(save);
        need
    }

    fn connect(&self, peer: &Peer) -> Need {
        let is_harmless = match peer {
            Peer::Path(path) => {
                *path == self.pass.socket
                    || path.as_path() == Path::new(NAME_SERVICE)
                    || !path.exists()
                    || self.pass.is_born(path)
            }
            Peer::Other => false,
        };
        match is_harmless {
            true => Need::default(),
            false => Need::settled("a connection to another program"),
        }
    }

    fn affect(&self, caller: Pid, whom: i32) -> Need {
        // Most programs signal their own threads.
        let is_own = || Path::new(&format!("/proc/{caller}/task/{whom}")).exists();
        let is_of_build =
            || Pid::try_from(whom).is_ok_and(|pid| self.pass.has_process(process_of(pid)));
        match is_own() || is_of_build() {
            true => Need::default(),
            false => Need::settled("a change of another process, or a signal to it"),
        }
    }

    /// What is read from a terminal or a pipe cannot be read again.
    fn read_input(&self, pid: Pid) -> Need {
        let is_ours = std::fs::metadata(format!("/proc/{pid}/fd/0"))
            .is_ok_and(|found| self.pass.input == Some(Inode::of(&found)));
        match is_ours {
            true => Need::settled("a read of the build's input"),
            false => Need::default(),
        }
    }

    /// The placeholder that a path leads to, if it is one.
    fn placeholder(&self, path: &Path, found: &Metadata) -> Option<(PathBuf, Inode, OutputRef)> {
        let output = self.pass.files.output_at(path, found).ok().flatten()?;
        Some((path.to_owned(), Inode::of(found), output))
    }

    /// The placeholder that runs a script, which may be the interpreter of its interpreter
    /// (execve(2), "Interpreter scripts").
    fn interpreter(&self, pid: Pid, script: &Path) -> Option<(PathBuf, Inode, OutputRef)> {
        /// Scripts that the kernel lets run each other (`fs/exec.c`).
        const DEPTH_MAX: usize = 5;
        let mut path = script.to_owned();
        for _ in 0..DEPTH_MAX {
            path = Path::new(&format!("/proc/{pid}/cwd")).join(interpreter_named_by(&path)?);
            let found = std::fs::metadata(&path).ok()?;
            if let Some(placeholder) = self.placeholder(&path, &found) {
                return Some(placeholder);
            }
        }
        None
    }

    /// The programs among a command's words that are placeholders, also those in the text of a
    /// shell: what they are started beside, or with what time limit, counts from when they run.
    fn named(&self, pid: Pid, arguments: u64) -> Vec<(PathBuf, Inode, OutputRef)> {
        const SEPARATORS: &[u8] = b" \t\n;&|<>()`${}\"'=,:";
        let directory = PathBuf::from(format!("/proc/{pid}/cwd"));
        let words = words(pid, arguments);
        let names = words.iter().skip(1).flat_map(|word| {
            word.as_bytes().split(|byte| SEPARATORS.contains(byte)).filter(|name| !name.is_empty())
        });
        let names: BTreeSet<&[u8]> = names.take(NAMES_MAX).collect();
        let placeholders = &self.pass.files.placeholders;
        names
            .into_iter()
            .filter_map(|name| {
                let path = directory.join(OsStr::from_bytes(name));
                let inode = Inode::of(&std::fs::metadata(&path).ok()?);
                Some((path, inode, placeholders.program(inode)?))
            })
            .collect()
    }

    fn save(&self, save: Save) -> Option<String> {
        self.pass.speculation.as_ref()?.save(save)
    }

    async fn wait(self: Arc<Self>, need: Need, notification: &Notification) {
        let (pass, pid) = (&self.pass, notification.pid);
        if let Some(parent) = need.sibling {
            self.siblings.wait(parent).await;
        }
        if !need.real.is_empty() {
            let _waiting = need.shell.map(|shell| self.siblings.waits(shell));
            pass.keeper.waits(pid).await;
            for (path, inode, output) in need.real {
                if pass.real(&path, inode, output).await == End::Failed {
                    // The build is taken back, and this process ends with it.
                    return;
                }
            }
            pass.keeper.waited(pid).await;
        }
        let reason = need.save.and_then(|save| self.save(save)).or(need.settle);
        if let Some(reason) = reason {
            pass.keeper.waits(pid).await;
            pass.settle(&reason).await;
            pass.keeper.waited(pid).await;
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
        drop(self.listener.allow(notification));
    }
}

impl Need {
    fn settled(reason: impl Into<String>) -> Self {
        Self { settle: Some(reason.into()), ..Self::default() }
    }

    fn is_met(&self) -> bool {
        self.real.is_empty()
            && self.save.is_none()
            && self.settle.is_none()
            && self.starts.is_none()
            && self.sibling.is_none()
    }
}

/// The program that a script's first line names.
fn interpreter_named_by(script: &Path) -> Option<PathBuf> {
    const LINE_MAX: u64 = 256;
    let mut line = Vec::new();
    File::open(script).ok()?.take(LINE_MAX).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(name).into())
}

/// The process of a thread.
fn process_of(thread: Pid) -> Pid {
    let process = status_of(&thread.to_string(), "Tgid");
    process.and_then(|process| process.parse().ok()).unwrap_or(thread)
}

/// Is this a setting of the system or of a process, not a file that a process has open or reaches
/// through its directory?
fn is_of_system(path: &Path) -> bool {
    let Ok(rest) = path.strip_prefix("/proc") else { return path.starts_with("/sys") };
    let mut parts = rest.components().skip(1);
    let part = parts.next().map(|part| part.as_os_str());
    !part.is_some_and(|part| ["fd", "cwd", "root"].iter().any(|name| part == *name))
}

/// Why a device or a pipe may only be opened when nothing is pending.
fn device(path: &Path, found: &Metadata) -> Option<String> {
    let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
    let kind = found.file_type();
    let is_harmless = kind.is_char_device()
        && major == MEMORY_DEVICES
        && HARMLESS_MEMORY_DEVICES.contains(&minor);
    // The build's own terminal is reached through its descriptors.
    let is_device = kind.is_char_device() || kind.is_block_device();
    let is_own = path.starts_with("/proc");
    (is_device && !is_harmless && !is_own).then(|| format!("the device {}", path.display()))
}

/// Commands of a recipe that wait for a placeholder keep the others of their shell waiting: it
/// may have started them to run side by side.
#[derive(Debug, Default)]
struct Siblings {
    /// By parent: how many of its children wait.
    waiting: Mutex<BTreeMap<Pid, u32>>,
    changed: Notify,
}

impl Siblings {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Pid, u32>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parent of this process, if another child of it waits.
    fn waiting_parent_of(&self, pid: Pid) -> Option<Pid> {
        if self.waiting().is_empty() {
            return None;
        }
        parent_of(pid).filter(|parent| self.waiting().contains_key(parent))
    }

    fn waits(&self, parent: Pid) -> Waiting<'_> {
        *self.waiting().entry(parent).or_default() += 1;
        Waiting { siblings: self, parent }
    }

    async fn wait(&self, parent: Pid) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.waiting().contains_key(&parent) {
                return;
            }
            changed.await;
        }
    }
}

struct Waiting<'a> {
    siblings: &'a Siblings,
    parent: Pid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.siblings.waiting();
        if let Some(count) = waiting.get_mut(&self.parent) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.parent);
            }
        }
        drop(waiting);
        self.siblings.changed.notify_waiters();
    }
}

impl Pass {
    /// Does it answer calls early, so that it matters what changes?
    fn is_watching_changes(&self) -> bool {
        self.speculation.as_ref().is_some_and(|speculation| speculation.is_saving())
    }

    /// Is something pending that what cannot be undone has to wait for?
    fn must_wait_to_settle(&self) -> bool {
        self.mode == Mode::Lazy
            && self.speculation.as_ref().is_some_and(|speculation| speculation.is_pending())
    }

    fn is_born(&self, path: &Path) -> bool {
        self.speculation.as_ref().is_some_and(|speculation| speculation.undo.is_born(path))
    }
}
