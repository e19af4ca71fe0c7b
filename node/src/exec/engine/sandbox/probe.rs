//! Trying, one by one, what sandboxes are made of: in a process of its own, because what is tried
//! cannot be undone, and whoever asks has threads.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::filter::{self, JobFilter};
use super::launcher::{NAMESPACES as NAMESPACES_OF_JOBS, begin};
use super::message::{self, Step, StepError};
use super::network::JobNetwork;
use super::process::{self, Cloned, SingleThreaded};
use super::score::Score;
use super::{base, build};

/// What the probing process is called, in `argv[0]`.
pub(super) const PROBE_NAME: &str = "mesh-probe";

/// One thing that was tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probed {
    /// What.
    pub(crate) name: String,
    /// The error number; none: it works.
    pub(crate) errno: Option<i32>,
    /// At which step of several.
    pub(crate) step: Option<String>,
}

const NAMESPACES: [(&str, libc::c_int); 7] = [
    ("user namespaces", 0),
    ("mount namespaces", libc::CLONE_NEWNS),
    ("process namespaces", libc::CLONE_NEWPID),
    ("network namespaces", libc::CLONE_NEWNET),
    ("ipc namespaces", libc::CLONE_NEWIPC),
    ("host name namespaces", libc::CLONE_NEWUTS),
    ("control group namespaces", libc::CLONE_NEWCGROUP),
];

/// Starts the probing process and gives what it found out.
pub(crate) fn probe() -> std::io::Result<Vec<Probed>> {
    let (near, far) = message::socket_pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(PROBE_NAME)
        .env_clear()
        .stdin(far)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let received = message::receive::<Vec<Probed>>(&near)?;
    drop(near);
    child.wait()?;
    match received {
        Some((probed, _)) => Ok(probed),
        None => {
            Err(std::io::Error::other("the program does not begin with run_launcher_if_asked()"))
        }
    }
}

/// The probing process.
pub(super) fn run() -> i32 {
    let Ok((single, control)) = begin() else { return 2 };
    process::reset_signals();
    let dropped = base::drop_root();
    let mut probed = Vec::new();
    for (name, flags) in NAMESPACES {
        try_it(&mut probed, &single, name, flags, || Ok(()));
    }
    let mount = libc::CLONE_NEWNS;
    try_it(&mut probed, &single, "file systems in memory", mount, mount_memory);
    try_it(&mut probed, &single, "overlays", mount, mount_overlay);
    try_it(&mut probed, &single, "a private /proc", mount | libc::CLONE_NEWPID, mount_processes);
    try_it(&mut probed, &single, "loopback", libc::CLONE_NEWNET, || {
        process::loopback_up().step("bring the loopback up")
    });
    try_it(&mut probed, &single, "system call filters", 0, || {
        let filter = JobFilter::compile().map_err(|_| Errno::INVAL).step("compile")?;
        filter::install_for_launcher().map_err(|_| Errno::NOSYS).step("install")?;
        filter.install().map_err(|_| Errno::NOSYS).step("install")
    });
    try_it(&mut probed, &single, "system call notification", 0, || {
        process::has_user_notification().step("ask")
    });
    try_it(&mut probed, &single, "memory scores", 0, || {
        if Score::open().works() { Ok(()) } else { Err(Errno::ACCESS).step("raise and lower") }
    });
    try_it(&mut probed, &single, "a host name", 0, || base::name_host(&single));
    if let Err(error) = dropped {
        probed.push(Probed {
            name: "stop being root".to_owned(),
            errno: Some(error.errno),
            step: None,
        });
    }
    probed.push(whole(&single));
    i32::from(message::send(&control, &probed, &[]).is_err())
}

