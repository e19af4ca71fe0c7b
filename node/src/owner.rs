//! What this machine's owner does with it, and what others therefore get: the measurements that
//! [`mesh_protocol::owner`] decides by, and what comes of its decisions.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh_protocol::owner::{Owner, Reason, Seen, Wishes};
use mesh_protocol::time::Time;
use tokio::sync::watch;

use crate::claims::Mesh;

/// How often the machine is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives a mesh what the owner gives; clones share it. What it looks at, it looks at as long as
/// there is a handle.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

struct Shared {
    owner: Mutex<Owner>,
    /// Why others get nothing, as it was last told.
    held: watch::Sender<Option<Reason>>,
    began: Instant,
    mesh: Mesh,
}

impl Keeper {
    /// Starts on the current tokio runtime.
    pub(crate) fn start(wishes: Wishes, mesh: Mesh) -> Self {
        let owner = Mutex::new(Owner::new(wishes));
        let held = watch::Sender::new(None);
        let keeper = Self(Arc::new(Shared { owner, held, began: Instant::now(), mesh }));
        let watched = Arc::downgrade(&keeper.0);
        tokio::spawn(async move {
            let mut monitor = Monitor::new();
            while let Some(shared) = watched.upgrade() {
                let keeper = Self(shared);
                if wishes.only_when_idle
                    && let Some(seen) = monitor.look()
                {
                    let now = keeper.now();
                    keeper.owner().see(now, seen);
                }
                keeper.give().await;
                drop(keeper);
                if !wishes.only_when_idle {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        keeper
    }

    /// The owner wants the machine for itself, or gives it back.
    pub async fn pause(&self, paused: bool) {
        self.owner().pause(paused);
        self.give().await;
    }

    /// Why others get nothing now.
    pub fn reason(&self) -> Option<Reason> {
        self.owner().given().1
    }

    /// Waits until it is another reason than that, or none any more. Cancel-safe.
    pub async fn reason_other_than(&self, known: Option<Reason>) -> Option<Reason> {
        let mut held = self.0.held.subscribe();
        // The sender is ours: it does not end.
        held.wait_for(|reason| *reason != known).await.map_or(known, |reason| *reason)
    }

    async fn give(&self) {
        let (slots, reason) = self.owner().given();
        self.0.mesh.give(slots).await;
        if self.0.held.send_if_modified(|held| std::mem::replace(held, reason) != reason) {
            match reason {
                Some(reason) => tracing::info!(%reason, "others get nothing"),
                None => tracing::info!(slots, "others get slots again"),
            }
        }
    }

    fn now(&self) -> Time {
        Time::from_us(u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn owner(&self) -> MutexGuard<'_, Owner> {
        self.0.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Processor time by priority: who stands back (`nice`) is not the owner, and thunks do while a machine
/// helps only when idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ticks(u64);

/// Looks at the machine now and then.
#[derive(Debug)]
pub struct Monitor {
    last: Option<(Instant, Ticks)>,
    ticks_per_second: u64,
}

impl Monitor {
    /// Has not looked yet.
    pub fn new() -> Self {
        Self { last: None, ticks_per_second: rustix::param::clock_ticks_per_second().max(1) }
    }

    /// What happened since the last look; `None` for the first one, and where the system does not say.
    pub fn look(&mut self) -> Option<Seen> {
        let now = Instant::now();
        let ticks = ticks(&fs::read_to_string("/proc/stat").ok()?)?;
        let (before, then) = self.last.replace((now, ticks))?;
        let spent_us = (ticks.0.saturating_sub(then.0)) * 1_000_000 / self.ticks_per_second;
        let passed_us = u64::try_from(now.duration_since(before).as_micros()).ok()?.max(1);
        let others_permille = u32::try_from(spent_us * 1000 / passed_us).unwrap_or(u32::MAX);
        Some(Seen {
            others_permille,
            on_battery: is_on_battery(Path::new("/sys/class/power_supply")),
        })
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new()
    }
}

/// `user` of the line `cpu` (proc_stat(5)): time in user mode of processes of normal priority. What
/// they do in the kernel is counted together with what thunks do there, and so is left out.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    Some(Ticks(line.split_ascii_whitespace().next()?.parse().ok()?))
}

/// Is there a battery that is being used up? (Documentation/ABI/testing/sysfs-class-power)
fn is_on_battery(supplies: &Path) -> bool {
    let Ok(entries) = fs::read_dir(supplies) else { return false };
    let says = |path: &Path, file: &str, value: &str| {
        fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == value)
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        // Those of a mouse or a pen have another scope.
        let is_peripheral = says(&path, "scope", "Device");
        says(&path, "type", "Battery") && !is_peripheral && says(&path, "status", "Discharging")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_user_time_counts_and_nice_time_does_not() {
        let stat = "cpu  100 999 50 4000 1 0 0 0 0 0\ncpu0 60 999 50 4000 1 0 0 0 0 0\n";
        assert_eq!(ticks(stat), Some(Ticks(100)));
        assert_eq!(ticks("cpu0 60\n"), None);
        assert_eq!(ticks("cpu  x\n"), None);
    }

    #[test]
    fn the_second_look_tells() {
        let mut monitor = Monitor::new();
        assert_eq!(monitor.look(), None);
        assert!(monitor.look().is_some());
    }

    #[test]
    fn a_battery_that_is_used_up_is_told_from_a_mouses() {
        let place = tempfile::tempdir().unwrap();
        assert!(!is_on_battery(&place.path().join("missing")));
        let supply = |name: &str, files: &[(&str, &str)]| {
            let directory = place.path().join(name);
            fs::create_dir_all(&directory).unwrap();
            for (file, text) in files {
                fs::write(directory.join(file), text).unwrap();
            }
        };
        supply("AC", &[("type", "Mains\n"), ("online", "0\n")]);
        supply("hid", &[("type", "Battery\n"), ("scope", "Device\n"), ("status", "Discharging\n")]);
        supply("BAT0", &[("type", "Battery\n"), ("status", "Full\n")]);
        assert!(!is_on_battery(place.path()));
        supply("BAT0", &[("status", "Discharging\n")]);
        assert!(is_on_battery(place.path()));
    }
}
