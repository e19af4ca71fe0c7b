//! What a node does for others, as it is known and as it is put into words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use mesh_node::api::Heard;
use mesh_node::claims::JobEvent;
use mesh_node::node::NodeEvent;
use mesh_protocol::name::ThunkName;
use mesh_protocol::owner::Reason;
use mesh_protocol::peer::PeerId;

use super::describe;
use super::render::{BOLD, DIM, RED, STEPS_SHOWN, push_line};

/// Lines that wait for a terminal; when there are more, the oldest go.
const NEWS_MAX: usize = 1024;

/// What is known.
#[derive(Default)]
pub(super) struct Serving {
    running: BTreeMap<(PeerId, ThunkName), Running>,
    done: u64,
    failed: u64,
    members: BTreeSet<PeerId>,
    held: Option<Reason>,
    news: VecDeque<String>,
}

struct Running {
    since: Instant,
    /// Whose it is, and what it does.
    text: String,
}

impl Serving {
    /// Counts what happened.
    pub(super) fn take(&mut self, now: Instant, heard: &Heard) {
        match heard {
            Heard::Job(requester, JobEvent::Started { peer, name, thunk }) => {
                let text = format!("{requester}: {}", describe(*name, thunk));
                self.running.insert((*peer, *name), Running { since: now, text });
            }
            Heard::Job(_, JobEvent::Ended { peer, name, failure }) => {
                self.running.remove(&(*peer, *name));
                match failure {
                    Some(_) => self.failed += 1,
                    None => self.done += 1,
                }
            }
            Heard::Node(NodeEvent::Connected(peer, _)) => drop(self.members.insert(*peer)),
            Heard::Node(NodeEvent::Disconnected(peer)) => drop(self.members.remove(peer)),
            Heard::Held(reason) => self.held = *reason,
            _ => {}
        }
    }

    /// A line for above the block.
    pub(super) fn say(&mut self, line: String) {
        if self.news.len() >= NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back(line);
    }

    pub(super) fn take_news(&mut self) -> VecDeque<String> {
        std::mem::take(&mut self.news)
    }
}

/// The live block, lines that end in `\n` and take less than `width` columns.
///
/// ```text
/// 2 running for others  41 done  3 members here
///   12.3s desk: cc src/foo.c
///    0.5s lab: cc src/bar.c
/// ```
pub(super) fn render(serving: &Serving, now: Instant, width: usize, colour: bool) -> String {
    let mut block = String::new();
    let head = format!("{} running", serving.running.len());
    let style = if serving.held.is_some() { RED } else { BOLD };
    push_line(&mut block, &head, &status(serving), width, colour.then_some(style));
    let mut running: Vec<&Running> = serving.running.values().collect();
    running.sort_by_key(|running| running.since);
    for Running { since, text } in running.into_iter().take(STEPS_SHOWN) {
        let age = format!("{:>6.1}s", now.saturating_duration_since(*since).as_secs_f64());
        push_line(&mut block, &age, &format!(" {text}"), width, colour.then_some(DIM));
    }
    block
}

fn status(serving: &Serving) -> String {
    let held = serving.held.map(|reason| format!("  gives nothing: {reason}")).unwrap_or_default();
    let mut text = format!(" for others{held}  {} done", serving.done);
    if serving.failed > 0 {
        text += &format!("  {} came to nothing", serving.failed);
    }
    let members = serving.members.len();
    text += &format!("  {members} member{} here", if members == 1 { "" } else { "s" });
    text
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
