//! Which system calls a job cannot make.
//!
//! A list of what is denied, not of what is allowed: the namespaces keep the job apart, and the
//! filter takes away those doors into the kernel that no build step needs and through which
//! namespaces were broken before. A denied call fails as it would for lack of permission, or as
//! if the kernel did not have it, so that libraries fall back on what they did before it existed.

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Calls that fail with `EPERM` for jobs, but with which the launcher makes their sandboxes. So does
/// [`libc::SYS_clone`] with [`NEW_NAMESPACES`].
const DENIED_TO_JOBS: &[libc::c_long] =
    &[libc::SYS_mount, libc::SYS_pivot_root, libc::SYS_setns, libc::SYS_umount2, libc::SYS_unshare];

/// Calls that fail with `EPERM` for the launcher, too.
const DENIED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Calls that fail with `ENOSYS`: libraries probe for them. (`clone3` has its flags in memory,
/// where a filter cannot look; without it, libraries use `clone`.)
const MISSING: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

#[cfg(target_arch = "x86_64")]
mod architecture {
    use seccompiler::TargetArch;

    pub(super) const TARGET: TargetArch = TargetArch::x86_64;

    /// The second, x32 way into the same calls.
    pub(super) const OTHER_NUMBERS: Option<libc::c_long> = Some(0x4000_0000);

    pub(super) const DENIED: &[libc::c_long] = &[
        libc::SYS_ioperm,
        libc::SYS_iopl,
        libc::SYS_modify_ldt,
        libc::SYS_uselib,
        libc::SYS__sysctl,
        libc::SYS_ustat,
        // x32 has its own number for this one.
        0x4000_0000 + 528, // kexec_load
    ];
}

#[cfg(target_arch = "aarch64")]
mod architecture {
    use seccompiler::TargetArch;

    pub(super) const TARGET: TargetArch = TargetArch::aarch64;
    pub(super) const OTHER_NUMBERS: Option<libc::c_long> = None;
    pub(super) const DENIED: &[libc::c_long] = &[];
}

const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Installs what is denied to the launcher, too, for it and all that it makes; sets `no_new_privs`.
///
/// Once, and not for each job: to find out which calls it always allows, the kernel runs a new filter
/// once for each call that there is, and this one is long.
pub(super) fn install_for_launcher() -> Result<(), seccompiler::Error> {
    let mut denied = Rules::new();
    for &call in DENIED.iter().chain(architecture::DENIED) {
        denied.insert(call, Vec::new());
    }
    let terminal =
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::TIOCSTI)?;
    denied.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![terminal])?]);
    denied.extend(other_numbers(&denied));
    denied.extend(other_numbers(&for_jobs()?));
    let mut missing: Rules = MISSING.iter().map(|&call| (call, Vec::new())).collect();
    missing.extend(other_numbers(&missing));
    seccompiler::apply_filter(&program(denied, Errno::PERM)?)?;
    seccompiler::apply_filter(&program(missing, Errno::NOSYS)?)
}

/// The filter of a job, ready to be installed.
pub(super) struct JobFilter(BpfProgram);

impl JobFilter {
    /// Compiles it; once per launcher.
    pub(super) fn compile() -> Result<Self, BackendError> {
        program(for_jobs()?, Errno::PERM).map(Self)
    }

    /// Installs it for this process and all that it makes.
    pub(super) fn install(&self) -> Result<(), seccompiler::Error> {
        seccompiler::apply_filter(&self.0)
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn for_jobs() -> Result<Rules, BackendError> {
    let mut denied: Rules = DENIED_TO_JOBS.iter().map(|&call| (call, Vec::new())).collect();
    denied.insert(libc::SYS_clone, namespace_rules()?);
    Ok(denied)
}

/// The same for the second way into the same calls, where there is one.
fn other_numbers(rules: &Rules) -> Rules {
    let other = |offset| rules.iter().map(move |(call, when)| (call | offset, when.clone()));
    architecture::OTHER_NUMBERS.into_iter().flat_map(other).collect()
}

/// One rule per flag: a call is denied if any of them is set.
fn namespace_rules() -> Result<Vec<SeccompRule>, BackendError> {
    let flags = (0..32).map(|bit| 1_u64 << bit).filter(|flag| NEW_NAMESPACES as u64 & flag != 0);
    flags
        .map(|flag| {
            let set = SeccompCmpOp::MaskedEq(flag);
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, set, flag)?])
        })
        .collect()
}

fn program(rules: Rules, errno: Errno) -> Result<BpfProgram, BackendError> {
    let fail = SeccompAction::Errno(errno.raw_os_error() as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, fail, architecture::TARGET)?.try_into()
}
