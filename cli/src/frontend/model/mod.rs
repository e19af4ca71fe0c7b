//! What each tool does with its arguments: one tool, one file.

mod ar;
mod r#as;
mod gcc;
mod ld;
mod ranlib;
mod strip;

use super::context::{Context, Draft};
use super::environment::{For, environment};
use super::plan::PlannedThunk;
use super::probe::Compiler;
use super::reason::{LocalReason, Step};
use super::response;
use super::tool::Tool;

pub(crate) use r#as::is_harmless as is_harmless_for_as;

/// What compilers are told where `strip_colour_unless_tty` is set.
pub(crate) const COLOUR: &str = "-fdiagnostics-color=always";

/// Plans a call of the tool.
pub(crate) fn plan(tool: Tool, context: Context<'_>) -> Step<PlannedThunk> {
    check_place(&context)?;
    let words = context.call.arguments.get(1..).unwrap_or_default();
    let words = response::expand(&context, words)?;
    match tool {
        Tool::CompilerC => gcc::plan(context, words, false),
        Tool::CompilerCxx => gcc::plan(context, words, true),
        Tool::Archiver => ar::plan(context, words),
        Tool::Assembler => r#as::plan(context, words),
        Tool::Linker => ld::plan(context, words),
        Tool::Ranlib => ranlib::plan(context, words),
        Tool::Strip => strip::plan(context, words),
    }
}

/// Finishes the plan of one of the binary utilities: it is called as it was called here.
fn finish_utility(
    mut context: Context<'_>,
    words: Vec<String>,
    verb: &str,
    subject: &str,
) -> Step<PlannedThunk> {
    let environment = environment(&mut context, For::Binutils)?;
    let name = context.call.arguments.first().cloned();
    let mut arguments = vec![name.ok_or(LocalReason::Unclear("no arguments at all"))?];
    arguments.extend(words);
    let description = format!("{verb} {subject}");
    context.finish(Draft { arguments, environment, strip_colour_unless_tty: false, description })
}

/// Where binutils look for plugins: beside themselves (`bfd/plugin.c`). GCC's own is shown, so
/// that objects for link-time optimisation are understood.
const PLUGIN_DIRECTORIES: &[&str] =
    &["/usr/lib/bfd-plugins", "/usr/lib/x86_64-linux-gnu/bfd-plugins"];

fn require_plugins(context: &mut Context<'_>) {
    for directory in PLUGIN_DIRECTORIES {
        for name in ["liblto_plugin.so", "libdep.so"] {
            let path = std::path::Path::new(directory).join(name);
            if path.exists() {
                context.roots.insert(path);
            }
        }
    }
}

/// Does `tool --help` say that it writes no times unless asked to (`-D` is its default)?
fn is_deterministic(context: &Context<'_>, marker: &str) -> Step<()> {
    let tool = Compiler::at(&context.program)?;
    let answer = context.prober().ask(&tool, &["--help"])?;
    let says = |text: &str| {
        let mut after = text.lines().skip_while(|line| !line.contains(marker)).take(2);
        after.any(|line| line.contains("(default)"))
    };
    if says(&answer.stdout) || says(&answer.stderr) {
        return Ok(());
    }
    Err(LocalReason::NotDeterministic(context.program.display().to_string()).into())
}

/// Where CMake (`try_compile`) and Meson (`cc.compiles`) build what they ask compilers about: in
/// directories whose names never come again.
const PROBE_DIRECTORIES: &[&str] = &["CMakeScratch", "CMakeTmp", "meson-private"];

/// The same from where a generator makes its probes.
fn check_place(context: &Context<'_>) -> Step<()> {
    let cwd = &context.call.working_directory;
    let is_probe = |part: std::path::Component<'_>| {
        PROBE_DIRECTORIES.iter().any(|name| part.as_os_str() == *name)
    };
    match cwd.components().any(is_probe) {
        true => Err(LocalReason::Conftest.into()),
        false => Ok(()),
    }
}

/// A probe of a configure script is over sooner here.
fn check_probe(path: &str) -> Step<()> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("conftest") {
        return Err(LocalReason::Conftest.into());
    }
    Ok(())
}

/// A source in a temporary directory is a probe, or what a compiler gives its assembler: it has a
/// name that never comes again.
fn check_temporary(context: &Context<'_>, path: &str) -> Step<()> {
    let temporary = context.variable("TMPDIR").into_iter().chain(["/tmp", "/var/tmp"]);
    let cwd = context.view.path_of(context.cwd);
    let place = context.place(path)?;
    for directory in temporary.map(|path| path.trim_end_matches('/')) {
        // A whole project may lie in a temporary directory: then the call comes from there.
        let entry = |path: &str| {
            let rest = path.strip_prefix(directory)?.strip_prefix('/')?;
            Some(rest.split('/').next().unwrap_or_default().to_owned())
        };
        if let Some(own) = entry(&place.real)
            && entry(&cwd) != Some(own)
        {
            return Err(LocalReason::TemporarySource(path.to_owned()).into());
        }
    }
    Ok(())
}
