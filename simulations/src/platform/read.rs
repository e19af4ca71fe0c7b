//! `[platform]` of a scenario.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Cache, Churn, Costs, Group, Liars, Lie, Link, Machine, Outages, Platform, Stragglers};
use crate::config::{ConfigError, Section, Unit};
use crate::kernel::{Distribution, SimTime, Span};
use crate::limits::{CORES_MAX, HOSTS_MAX, INPUT_BYTES_MAX};

const POSITIVE: std::ops::RangeInclusive<f64> = f64::MIN_POSITIVE..=f64::MAX;
/// Times beyond 30 years are mistakes.
const SECONDS: std::ops::RangeInclusive<f64> = 0.0..=1e9;

impl Platform {
    /// Reads `[platform]`.
    pub fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let tables = section.sections("machines")?;
        let machines = tables.iter().map(read_machine).collect::<Result<Vec<_>, _>>()?;
        let tables = section.sections("hosts")?;
        let groups = tables.iter().map(|table| read_group(table, &machines));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let hosts: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
        if groups.is_empty() || groups.len() > 1_000 {
            return Err(section.wrong(
                "hosts",
                "no or too many groups",
                "1 to 1000 [[platform.hosts]]",
            ));
        }
        if hosts > HOSTS_MAX {
            let allowed = format!("{HOSTS_MAX} hosts in all groups together");
            return Err(section.wrong("hosts", format!("{hosts} hosts"), allowed));
        }
        let span = |key, default| {
            let seconds = section.number(key, Unit::Seconds, SECONDS)?;
            Ok(Span::from_seconds(seconds.unwrap_or(default)))
        };
        let platform = Self {
            groups,
            machines,
            backbone: read_link(section, "backbone")?,
            control: span("control", 0.0)?,
            detection: span("detection", 2.0)?,
        };
        section.finish()?;
        Ok(platform)
    }
}

fn read_machine(section: &Section<'_>) -> Result<Machine, ConfigError> {
    let name = section.text("name")?;
    let cost = |key| {
        let seconds = section.number(key, Unit::Seconds, SECONDS)?;
        Ok(Span::from_seconds(seconds.unwrap_or(0.0)))
    };
    let costs = Costs {
        submit: cost("submit")?,
        lease: cost("lease")?,
        sandbox: cost("sandbox")?,
        message: cost("message")?,
    };
    let machine = Machine {
        name: section.need("name", name, "a name of the machine")?.to_owned(),
        cores: section.integer("cores", 1..=CORES_MAX)?.unwrap_or(1) as u32,
        costs,
    };
    section.finish()?;
    Ok(machine)
}

fn read_group(section: &Section<'_>, machines: &[Machine]) -> Result<Group, ConfigError> {
    let name = section.text("name")?;
    let caches = [("cold", Cache::Cold), ("common", Cache::Common), ("warm", Cache::Warm)];
    let group = Group {
        name: section.need("name", name, "a name of the group")?.to_owned(),
        count: section.integer("count", 1..=HOSTS_MAX)?.unwrap_or(1) as u32,
        cores: section.integer("cores", 1..=CORES_MAX)?.unwrap_or(1) as u32,
        speed: section.distribution("speed", Unit::Plain)?.unwrap_or(Distribution::Constant(1.0)),
        memory: section.number("memory", Unit::Bytes, POSITIVE)?.map_or(u64::MAX, |b| b as u64),
        cache: section.choice("cache", &caches)?.unwrap_or(Cache::Cold),
        start: section.distribution("start", Unit::Seconds)?.unwrap_or(Distribution::Constant(0.0)),
        access: read_link(section, "access")?,
        uplink: read_link(section, "uplink")?,
        churn: section.section("churn")?.map(|it| read_churn(&it, ["up", "down"])).transpose()?,
        owner: section.section("owner")?.map(|it| read_churn(&it, ["idle", "busy"])).transpose()?,
        stragglers: section.section("stragglers")?.map(|s| read_stragglers(&s)).transpose()?,
        machine: section
            .text("machine")?
            .map(|name| {
                machines.iter().position(|machine| machine.name == name).ok_or_else(|| {
                    let names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
                    let allowed = format!("a [[platform.machines]]: {}", names.join(", "));
                    section.wrong("machine", format!("no machine {name:?}"), allowed)
                })
            })
            .transpose()?,
        liars: section.section("liars")?.map(|liars| read_liars(&liars)).transpose()?,
    };
    section.finish()?;
    Ok(group)
}

