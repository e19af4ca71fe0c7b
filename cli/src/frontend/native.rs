//! `-march=native` spelled out: what this machine's compiler makes of it, so that another
//! machine's does the same.

use super::context::Context;
use super::probe::{Compiler, words};
use super::reason::{LocalReason, Step};

/// Replaces every `native` of the words by what `-###` shows for it.
///
/// Debug information records the options that the compiler proper sees, in order; so the
/// replacement only counts if it sees the same ones in the same order.
pub(crate) fn spell_out(
    context: &Context<'_>,
    compiler: &Compiler,
    arguments: &[String],
    native: &[String],
) -> Step<Vec<String>> {
    if native.is_empty() {
        return Ok(arguments.to_vec());
    }
    let given = native.join(" ");
    let unclear = || LocalReason::Native(given.clone());
    let seen = proper_options(context, compiler, native)?.ok_or_else(unclear)?;
    let plain = proper_options(context, compiler, &[])?.ok_or_else(unclear)?;
    let explicit = explicit_options(&seen, &plain);
    if explicit.is_empty() || explicit.iter().any(|word| word.contains("native")) {
        return Err(unclear().into());
    }
    let mut replaced = Vec::with_capacity(arguments.len() + explicit.len());
    let mut pending = Some(explicit.clone());
    for word in arguments {
        if native.contains(word) {
            replaced.extend(pending.take().unwrap_or_default());
        } else {
            replaced.push(word.clone());
        }
    }
    let model = |words: &[String]| -> Vec<String> {
        words.iter().filter(|word| is_model_word(word)).cloned().collect()
    };
    let after = proper_options(context, compiler, &model(&replaced))?.ok_or_else(unclear)?;
    let before = proper_options(context, compiler, &model(arguments))?.ok_or_else(unclear)?;
    if canonical(&after) != canonical(&before) {
        return Err(unclear().into());
    }
    Ok(replaced)
}

/// Words that reach the compiler proper and change the order of the others.
fn is_model_word(word: &str) -> bool {
    ["-m", "-O", "-g", "-f", "-std="].iter().any(|prefix| word.starts_with(prefix))
        || word.starts_with("--param=")
}

/// The options that `cc1` gets.
fn proper_options(
    context: &Context<'_>,
    compiler: &Compiler,
    flags: &[String],
) -> Step<Option<Vec<String>>> {
    let mut arguments: Vec<&str> = vec!["-###", "-S", "-o", "/dev/null", "-x", "c", "/dev/null"];
    arguments.extend(flags.iter().map(String::as_str));
    let answer = context.prober().ask(compiler, &arguments)?;
    let line = answer.stderr.lines().find(|line| {
        let program = line.trim_start().split(' ').next().unwrap_or_default();
        program.trim_matches('"').ends_with("/cc1")
    });
    Ok(line.map(|line| words(line).into_iter().skip(1).collect()))
}

/// The machine options in `seen`, with `--param x` joined, so that they can stand anywhere.
fn explicit_options(seen: &[String], plain: &[String]) -> Vec<String> {
    let mut explicit = Vec::new();
    let mut rest = seen.iter();
    while let Some(word) = rest.next() {
        if word == "--param" {
            explicit.extend(rest.next().map(|value| format!("--param={value}")));
        } else if word.starts_with("-m") {
            explicit.push(word.clone());
        }
    }
    // What is there without being asked for comes again by itself.
    explicit.retain(|word| !plain.contains(word) || word.starts_with("-march="));
    explicit
}

/// The order that counts, without what names files.
fn canonical(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--param" => kept.extend(rest.next().map(|value| format!("--param={value}"))),
            "-quiet" => {}
            "-dumpbase" | "-dumpbase-ext" | "-dumpdir" | "-o" | "-imultiarch" => drop(rest.next()),
            other => kept.push(other.to_owned()),
        }
    }
    kept
}
