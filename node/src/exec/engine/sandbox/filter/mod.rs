//! Which system calls a job can make.
//!
//! A list of what is allowed: what build steps call, and no more. A call that is forbidden fails with
//! `EPERM`; one that is not known fails with `ENOSYS`, so that libraries fall back on what they did before
//! it existed. Calls of other architectures kill the process; those of x32 have numbers of their own and
//! so are not known.
//!
//! Three filters: a filter of the launcher lets through what jobs and the launcher call, a second forbids, and a
//! third forbids jobs what only the launcher needs. The kernel runs all, the last one first, and keeps the first
//! error: seccomp(2).

mod calls;

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use self::calls::{ALLOWED, FORBIDDEN, OF_LAUNCHER, architecture};

const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The families of sockets that a job can make. The others reach the hypervisor (`AF_VSOCK`), the kernel's own
/// ciphers (`AF_ALG`), and drivers.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// What a job can speak over the Internet families. A socket for another one makes the kernel load the
/// module of that protocol.
const PROTOCOLS: [libc::c_int; 5] =
    [0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6];

/// Values of personality(2) that change nothing but what the process itself sees: the usual one, the one that
/// asks, names of older kernels and machines, and addresses that are not randomised (sanitizers, debuggers).
const PERSONALITIES: [libc::c_int; 6] =
    [0, -1, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, ADDR_NO_RANDOMIZE];

// linux/personality.h
const PER_LINUX32: libc::c_int = 0x8;
const UNAME26: libc::c_int = 0x2_0000;
const ADDR_NO_RANDOMIZE: libc::c_int = 0x4_0000;

/// Installs what holds for the launcher, too, for it and all that it makes; sets `no_new_privs`.
///
/// Once, and not for each job: to find out which calls it always allows, the kernel runs a new filter
/// once for each call that there is, and this one is long.
pub(super) fn install_for_launcher() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&allowing()?)?;
    seccompiler::apply_filter(&forbidding(forbidden()?)?)
}

/// The filter of a job, ready to be installed.
pub(super) struct JobFilter(BpfProgram);

impl JobFilter {
    /// Compiles it; once per launcher.
    pub(super) fn compile() -> Result<Self, BackendError> {
        forbidding(for_jobs()?).map(Self)
    }

    /// Installs it for this process and all that it makes.
    pub(super) fn install(&self) -> Result<(), seccompiler::Error> {
        seccompiler::apply_filter(&self.0)
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Without rules a call always matches.
fn unconditional(calls: &[libc::c_long]) -> impl Iterator<Item = (i64, Vec<SeccompRule>)> + '_ {
    calls.iter().map(|&call| (call, Vec::new()))
}

/// Lets through what is known, with whatever arguments: [`forbidding`] looks at these.
fn allowing() -> Result<BpfProgram, BackendError> {
    let known = ALLOWED.iter().chain([&architecture::ALLOWED, &OF_LAUNCHER]);
    let rules: Rules = known.flat_map(|calls| unconditional(calls)).collect();
    let missing = SeccompAction::Errno(Errno::NOSYS.raw_os_error() as u32);
    SeccompFilter::new(rules, missing, SeccompAction::Allow, architecture::TARGET)?.try_into()
}

fn forbidding(rules: Rules) -> Result<BpfProgram, BackendError> {
    let fail = SeccompAction::Errno(Errno::PERM.raw_os_error() as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, fail, architecture::TARGET)?.try_into()
}

fn forbidden() -> Result<Rules, BackendError> {
    let mut rules: Rules =
        unconditional(FORBIDDEN).chain(unconditional(architecture::FORBIDDEN)).collect();
    let injections = [libc::TIOCSTI, libc::TIOCLINUX];
    let injection = |request| rule([is(1, request as libc::c_int)?]);
    rules.insert(libc::SYS_ioctl, injections.into_iter().map(injection).collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_personality, vec![rule(none_of(0, &PERSONALITIES)?)?]);
    rules.insert(libc::SYS_socketpair, vec![rule(none_of(0, &[libc::AF_UNIX])?)?]);
    rules.insert(libc::SYS_socket, sockets()?);
    Ok(rules)
}

/// Of the netlink family only what says which addresses there are (`NETLINK_ROUTE`).
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let mut netlink = none_of(2, &[libc::NETLINK_ROUTE])?;
    netlink.push(is(0, libc::AF_NETLINK)?);
    let mut rules = vec![rule(none_of(0, &FAMILIES)?)?, rule(netlink)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut protocol = none_of(2, &PROTOCOLS)?;
        protocol.push(is(0, family)?);
        rules.push(rule(protocol)?);
    }
    Ok(rules)
}

fn for_jobs() -> Result<Rules, BackendError> {
    let mut denied: Rules = unconditional(OF_LAUNCHER).collect();
    denied.insert(libc::SYS_clone, namespace_rules()?);
    // Its flags are in memory, where a filter cannot look; without it, libraries use `clone`. It is in
    // no list.
    Ok(denied)
}

/// One rule per flag: a call is denied if any of them is set.
fn namespace_rules() -> Result<Vec<SeccompRule>, BackendError> {
    let flags = (0..32).map(|bit| 1_u64 << bit).filter(|flag| NEW_NAMESPACES as u64 & flag != 0);
    flags
        .map(|flag| {
            let set = SeccompCmpOp::MaskedEq(flag);
            rule([SeccompCondition::new(0, Qword, set, flag)?])
        })
        .collect()
}

/// All of these.
fn rule(conditions: impl Into<Vec<SeccompCondition>>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into())
}

fn is(argument: u8, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, u64::from(value as u32))
}

fn none_of(argument: u8, values: &[libc::c_int]) -> Result<Vec<SeccompCondition>, BackendError> {
    let other = |value: &libc::c_int| {
        SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, u64::from(*value as u32))
    };
    values.iter().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_one_list() {
        let all = ALLOWED.iter().chain([
            &architecture::ALLOWED,
            &OF_LAUNCHER,
            &FORBIDDEN,
            &architecture::FORBIDDEN,
        ]);
        let mut seen = std::collections::BTreeSet::new();
        for call in all.flat_map(|calls| calls.iter()) {
            assert!(seen.insert(call), "{call} is listed twice");
        }
        assert!(!seen.contains(&libc::SYS_clone3));
    }

    #[test]
    fn the_filters_compile() {
        allowing().unwrap();
        forbidding(forbidden().unwrap()).unwrap();
        JobFilter::compile().unwrap();
    }
}
