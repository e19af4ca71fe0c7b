//! The file, key by key.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use mesh_node::net::swarm::check_address;
use mesh_protocol::limits;
use mesh_protocol::sched::policy::PlacementName;
use mesh_protocol::sched::speculation::SpeculationName;
use mesh_simulations::config::{ConfigError, Document, Section};
use mesh_store::files;

use super::setting::{Origin, Setting};
use crate::args::{IdleExit, Metrics, PERCENT_MAX, SLOTS, parse_idle_exit, parse_size};
use crate::error::CliError;
use crate::{home, logging};

const SIZE: &str = "bytes, or text such as \"8G\": a whole number and K, M, G or T";

/// Where one node listens, at most.
const ADDRESSES_MAX: usize = 16;

/// A key that may be missing.
pub(super) type Key<T> = Option<Setting<T>>;

/// What a config file says.
#[derive(Clone, Default, Debug)]
pub(crate) struct Config {
    /// Which file; none: there is none.
    pub(crate) path: Option<PathBuf>,
    pub(super) name: Key<String>,
    pub(super) log: Key<String>,
    pub(super) join: JoinKeys,
    pub(super) build: BuildKeys,
    pub(super) quota_bytes: Key<u64>,
}

/// `[join]`
#[derive(Clone, Default, Debug)]
pub(super) struct JoinKeys {
    pub(super) listen: Key<Vec<String>>,
    pub(super) mdns: Key<bool>,
    pub(super) slots: Key<u32>,
    pub(super) memory_bytes: Key<u64>,
    pub(super) files_bytes: Key<u64>,
    pub(super) only_when_idle: Key<bool>,
    pub(super) check_percent: Key<u32>,
    pub(super) idle_exit: Key<IdleExit>,
    pub(super) metrics: Key<Metrics>,
    pub(super) placement: Key<PlacementName>,
    pub(super) speculation: Key<SpeculationName>,
}

/// `[build]`
#[derive(Clone, Default, Debug)]
pub(super) struct BuildKeys {
    pub(super) slots: Key<u32>,
    pub(super) local: Key<bool>,
    pub(super) keep_going: Key<bool>,
    pub(super) eager: Key<bool>,
    pub(super) files_bytes: Key<u64>,
    pub(super) bind: Key<bool>,
    pub(super) quiet: Key<bool>,
}

impl Config {
    /// The file of this home, if there is one.
    pub(crate) fn of_home() -> Result<Self, CliError> {
        let path = home::config_file()?;
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            _ => Self::read(&path),
        }
    }

    /// This file.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        // Whatever it is: no settings are read from a pipe.
        let mut options = std::fs::OpenOptions::new();
        files::open_followed(path, options.read(true)).map_err(CliError::io(path))?;
        let config = Self::parse(&Document::read(path)?)?;
        Ok(Self { path: Some(path.to_owned()), ..config })
    }

    pub(super) fn parse(document: &Document) -> Result<Self, ConfigError> {
        let root = document.root();
        let config = Self {
            path: None,
            name: text(&root, "name", "1 to 64 bytes", |name| {
                (1..=limits::MEMBER_NAME_BYTES).contains(&name.len())
            })?,
            log: text(&root, "log", logging::FILTER_FORM, |filter| {
                logging::filter(filter).is_some()
            })?,
            join: root.section("join")?.map_or_else(|| Ok(JoinKeys::default()), JoinKeys::read)?,
            build: root
                .section("build")?
                .map_or_else(|| Ok(BuildKeys::default()), BuildKeys::read)?,
            quota_bytes: root.section("store")?.map_or(Ok(None), quota)?,
        };
        root.finish()?;
        Ok(config)
    }
}

impl JoinKeys {
    fn read(table: Section<'_>) -> Result<Self, ConfigError> {
        let keys = Self {
            listen: listen(&table)?,
            mdns: flag(&table, "mdns")?,
            slots: number(&table, "slots", SLOTS)?,
            memory_bytes: keep(&table, "memory", table.parsed("memory", SIZE, parse_size)?),
            files_bytes: keep(&table, "files", table.parsed("files", SIZE, parse_size)?),
            only_when_idle: flag(&table, "only-when-idle")?,
            check_percent: number(&table, "check", 0..=u64::from(PERCENT_MAX))?,
            idle_exit: keep(
                &table,
                "idle-exit",
                table.parsed(
                    "idle-exit",
                    "\"never\", or a whole number and s, m, h or d, such as \"10m\"",
                    parse_idle_exit,
                )?,
            ),
            metrics: keep(
                &table,
                "metrics",
                table.parsed(
                    "metrics",
                    "\"off\", or a loopback address and a port, such as \"127.0.0.1:9474\"",
                    str::parse,
                )?,
            ),
            placement: keep(&table, "placement", table.choice("placement", &PlacementName::ALL)?),
            speculation: keep(
                &table,
                "speculation",
                table.choice("speculation", &SpeculationName::ALL)?,
            ),
        };
        table.finish()?;
        Ok(keys)
    }
}

impl BuildKeys {
    fn read(table: Section<'_>) -> Result<Self, ConfigError> {
        let keys = Self {
            slots: number(&table, "slots", SLOTS)?,
            local: flag(&table, "local")?,
            keep_going: flag(&table, "keep-going")?,
            eager: flag(&table, "eager")?,
            files_bytes: keep(&table, "files", table.parsed("files", SIZE, parse_size)?),
            bind: flag(&table, "bind")?,
            quiet: flag(&table, "quiet")?,
        };
        table.finish()?;
        Ok(keys)
    }
}

fn quota(table: Section<'_>) -> Result<Key<u64>, ConfigError> {
    let quota = keep(&table, "quota", table.parsed("quota", SIZE, parse_size)?);
    table.finish()?;
    Ok(quota)
}

fn listen(table: &Section<'_>) -> Result<Key<Vec<String>>, ConfigError> {
    let allowed = "an array of multiaddresses, such as [\"/ip4/0.0.0.0/tcp/6374\"]";
    let Some(addresses) = table.texts("listen", ADDRESSES_MAX, allowed)? else { return Ok(None) };
    if let Some(bad) = addresses.iter().find(|address| check_address(address).is_err()) {
        return Err(table.wrong("listen", format_args!("{bad:?} is no address"), allowed));
    }
    Ok(keep(table, "listen", Some(addresses.into_iter().map(str::to_owned).collect())))
}

fn number(
    table: &Section<'_>,
    key: &'static str,
    allowed: RangeInclusive<u64>,
) -> Result<Key<u32>, ConfigError> {
    let number = table.integer(key, allowed)?;
    // The range fits.
    Ok(keep(table, key, number.and_then(|number| u32::try_from(number).ok())))
}

fn flag(table: &Section<'_>, key: &'static str) -> Result<Key<bool>, ConfigError> {
    Ok(keep(table, key, table.bool(key)?))
}

fn text(
    table: &Section<'_>,
    key: &'static str,
    allowed: &str,
    is_good: impl FnOnce(&str) -> bool,
) -> Result<Key<String>, ConfigError> {
    match table.text(key)? {
        Some(text) if !is_good(text) => Err(table.wrong(key, format_args!("{text:?}"), allowed)),
        text => Ok(keep(table, key, text.map(str::to_owned))),
    }
}

fn keep<T>(table: &Section<'_>, key: &'static str, value: Option<T>) -> Key<T> {
    let origin = Origin::File(table.line(key).unwrap_or(1));
    value.map(|value| Setting { value, origin })
}
