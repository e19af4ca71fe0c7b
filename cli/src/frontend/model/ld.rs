//! The linker, called directly.

use std::path::Path;

use super::super::context::{Context, OutputKind};
use super::super::ldargs::{self, LinkLine};
use super::super::libraries::Libraries;
use super::super::plan::PlannedThunk;
use super::super::probe::Compiler;
use super::super::reason::{LocalReason, Step};
use super::super::writing::Writing;
use super::{check_probe, finish_utility, require_plugins};

pub(super) fn plan(mut context: Context<'_>, words: Vec<String>) -> Step<PlannedThunk> {
    let line = ldargs::parse(&words)?;
    if line.items.is_empty() {
        return Err(LocalReason::Unclear("no input files").into());
    }
    let linker = Compiler::at(&context.program)?;
    let defaults = default_directories(&context, &linker)?;
    let output = line.output.clone().unwrap_or_else(|| "a.out".to_owned());
    check_probe(&output)?;
    for name in ["LD_RUN_PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH"] {
        if context.variable(name).is_some() {
            return Err(LocalReason::Environment(name.to_owned()).into());
        }
    }
    require_plugins(&mut context);
    collect(&mut context, &line, &defaults)?;
    let writing = writing_of(&context.program);
    let kind = OutputKind { required: true, executable: !line.relocatable, writing };
    context.output("out", &output, kind)?;
    finish_utility(context, words, "ld", &output)
}

/// Shows everything that a link reads, and declares what it leaves beside its program.
pub(super) fn collect(context: &mut Context<'_>, line: &LinkLine, defaults: &[String]) -> Step<()> {
    for input in &line.inputs {
        context.input(input)?;
    }
    for (tag, path) in &line.outputs {
        let is_object = *tag == "implib";
        let writing = if is_object { Writing::ReplaceUnlessEmpty } else { Writing::InPlace };
        context.output(tag, path, OutputKind::file(writing))?;
    }
    let mut libraries = Libraries::new(context, line, defaults);
    for script in &line.scripts {
        libraries.script_file(script, ".")?;
    }
    libraries.collect()
}

/// How this linker writes its program.
pub(super) fn writing_of(linker: &Path) -> Writing {
    let real = linker.canonicalize().unwrap_or_else(|_| linker.to_owned());
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    // `ld.lld` leads to `lld`, and may itself be what `ld` leads to.
    if name.contains("lld") { Writing::Replace } else { Writing::ReplaceUnlessEmpty }
}

/// The directories that the linker adds itself: the `SEARCH_DIR`s of its built-in script.
pub(super) fn default_directories(context: &Context<'_>, linker: &Compiler) -> Step<Vec<String>> {
    let answer = context.prober().ask(linker, &["--verbose"])?;
    let built_in = answer.stdout.split("SEARCH_DIR(\"").skip(1);
    let directories = built_in.filter_map(|rest| rest.split('"').next().map(str::to_owned));
    Ok(directories.collect())
}
