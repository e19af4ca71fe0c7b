//! Variables that name files: what comes with a variable that a command is given.
//!
//! The C library reads the rules of a time zone and a locale from files that no word of a command
//! names. Without those files it does not fail: it goes on in UTC, or in the C locale, and the
//! answer is another one. The same is true of search paths: what is not found in the first place is
//! taken from the next. Therefore a variable brings what it names. What is none of the
//! [known variables](SEARCH_PATHS) and still is a path of this machine is reported ([`unseen`]).

mod languages;

use std::collections::BTreeMap;
use std::path::Path;

use super::closure::loader_directories;
use super::context::Context;
use super::directory::{self, Whole};
use super::program;
use super::reason::{LocalReason, Step, Stop};

/// Variables of a command, by name.
pub(crate) type Passed = BTreeMap<String, String>;

const ZONES: &str = "/usr/share/zoneinfo";
/// Where other C libraries and Go look as well.
const ZONES_ELSEWHERE: &[&str] = &["/share/zoneinfo", "/etc/zoneinfo"];

const TERMINALS: &[&str] =
    &["/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"];

/// Lists of files and directories, and what separates their entries. docs/run.md shows the names.
const SEARCH_PATHS: &[(&str, char)] = &[
    ("PYTHONPATH", ':'),
    ("PERL5LIB", ':'),
    ("PERLLIB", ':'),
    ("RUBYLIB", ':'),
    ("NODE_PATH", ':'),
    ("CLASSPATH", ':'),
    ("GUILE_LOAD_PATH", ':'),
    ("R_LIBS", ':'),
    ("R_LIBS_USER", ':'),
    ("R_LIBS_SITE", ':'),
    ("TCLLIBPATH", ' '),
    ("AWKPATH", ':'),
    ("GCONV_PATH", ':'),
    ("TERMINFO_DIRS", ':'),
    ("BASH_ENV", '\0'),
];

/// Libraries that the loader takes before those that a program names.
const PRELOADED: &[&str] = &["LD_PRELOAD", "LD_AUDIT"];

/// Directories that every sandbox has.
const OWN_DIRECTORIES: &[&str] = &["/dev", "/proc", "/sys"];

/// Shows the files that these variables name.
pub(crate) fn show(context: &mut Context<'_>, passed: &Passed) -> Step<()> {
    show_time_zone(context, passed)?;
    languages::show(context, passed)?;
    show_terminal(context, passed)?;
    for (name, separator) in SEARCH_PATHS {
        let value = value(passed, name).unwrap_or_default();
        for entry in value.split(*separator).filter(|entry| !entry.is_empty()) {
            // `lib/*` of CLASSPATH: all archives of a directory.
            let entry = entry.strip_suffix("/*").unwrap_or(entry);
            bring(context, entry).map_err(|stop| named(name, entry, stop))?;
        }
    }
    show_libraries(context, passed)
}

/// The value of a variable that is set to something.
fn value<'p>(passed: &'p Passed, name: &str) -> Option<&'p str> {
    passed.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Shows a file with what it loads, or a whole directory. What does not exist here is not there for
/// the command either.
fn bring(context: &mut Context<'_>, path: &str) -> Step<()> {
    match context.view.resolve(context.cwd, path) {
        Some(place) if place.is_directory => directory::show(context, path, Whole::Named),
        Some(_) => {
            let (_, file) = context.input(path)?;
            program::support(context, path, file.executable)
        }
        None => Ok(()),
    }
}

/// Shows a file, if there is one. Returns true if so.
fn bring_file(context: &mut Context<'_>, path: &str) -> Step<bool> {
    let place = context.view.resolve(context.cwd, path);
    if place.is_none_or(|place| place.is_directory) {
        return Ok(false);
    }
    context.input(path).map(|_| true).map_err(|stop| named("the environment", path, stop))
}

fn named(variable: &str, path: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Local(reason) => {
            LocalReason::Failed(format!("{variable} names {path}: {reason}")).into()
        }
        stop => stop,
    }
}

