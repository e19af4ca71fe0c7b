//! From how a run went to what the machines are told: a reduction, or whose fault it is.

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_protocol::limits;
use mesh_protocol::name::ThunkName;
use mesh_protocol::sched::force::{Failure, FailureClass};
use mesh_protocol::thunk::Reduction;
use mesh_store::Store;

use crate::colour::without_colour;
use crate::exec::{EngineError, Exit, Outcome};

/// The reduction that a run came to, by this executor; or its failure in words.
pub(crate) fn judge(
    store: &Store,
    name: ThunkName,
    outcome: &Outcome,
    executor: &str,
) -> Result<Reduction, Failure> {
    if !outcome.is_success() {
        let mut reason = reason(outcome);
        if let Some(line) = telling_line(store, outcome) {
            reason = format!("{reason}: {line}");
        }
        return Err(Failure { class: FailureClass::Program, reason: reason.into() });
    }
    Ok(Reduction {
        thunk: name,
        outputs: outcome.outputs.clone(),
        stdout: outcome.stdout,
        stderr: outcome.stderr,
        usage: outcome.usage,
        executor: executor.to_owned(),
        finished_at_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
    })
}

/// A failure of this machine - or of the thunk, if no machine could run it.
pub(crate) fn machine(error: &(dyn std::error::Error + 'static)) -> Failure {
    let refused = error.downcast_ref().is_some_and(|e| matches!(e, EngineError::Refused(_)));
    let class = if refused { FailureClass::Program } else { FailureClass::Machine };
    Failure { class, reason: chain(error).into() }
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The most telling line of what a failed program said, without control characters.
fn telling_line(store: &Store, outcome: &Outcome) -> Option<String> {
    let bytes = store.read(outcome.stderr.digest(), limits::REASON_STDERR_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let telling = lines.clone().find(|line| line.contains("error") || line.contains("Error"));
    let line = telling.or_else(|| lines.next_back())?;
    let plain = without_colour(line.as_bytes());
    let plain = String::from_utf8_lossy(&plain);
    let kept = plain.chars().filter(|character| !character.is_control());
    Some(kept.take(limits::REASON_LINE_CHARS).collect())
}

fn reason(outcome: &Outcome) -> String {
    match outcome.exit {
        Exit::Code(0) => {
            let tags: Vec<&str> = outcome.missing.iter().map(|tag| tag.as_str()).collect();
            format!("it left no output #{}", tags.join(" #"))
        }
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("ended by signal {signal}"),
        Exit::TimedOut => "it ran out of time".to_owned(),
        Exit::OutOfMemory => "it ran out of memory".to_owned(),
        Exit::TooLarge(excess) => excess.to_string(),
    }
}
