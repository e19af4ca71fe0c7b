//! Which variables reach a thunk, and which keep a call here.

use std::collections::BTreeMap;
use std::path::Path;

use super::closure::Closure;
use super::context::Context;
use super::identity::Stamp;
use super::reason::{LocalReason, Step};

/// Set to anything, they have effects on a compiler that are not modelled.
const KEEP_HERE_COMPILER: &[&str] = &[
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "GCC_COMPARE_DEBUG",
    "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
    "EXPERIMENTAL_SARIF_SOCKET",
    "CCC_OVERRIDE_OPTIONS",
    "CLANG_CONFIG_FILE_USER_DIR",
    "CLANG_CONFIG_FILE_SYSTEM_DIR",
];

/// Set to anything, they have effects on every tool that are not modelled.
const KEEP_HERE_ALL: &[&str] = &["LOCPATH", "NLSPATH", "GCONV_PATH", "LD_AUDIT", "LDEMULATION"];

/// They matter to a compiler, and can be passed on.
const PASSED_COMPILER: &[&str] = &[
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
    "SOURCE_DATE_EPOCH",
    "GCC_COLORS",
];

/// They matter to a link.
const PASSED_LINK: &[&str] = &["LIBRARY_PATH", "LD_RUN_PATH"];

/// What kind of tool it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Compile,
    Link,
    Binutils,
}

/// The environment of a thunk, `PATH` aside; the files that its locale needs are shown.
pub(crate) fn environment(
    context: &mut Context<'_>,
    purpose: For,
) -> Step<BTreeMap<String, String>> {
    let mut kept_here = KEEP_HERE_ALL.to_vec();
    let mut passed: Vec<&str> = Vec::new();
    if purpose != For::Binutils {
        kept_here.extend(KEEP_HERE_COMPILER);
        passed.extend(PASSED_COMPILER);
    }
    if purpose == For::Link {
        passed.extend(PASSED_LINK);
    }
    if let Some(name) = kept_here.iter().find(|name| context.variable(name).is_some()) {
        return Err(LocalReason::Environment((*name).to_owned()).into());
    }
    let mut environment = BTreeMap::new();
    for name in passed {
        if let Some(value) = context.call.environment.get(name) {
            environment.insert(name.to_owned(), value.clone());
        }
    }
    environment.extend(super::locale::variables(context));
    if purpose != For::Binutils {
        environment.extend(logical_directory(context).map(|path| ("PWD".to_owned(), path)));
    }
    Ok(environment)
}

/// Compilers record `PWD` as the directory if it leads there: it differs from the real path where
/// the shell went through a symbolic link.
fn logical_directory(context: &mut Context<'_>) -> Option<String> {
    let logical = context.variable("PWD")?;
    let real = context.view.path_of(context.cwd);
    if logical == &*real || !logical.starts_with('/') {
        return None;
    }
    let same = Stamp::at(Path::new(logical))? == Stamp::at(&*real)?;
    (same && context.directory(logical) == Some(context.cwd)).then(|| logical.to_owned())
}

/// `LD_LIBRARY_PATH` does not reach a thunk; that is right unless it replaces a library of the
/// toolchain itself.
pub(crate) fn check_library_path(context: &Context<'_>, closure: &Closure) -> Step<()> {
    let Some(path) = context.variable("LD_LIBRARY_PATH") else { return Ok(()) };
    for directory in path.split([':', ';']).filter(|directory| !directory.is_empty()) {
        let cwd = context.view.path_of(context.cwd);
        let directory = Path::new(&*cwd).join(directory);
        if closure.library_names.iter().any(|name| directory.join(name).exists()) {
            return Err(LocalReason::Environment("LD_LIBRARY_PATH".to_owned()).into());
        }
    }
    Ok(())
}
