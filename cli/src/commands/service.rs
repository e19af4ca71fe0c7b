//! `mesh service`: a systemd user unit that runs `mesh join`.
//!
//! Its settings are those of the config file, so that they can change without another unit.

mod unit;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_node::net::membership::Membership;
use mesh_store::files;

use self::unit::{MARK, Unit};
use super::print_bytes;
use crate::args::ServiceInstallArgs;
use crate::error::CliError;
use crate::{exit, home, stderr};

const NAME: &str = "mesh.service";

/// What decides where state and settings are: the service is to find the same.
const VARIABLES: [&str; 3] = ["MESH_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"];

pub(crate) fn install(args: &ServiceInstallArgs) -> Result<(), CliError> {
    let text = text()?;
    if args.print {
        return print_bytes(text.as_bytes());
    }
    let path = path()?;
    is_there_and_ours(&path)?;
    write(&path, &text)?;
    stderr::write_line(format_args!("mesh: wrote {}", path.display()));
    if Membership::open(&home::directory()?)?.is_none() {
        stderr::write_line(
            "hint: this machine is in no mesh yet: mesh join TICKET first, once, by hand",
        );
    }
    match systemctl(&["daemon-reload"]) {
        Some(_) => {
            stderr::write_line(
                "hint: systemctl --user enable --now mesh starts it, now and at each login",
            );
            stderr::write_line(
                "hint: loginctl enable-linger lets it run while you are not logged in",
            );
        }
        None => stderr::write_line(
            "hint: there is no systemctl here; where systemd runs, systemctl --user enable --now mesh starts it",
        ),
    }
    Ok(())
}

pub(crate) fn uninstall() -> Result<(), CliError> {
    let path = path()?;
    if !is_there_and_ours(&path)? {
        let text = format!("{} is not there", path.display());
        return Err(CliError::new(exit::NOT_FOUND, text));
    }
    // A unit without its file could not be disabled any more.
    let ended = systemctl(&["disable", "--now", NAME]);
    fs::remove_file(&path).map_err(CliError::io(&path))?;
    stderr::write_line(format_args!("mesh: removed {}", path.display()));
    match ended {
        Some(true) => drop(systemctl(&["daemon-reload"])),
        Some(false) => stderr::write_line(
            "hint: systemctl could not end the service; if it runs still, mesh stop ends it",
        ),
        None => stderr::write_line(
            "hint: there is no systemctl here; if the node runs, mesh stop ends it",
        ),
    }
    Ok(())
}

fn text() -> Result<String, CliError> {
    let program = std::env::current_exe().map_err(CliError::io("/proc/self/exe"))?;
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directories = VARIABLES.into_iter().filter_map(|name| Some((name, set(name)?)));
    let mut environment = Vec::new();
    for (name, directory) in directories {
        let absolute = std::path::absolute(&directory).map_err(CliError::io(&directory))?;
        environment.push((name, absolute));
    }
    Unit { program: &program, environment: &environment }.text().map_err(
        |unit::Unwritable(path)| {
            let text = format!("{} cannot be named in a unit: it is no plain text", path.display());
            CliError::new(exit::DATA, text)
        },
    )
}

fn path() -> Result<PathBuf, CliError> {
    Ok(home::config_directory()?.join("systemd/user").join(NAME))
}

/// More than `mesh service install` writes.
const UNIT_BYTES_MAX: u64 = 64 * 1024;

/// False: there is none. A file that somebody else wrote is an error: it stays as it is.
fn is_there_and_ours(path: &Path) -> Result<bool, CliError> {
    match files::read_followed(path, UNIT_BYTES_MAX) {
        Ok(text) if text.starts_with(MARK.as_bytes()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(CliError::io(path)(error)),
        Ok(_) | Err(_) => {
            let text = format!("{} is not by mesh service install", path.display());
            let hint = "move it away; mesh service install --print shows what would be written";
            Err(CliError::new(exit::FOUND_WRONG, text).hint(hint))
        }
    }
}

/// Replaces it whole.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(CliError::io(directory))?;
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(CliError::io(directory))?;
    file.write_all(text.as_bytes()).map_err(CliError::io(path))?;
    file.persist(path).map_err(|error| CliError::io(path)(error.error))?;
    Ok(())
}

/// Runs it for this user's services: did it work? None: there is none.
fn systemctl(arguments: &[&str]) -> Option<bool> {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(arguments);
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ended {
        Ok(status) => Some(status.success()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some(false),
    }
}
