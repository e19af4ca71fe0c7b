//! `mesh join --detach`: the same command once more, in a session of its own.
//!
//! What it says until it is a member it says twice, to its log and to us; then we leave it alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use mesh_node::api::alone;
use mesh_store::files;

use crate::error::CliError;
use crate::node_log::NodeLog;
use crate::{exit, stderr};

/// The last line that is told to who waits.
const READY: &str = "ready";

/// Starts it, and waits until it is a member, or has ended. Its log is in this home, in which it runs unless it
/// is ephemeral.
pub(crate) fn start(home: &Path, ephemeral: bool) -> Result<(), CliError> {
    files::create_private_directory(home).map_err(CliError::io(home))?;
    if !ephemeral {
        // What a node that runs logs is none of ours.
        alone(home, || Ok(()))?;
    }
    let log = NodeLog::path(home);
    let file = NodeLog::open(home).map_err(CliError::io(&log))?.into_file();
    let before = file.metadata().map_err(CliError::io(&log))?.len();
    let own = std::env::current_exe().map_err(CliError::io("/proc/self/exe"))?;
    let instead = |word: OsString| if word == "--detach" { "--detached".into() } else { word };
    let mut child = Command::new(&own)
        .args(std::env::args_os().skip(1).map(instead))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(CliError::io(&own))?;
    let mut is_ready = false;
    if let Some(said) = child.stdout.take() {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            is_ready = line == READY;
            if is_ready {
                break;
            }
            stderr::write_line(line);
        }
    }
    if is_ready {
        stderr::write_line(format_args!(
            "mesh: it goes on in the background as process {}; mesh stop ends it",
            child.id()
        ));
        return Ok(());
    }
    let status = child.wait().map_err(CliError::io(&own))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::INTERNAL);
    let said = read_from(&log, before).unwrap_or_default();
    let last = said.lines().rfind(|line| line.starts_with("mesh: ")).unwrap_or("mesh: it ended");
    Err(CliError::new(code, last.trim_start_matches("mesh: "))
        .hint(format!("{} has all that it said", log.display())))
}

fn read_from(log: &Path, at: u64) -> io::Result<String> {
    let mut file = files::open(log, File::options().read(true))?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whoever started us and waits; nobody, if we run in the foreground.
pub(crate) struct Starter {
    waits: bool,
}

impl Starter {
    /// A detached node leaves the terminal's session first.
    pub(crate) fn new(detached: bool) -> Self {
        if detached {
            // It fails for the leader of a session alone, who has one of its own.
            let _ = rustix::process::setsid();
        }
        Self { waits: detached }
    }

    /// If it has gone, we do not mind.
    pub(crate) fn tell(&self, line: &str) {
        if self.waits {
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    pub(crate) fn ready(&mut self) {
        self.tell(READY);
        self.waits = false;
    }
}