/// Tries something in a child in a new user namespace. The child's exit status is the error.
fn try_it(
    probed: &mut Vec<Probed>,
    single: &SingleThreaded,
    name: &str,
    flags: libc::c_int,
    attempt: impl FnOnce() -> Result<(), StepError>,
) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let errno = match process::clone(flags | libc::CLONE_NEWUSER, single) {
        Ok(Cloned::Child) => {
            let tried = base::map(user, group).and_then(|()| attempt());
            process::exit(tried.map_or_else(|error| error.errno, |()| 0));
        }
        Ok(Cloned::Parent { .. }) => match process::reap(true) {
            Ok(Some(ended)) => ended.status >> 8,
            _ => Errno::CHILD.raw_os_error(),
        },
        Err(errno) => errno.raw_os_error(),
    };
    probed.push(Probed { name: name.to_owned(), errno: (errno != 0).then_some(errno), step: None });
}

/// Makes one sandbox as the engine makes all, with nothing in it, over a directory that stands for the store.
fn whole(single: &SingleThreaded) -> Probed {
    let name = "a whole sandbox".to_owned();
    let failed = |error: StepError| Probed {
        name: name.clone(),
        errno: Some(error.errno),
        step: Some(error.step),
    };
    let (near, far) = match message::socket_pair().step("make a socket") {
        Ok(pair) => pair,
        Err(error) => return failed(error),
    };
    match process::clone(0, single) {
        Ok(Cloned::Child) => {
            drop(near);
            let made = rustix::process::chdir("/").step("enter /").and_then(|()| make(single));
            let sent = message::send(&far, &made.err(), &[]);
            process::exit(i32::from(sent.is_err()));
        }
        Ok(Cloned::Parent { .. }) => drop(far),
        Err(errno) => {
            return failed(StepError {
                step: "make a process".to_owned(),
                errno: errno.raw_os_error(),
            });
        }
    }
    let received = message::receive::<Option<StepError>>(&near);
    // It has said all that it had to say.
    let _ = process::reap(true);
    match received {
        Ok(Some((None, _))) => Probed { name, errno: None, step: None },
        Ok(Some((Some(error), _))) => failed(error),
        Ok(None) => failed(StepError {
            step: "hear how it went".to_owned(),
            errno: Errno::PIPE.raw_os_error(),
        }),
        Err(errno) => {
            failed(StepError { step: "hear how it went".to_owned(), errno: errno.raw_os_error() })
        }
    }
}

/// What the launcher does once, and then what the first process of a sandbox does.
fn make(single: &SingleThreaded) -> Result<(), StepError> {
    base::enter(single, None)?;
    let filter = JobFilter::compile().map_err(|_| Errno::INVAL).step("compile the filter")?;
    filter::install_for_launcher().map_err(|_| Errno::NOSYS).step("filter system calls")?;
    JobNetwork::make(single).step("make a network namespace")?;
    match process::clone(NAMESPACES_OF_JOBS, single).step("make a process")? {
        Cloned::Child => {
            let built = build::begin(1 << 20).and_then(|()| build::build_empty());
            let done =
                built.and_then(|()| filter.install().map_err(|_| Errno::NOSYS).step("filter"));
            process::exit(done.map_or_else(|error| error.errno, |()| 0));
        }
        Cloned::Parent { .. } => {}
    }
    match process::reap(true).step("wait for it")? {
        Some(ended) if ended.status != 0 => {
            Err(Errno::from_raw_os_error(ended.status >> 8)).step("build a file system")
        }
        _ => Ok(()),
    }
}

fn mount_memory() -> Result<(), StepError> {
    rustix::mount::mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), c"size=1m").step("mount")
}

fn mount_overlay() -> Result<(), StepError> {
    mount_memory()?;
    for directory in ["lower", "upper", "work", "root"] {
        std::fs::create_dir(format!("/tmp/{directory}")).step("make a directory")?;
    }
    let options = c"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
    rustix::mount::mount("overlay", "/tmp/root", "overlay", MountFlags::empty(), options)
        .step("mount")
}

fn mount_processes() -> Result<(), StepError> {
    rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), c"subset=pid").step("mount")
}