/// As tzset(3) reads `TZ`: what stands for nothing in the directory is a rule by itself.
fn show_time_zone(context: &mut Context<'_>, passed: &Passed) -> Step<()> {
    let Some(zone) = passed.get("TZ") else { return Ok(()) };
    let zone = if zone.is_empty() { "Universal" } else { zone };
    let zone = zone.strip_prefix(':').unwrap_or(zone);
    if zone.starts_with('/') {
        bring_file(context, zone)?;
        return Ok(());
    }
    let first = value(passed, "TZDIR").unwrap_or(ZONES);
    for directory in [first].iter().chain(ZONES_ELSEWHERE) {
        if !zone.is_empty() && bring_file(context, &format!("{directory}/{zone}"))? {
            return Ok(());
        }
    }
    // A rule such as `FOO5BAR` changes over as this file says.
    bring_file(context, &format!("{first}/posixrules"))?;
    Ok(())
}

/// As terminfo(5) finds a description.
fn show_terminal(context: &mut Context<'_>, passed: &Passed) -> Step<()> {
    let Some(terminal) = value(passed, "TERM") else { return Ok(()) };
    let Some(first) = terminal.chars().next().filter(|_| !terminal.contains('/')) else {
        return Ok(());
    };
    let own = value(passed, "TERMINFO").map(str::to_owned);
    let of_home = value(passed, "HOME").map(|home| format!("{home}/.terminfo"));
    let all = TERMINALS.iter().map(|directory| (*directory).to_owned());
    for directory in own.into_iter().chain(of_home).chain(all) {
        bring_file(context, &format!("{directory}/{first}/{terminal}"))?;
        bring_file(context, &format!("{directory}/{:x}/{terminal}", u32::from(first)))?;
    }
    Ok(())
}

/// Lets the closure take libraries from `LD_LIBRARY_PATH`, and shows those that are loaded first.
fn show_libraries(context: &mut Context<'_>, passed: &Passed) -> Step<()> {
    if let Some(path) = value(passed, "LD_LIBRARY_PATH") {
        let cwd = context.view.path_of(context.cwd);
        // An empty entry is the working directory.
        let entries = path.split([':', ';']).map(|entry| Path::new(&*cwd).join(entry));
        let entries = entries.filter_map(|entry| entry.to_str().map(str::to_owned));
        let entries: Vec<String> = entries.filter(|entry| Path::new(entry).is_dir()).collect();
        for entry in &entries {
            // Where it is reached by a link, that link is there too.
            context.directory(entry);
        }
        context.library_directories = entries;
    }
    for name in PRELOADED {
        let value = value(passed, name).unwrap_or_default();
        for library in value.split([':', ' ']).filter(|library| !library.is_empty()) {
            let path = match library.contains('/') {
                true => Some(library.to_owned()),
                false => find_library(context, library),
            };
            let Some(path) = path else { continue };
            bring(context, &path).map_err(|stop| named(name, library, stop))?;
        }
    }
    Ok(())
}

fn find_library(context: &Context<'_>, name: &str) -> Option<String> {
    let own = context.library_directories.iter().cloned();
    let all = own.chain(loader_directories().map(str::to_owned));
    let mut paths = all.map(|directory| format!("{directory}/{name}"));
    paths.find(|path| Path::new(path).is_file())
}

/// A variable that names a file or directory of this machine which the command will not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The variable.
    pub variable: String,
    /// What it names.
    pub path: String,
}

/// Finds what variables name, is here, and is not shown. `PATH` is left out: its directories are
/// where programs are found, which come one by one.
pub(crate) fn unseen(context: &Context<'_>, passed: &Passed) -> Vec<Unseen> {
    let mut found = Vec::new();
    for (variable, value) in passed.iter().filter(|(name, _)| *name != "PATH") {
        let parts = value.split([':', ' ']).chain([value.as_str()]);
        for path in parts.filter(|part| {
            part.starts_with('/') || part.starts_with("./") || part.starts_with("../")
        }) {
            let Some(place) = context.view.resolve(context.cwd, path) else { continue };
            let is_own = OWN_DIRECTORIES.iter().any(|own| Path::new(path).starts_with(own));
            let is_there = is_own
                || &*place.real == "/tmp"
                || context.view.shows(&place.real)
                || context.is_output(&place.real)
                || context.library_directories.iter().any(|known| known == path);
            let new = Unseen { variable: variable.clone(), path: path.to_owned() };
            if !is_there && !found.contains(&new) {
                found.push(new);
            }
        }
    }
    found
}
