//! The archive indexer: it changes an archive in place.

use super::super::context::{Context, OutputKind};
use super::super::plan::PlannedThunk;
use super::super::reason::{LocalReason, Step};
use super::super::writing::Writing;
use super::ar::existing_archive;
use super::{finish_utility, is_deterministic, require_plugins};

pub(super) fn plan(mut context: Context<'_>, words: Vec<String>) -> Step<PlannedThunk> {
    let mut archives = Vec::new();
    let mut deterministic = None;
    for word in &words {
        match word.as_str() {
            "-D" => deterministic = Some(true),
            "-U" => deterministic = Some(false),
            // `-t` sets the archive's time only.
            word if word.starts_with('-') => {
                return Err(LocalReason::Option(word.to_owned()).into());
            }
            _ => archives.push(word.clone()),
        }
    }
    match deterministic {
        Some(true) => {}
        Some(false) => return Err(LocalReason::NotDeterministic("ranlib -U".to_owned()).into()),
        None => is_deterministic(&context, "-D")?,
    }
    if archives.is_empty() {
        return Err(LocalReason::Unclear("ranlib without an archive").into());
    }
    require_plugins(&mut context);
    for archive in &archives {
        if !existing_archive(&mut context, archive)? {
            return Err(LocalReason::Missing(archive.clone()).into());
        }
        context.output("out", archive, OutputKind::file(Writing::InPlace))?;
    }
    let subject = archives.join(" ");
    finish_utility(context, words, "ranlib", &subject)
}
