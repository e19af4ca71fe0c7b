//! Recordings as scenarios: what would that build have taken on these machines?

use std::path::Path;

use crate::config::{ConfigError, Document};
use crate::workload::{Recorded, Trace};

/// A build that was recorded, on machines like the one that recorded it.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// Other machines that help.
    pub hosts: u64,
    /// Of each machine's link, in each direction, with its unit: `100 Mbit/s`.
    pub bandwidth: &'a str,
    /// Of each machine's link, and how long a lease is on its way: `5 ms`.
    pub latency: &'a str,
    /// The policy, by its name in scenarios.
    pub policy: &'a str,
}

impl Replay<'_> {
    /// The scenario, and what the recording says about the build itself.
    ///
    /// The machine that recorded holds every source; the others begin with nothing. All have its
    /// cores and speed, and take as long for a sandbox as it did.
    pub fn document(&self, trace: &Path) -> Result<(Document, Recorded), ConfigError> {
        let wrong = |problem: String| ConfigError::file(trace.display(), problem);
        let recorded = Trace::open(trace).map_err(wrong)?.recorded();
        let file = trace.to_str().ok_or_else(|| wrong("its name is no text".to_owned()))?;
        let text = self.text(file, &recorded);
        Ok((Document::parse(&text, "the replay", Path::new(""))?, recorded))
    }

    fn text(&self, file: &str, recorded: &Recorded) -> String {
        let Recorded { slots, start_s, .. } = recorded;
        let Self { hosts, bandwidth, latency, policy } = self;
        let [file, bandwidth, latency, policy] = [file, bandwidth, latency, policy].map(quoted);
        let machine = format!(
            "cores = {slots}\nstart = {start_s:?}\n\
             access = {{ bandwidth = {bandwidth}, latency = {latency} }}\n"
        );
        let mut text = format!(
            "title = \"A recorded build on {} machines\"\n\
             fidelity = \"flow\"\nseeds = 1\n\n\
             [platform]\ncontrol = {latency}\n\n\
             [[platform.hosts]]\nname = \"here\"\n{machine}\n",
            hosts + 1
        );
        if *hosts > 0 {
            text += &format!("[[platform.hosts]]\nname = \"others\"\ncount = {hosts}\n{machine}\n");
        }
        text += &format!(
            "[workload]\nkind = \"trace\"\nfile = {file}\n\n[policy]\nname = {policy}\nestimates = \"blind\"\nahead = 1\n"
        );
        text
    }
}

/// As TOML writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\U{:08X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Scenario;

    fn steps() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/traces/steps.json")
    }

    const ALONE: Replay<'_> =
        Replay { hosts: 0, bandwidth: "1 Gbit/s", latency: "1 ms", policy: "critical-path" };

    fn makespan(replay: Replay<'_>, settings: &[&str]) -> f64 {
        let (mut document, _) = replay.document(&steps()).unwrap();
        settings.iter().for_each(|setting| document.set(setting).unwrap());
        Scenario::read(&document).unwrap().run(1).unwrap().summary.makespan
    }

    /// The recording itself is what the replay on the same machine is held against. That machine took
    /// its runs in the order of the makefile.
    #[test]
    fn the_same_machine_takes_what_it_took() {
        let (_, recorded) = ALONE.document(&steps()).unwrap();
        let replayed = makespan(Replay { policy: "fifo", ..ALONE }, &[]);
        let ratio = replayed / recorded.makespan_s;
        assert!((0.98..1.02).contains(&ratio), "{replayed} s, recorded {} s", recorded.makespan_s);
    }

    #[test]
    fn more_machines_help_and_a_slow_network_does_not() {
        let helped = Replay { hosts: 3, ..ALONE };
        let slow = Replay { bandwidth: "20 Mbit/s", ..helped };
        let (alone, helped, slow) =
            (makespan(ALONE, &[]), makespan(helped, &[]), makespan(slow, &[]));
        assert!(helped < 0.8 * alone, "{helped} {alone}");
        // 45 MB of compiler are 18 s on the way: others should have been left out.
        assert!(slow > 18.0, "{slow}");
    }

    #[test]
    fn any_path_and_setting_is_text() {
        let text =
            ALONE.text("a\"b\\c\n\u{7f}.json", &Recorded { slots: 2, ..Recorded::default() });
        let document = Document::parse(&text, "a", Path::new("")).unwrap();
        let workload = document.root().section("workload").unwrap().unwrap();
        assert_eq!(workload.text("file").unwrap(), Some("a\"b\\c\n\u{7f}.json"));
        let wrong = Replay { bandwidth: "much", ..ALONE }.document(&steps()).unwrap().0;
        let error = Scenario::read(&wrong).unwrap_err().to_string();
        assert!(error.contains("access.bandwidth: \"much\""), "{error}");
    }
}