fn read_link(parent: &Section<'_>, key: &'static str) -> Result<Option<Link>, ConfigError> {
    let Some(section) = parent.section(key)? else { return Ok(None) };
    let link = Link {
        latency: section.number("latency", Unit::Seconds, SECONDS)?.unwrap_or(0.0),
        bandwidth: section.number("bandwidth", Unit::Rate, POSITIVE)?.unwrap_or(f64::INFINITY),
    };
    section.finish()?;
    Ok(Some(link))
}

fn read_stragglers(section: &Section<'_>) -> Result<Stragglers, ConfigError> {
    let share = section.number("share", Unit::Plain, 0.0..=1.0)?;
    let slowdown = section.distribution("slowdown", Unit::Plain)?;
    let stragglers = Stragglers {
        share: section.need("share", share, "a probability from 0 to 1")?,
        slowdown: section.need("slowdown", slowdown, "a number or a distribution")?,
    };
    section.finish()?;
    Ok(stragglers)
}

fn read_liars(section: &Section<'_>) -> Result<Liars, ConfigError> {
    let share = section.number("share", Unit::Plain, 0.0..=1.0)?;
    let lies = [("bytes", Lie::Bytes), ("result", Lie::Result)];
    let liars = Liars {
        share: section.need("share", share, "a probability from 0 to 1")?,
        lie: section.choice("lie", &lies)?.unwrap_or(Lie::Bytes),
        after: section.integer("after", 0..=1_000_000)?.unwrap_or(0) as u32,
    };
    section.finish()?;
    Ok(liars)
}

fn read_churn(
    section: &Section<'_>,
    [there, away]: [&'static str; 2],
) -> Result<Churn, ConfigError> {
    let churn = if let Some(path) = section.file("trace")? {
        let outages = read_outages(&path).map_err(|problem| {
            let form = "a CSV file with the columns node, gone_s, back_s";
            section.wrong("trace", format!("{}: {problem}", path.display()), form)
        })?;
        Churn::Trace(Arc::new(outages))
    } else {
        let up = section.distribution(there, Unit::Seconds)?;
        let down = section.distribution(away, Unit::Seconds)?;
        let allowed = "seconds or a distribution; or the key trace";
        let up = section.need(there, up, allowed)?;
        let down = section.need(away, down, allowed)?;
        // A host that comes and goes without time passing would never let it pass.
        if up.mean() + down.mean() < 1e-3 {
            return Err(section.wrong(there, "no time passes", "a mean of a millisecond or more"));
        }
        Churn::Random { up, down }
    };
    section.finish()?;
    Ok(churn)
}

/// Reads recorded absences: rows (node, gone_s, back_s), the nodes under any names, the rows of one
/// node in any order.
fn read_outages(path: &Path) -> Result<Outages, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > INPUT_BYTES_MAX {
        return Err("larger than 1 GiB".to_owned());
    }
    let mut reader = csv::Reader::from_path(path).map_err(|e| e.to_string())?;
    let mut nodes: BTreeMap<String, Vec<(SimTime, SimTime)>> = BTreeMap::new();
    for row in reader.deserialize::<(String, f64, f64)>() {
        let (node, gone, back) = row.map_err(|e| e.to_string())?;
        if !(0.0 <= gone && gone < back && back <= *SECONDS.end()) {
            return Err(format!("node {node}: away from {gone} to {back}"));
        }
        let at = |seconds| SimTime::ZERO + Span::from_seconds(seconds);
        nodes.entry(node).or_default().push((at(gone), at(back)));
    }
    for (node, absences) in &mut nodes {
        absences.sort_unstable();
        if absences.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(format!("node {node}: absences overlap"));
        }
    }
    if nodes.is_empty() {
        return Err("no rows".to_owned());
    }
    Ok(Outages { nodes: nodes.into_values().collect() })
}
