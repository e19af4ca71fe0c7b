//! From the plan to the order: names become paths in the store, small files come along.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use mesh_protocol::name::{Digest, ValueName};
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Platform, Thunk};

use super::SandboxOptions;
use super::cache::Sources;
use super::message::{self, EntryOrder, LayerOrder, MountOrder, Order};
use crate::exec::plan::{COPY_FILE_BYTES, Entry, ExecPlan, Layer, MountKind, PlanError};
use crate::exec::{EngineError, Failure};

/// Plans a job and finds everything it needs in the store: the order with the small files behind it.
pub(super) fn prepare(
    thunk: &Thunk,
    sources: &Sources,
    options: &SandboxOptions,
) -> Result<OwnedFd, EngineError> {
    let limits = &thunk.spec().limits;
    if Platform::host() != Some(limits.platform) {
        return Err(PlanError::Platform(limits.platform).into());
    }
    let plan = ExecPlan::new(thunk, sources)?;
    let mut filling = Filling::new(sources);
    let layers = plan.layers.iter().map(|layer| filling.layer(layer)).collect::<Result<_, _>>()?;
    let mount = |mount: &crate::exec::plan::Mount| {
        Ok((mount.at.below_root().to_owned(), filling.mount(&mount.what)?))
    };
    let mounts = plan.mounts.iter().map(mount).collect::<Result<_, EngineError>>()?;
    let stdin = plan.stdin.map(|name| filling.blob(name.digest(), false)).transpose()?;
    let watched_bytes = [limits.memory_bytes, options.memory_bytes].into_iter().flatten().min();
    let files_bytes = options.files_bytes.min(watched_bytes.unwrap_or(u64::MAX));
    if filling.copied_bytes > files_bytes {
        let bytes = filling.copied_bytes;
        return Err(PlanError::Copies { bytes, bytes_max: files_bytes }.into());
    }
    let order = Order {
        layers,
        mounts,
        executable: plan.executable.into(),
        arguments: plan.arguments,
        environment: plan.environment,
        working_directory: plan.working_directory.into(),
        outputs: plan.outputs.iter().map(AbsPath::to_string).collect(),
        stdin,
        memory_bytes: limits.memory_bytes,
        watched_bytes,
        files_bytes,
        outputs_bytes: options.files_bytes,
        processes: options.processes_max,
    };
    let order = message::encode_order(&order).map_err(PlanError::Order)?;
    Ok(message::write_order(&order, &filling.packed)?)
}

fn store_error(error: impl Into<Failure>) -> EngineError {
    EngineError::Store(error.into())
}

struct Filling<'a> {
    sources: &'a Sources,
    packed: Vec<Arc<[u8]>>,
    packed_bytes: u64,
    /// Where each of them is: one that stands at many paths is packed once.
    offsets: HashMap<Digest, u64>,
    /// What the files made in the sandbox come to.
    copied_bytes: u64,
}

impl<'a> Filling<'a> {
    fn new(sources: &'a Sources) -> Self {
        let (packed, offsets) = (Vec::new(), HashMap::new());
        Self { sources, packed, packed_bytes: 0, offsets, copied_bytes: 0 }
    }

    fn layer(&mut self, layer: &Layer) -> Result<LayerOrder, EngineError> {
        let lower = layer.lower.iter().map(|lower| {
            let directory = self.tree(lower.tree)?;
            Ok(if lower.below.is_empty() {
                directory
            } else {
                format!("{directory}/{}", lower.below)
            })
        });
        let lower = lower.collect::<Result<_, EngineError>>()?;
        let mut entries = Vec::with_capacity(layer.entries.len());
        for (path, entry) in &layer.entries {
            entries.push((path.clone(), self.entry(entry)?));
        }
        let at = layer.at.below_root().to_owned();
        Ok(LayerOrder { at, lower, entries, writable: layer.writable })
    }

    fn entry(&mut self, entry: &Entry) -> Result<EntryOrder, EngineError> {
        Ok(match entry {
            Entry::Directory => EntryOrder::Directory { mode: 0o755 },
            Entry::Temporary => EntryOrder::Directory { mode: 0o1777 },
            Entry::Stub => EntryOrder::Packed { mode: 0o444, offset: 0, length: 0 },
            Entry::Symlink(target) => EntryOrder::Symlink(target.clone()),
            Entry::File { value, executable, writable } => {
                let mode = match (writable, executable) {
                    (false, false) => 0o444,
                    (false, true) => 0o555,
                    (true, false) => 0o644,
                    (true, true) => 0o755,
                };
                self.file(*value, mode)?
            }
        })
    }

    fn file(&mut self, value: Digest, mode: u32) -> Result<EntryOrder, EngineError> {
        self.copied_bytes = self.copied_bytes.saturating_add(value.length);
        if value.length > COPY_FILE_BYTES {
            return Ok(EntryOrder::Stored { mode, path: self.blob(value, false)? });
        }
        let length = value.length;
        if let Some(&offset) = self.offsets.get(&value) {
            return Ok(EntryOrder::Packed { mode, offset, length });
        }
        let offset = self.packed_bytes;
        self.packed.push(self.sources.small_file(value)?);
        self.packed_bytes += length;
        self.offsets.insert(value, offset);
        Ok(EntryOrder::Packed { mode, offset, length })
    }

    fn mount(&self, what: &MountKind) -> Result<MountOrder, EngineError> {
        Ok(match what {
            MountKind::Overlay(index) => MountOrder::Overlay(*index as u32),
            MountKind::Writable => MountOrder::Writable,
            MountKind::Tree(name) => MountOrder::Bind(self.tree(*name)?),
            MountKind::File { value, executable } => {
                MountOrder::Bind(self.blob(*value, *executable)?)
            }
            MountKind::Devices => MountOrder::Devices,
            MountKind::Processes => MountOrder::Processes,
        })
    }

    fn tree(&self, name: ValueName) -> Result<String, EngineError> {
        text(&self.sources.store().tree_directory(name).map_err(store_error)?)
    }

    fn blob(&self, value: Digest, executable: bool) -> Result<String, EngineError> {
        let store = self.sources.store();
        let path = match executable {
            true => store.executable_blob(value),
            false => store.checked_blob(value),
        };
        text(&path.map_err(store_error)?)
    }
}

fn text(path: &Path) -> Result<String, EngineError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(store_error(format!("{} is not UTF-8", path.display()))),
    }
}
