//! What is to be run: `[workload]` of a scenario becomes a [`Graph`].
//!
//! A workload is read once ([`Workload::read`]) and made into a graph for each seed
//! ([`Workload::build`]): one job, or many that arrive over time ([`Arrivals`]). Data are
//! content-addressed objects: what two tasks of one host take is fetched once.
//!
//! Left out: tasks that use several cores, outputs that are thunks of unknown shape (what a task
//! reveals is drawn when the graph is built, though no policy sees it earlier), failures of the
//! program itself.

mod arrivals;
mod generate;
mod graph;
mod recording;
mod trace;
mod wfformat;

use crate::config::{ConfigError, Section};
use crate::kernel::{Draws, Purpose};

pub use arrivals::Arrivals;
pub use graph::{Builder, Graph, Job, JobId, Object, ObjectId, ObjectOrigin, Spec, Task, TaskId};
pub use recording::Recording;
pub use trace::{Recorded, Trace};
pub use wfformat::Workflow;

use generate::{Bag, Fan, Fibonacci, Make, Video};

/// What a scenario's `[workload]` says.
#[derive(Debug)]
pub struct Workload {
    kind: Kind,
    arrivals: Arrivals,
}

#[derive(Debug)]
enum Kind {
    Bag(Bag),
    Fan(Fan),
    Fibonacci(Fibonacci),
    Make(Make),
    Video(Video),
    Recording(Recording),
    Trace(Trace),
    Workflow(Workflow),
}

/// A workload that is too large.
#[derive(Debug, thiserror::Error)]
#[error(
    "the workload is larger than {} tasks or {} objects",
    crate::limits::TASKS_MAX,
    crate::limits::USES_MAX
)]
pub struct TooLarge;

#[derive(Clone, Copy)]
enum Name {
    Bag,
    Fan,
    Fibonacci,
    Make,
    Video,
    Recording,
    Trace,
    Workflow,
}

const NAMES: [(&str, Name); 8] = [
    ("bag", Name::Bag),
    ("fan", Name::Fan),
    ("fibonacci", Name::Fibonacci),
    ("make", Name::Make),
    ("video", Name::Video),
    ("recording", Name::Recording),
    ("trace", Name::Trace),
    ("workflow", Name::Workflow),
];

impl Workload {
    /// Reads `[workload]`.
    pub fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let name = section.choice("kind", &NAMES)?;
        let names = NAMES.map(|(name, _)| name).join(", ");
        let kind = match section.need("kind", name, &names)? {
            Name::Bag => Kind::Bag(Bag::read(section)?),
            Name::Fan => Kind::Fan(Fan::read(section)?),
            Name::Fibonacci => Kind::Fibonacci(Fibonacci::read(section)?),
            Name::Make => Kind::Make(Make::read(section)?),
            Name::Video => Kind::Video(Video::read(section)?),
            Name::Recording => Kind::Recording(Recording::read(section)?),
            Name::Trace => Kind::Trace(Trace::read(section)?),
            Name::Workflow => Kind::Workflow(Workflow::read(section)?),
        };
        let arrivals = Arrivals::read(section)?;
        section.finish()?;
        Ok(Self { kind, arrivals })
    }

    /// The graph that a seed makes of it.
    pub fn build(&self, seed: u64) -> Result<Graph, TooLarge> {
        let mut builder = Builder::default();
        for (n, (arrival, user)) in self.arrivals.draw(seed).into_iter().enumerate() {
            if builder.is_full() {
                return Err(TooLarge);
            }
            builder.job(arrival, user);
            let mut draws = Draws::new(seed, Purpose::Workload, n as u64);
            match &self.kind {
                Kind::Bag(bag) => bag.generate(&mut builder, &mut draws),
                Kind::Fan(fan) => fan.generate(&mut builder, &mut draws),
                Kind::Fibonacci(fibonacci) => fibonacci.generate(&mut builder, &mut draws),
                Kind::Make(make) => make.generate(&mut builder, &mut draws),
                Kind::Video(video) => video.generate(&mut builder, &mut draws),
                Kind::Recording(recording) => recording.generate(&mut builder, &mut draws),
                Kind::Trace(trace) => trace.generate(&mut builder),
                Kind::Workflow(workflow) => workflow.generate(&mut builder),
            }
        }
        builder.finish().ok_or(TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Document;

    fn build(text: &str) -> Graph {
        let document = Document::parse(text, "a.toml", Path::new("")).unwrap();
        Workload::read(&document.root()).unwrap().build(1).unwrap()
    }

    /// Ids are topological, consumers mirror inputs, and only what is there is revealed.
    fn check(graph: &Graph) {
        for (at, task) in graph.tasks().iter().enumerate() {
            let id = TaskId(at as u32);
            for &input in graph.inputs(id) {
                assert!(graph.consumers(input).contains(&id));
                if let ObjectOrigin::Product(maker) = graph.object(input).origin {
                    assert!(maker < id, "{maker:?} makes what {id:?} takes");
                }
            }
            for output in graph.outputs(id) {
                assert_eq!(graph.object(output).origin, ObjectOrigin::Product(id));
            }
            if let Some(by) = task.revealed_by {
                assert!(by < id && graph.reveals(by).contains(&id));
            }
        }
    }

    fn count(graph: &Graph, class: &str) -> usize {
        let class = graph.classes().iter().position(|name| name == class).unwrap();
        graph.tasks().iter().filter(|task| usize::from(task.class) == class).count()
    }

    #[test]
    fn generators_make_what_they_say() {
        let graph =
            build("kind = 'make'\nunits = 10\nlibraries = 3\ncompile = 1\nlink = 2\narchive = 0.5");
        check(&graph);
        assert_eq!(
            [count(&graph, "compile"), count(&graph, "archive"), count(&graph, "link")],
            [10, 3, 1]
        );
        assert_eq!(graph.critical_paths(), [3.5]);

        let graph =
            build("kind = 'fan'\nstages = 2\nwidth = 5\nwork = 1\nsplit = 0.25\njoin = 0.5");
        check(&graph);
        assert_eq!(graph.tasks().len(), 2 * (5 + 2));
        assert_eq!(graph.critical_paths(), [3.5]);

        // Chunks 1 and 3 are rebased on 0 and 2.
        let graph = build("kind = 'video'\nchunks = 4\nbatch = 2");
        check(&graph);
        assert_eq!([count(&graph, "encode"), count(&graph, "rebase")], [4, 2]);
        let chain: f64 = 10.0 + 0.3 + 2.0 + 1.0 + 0.1;
        assert!((graph.critical_paths()[0] - chain).abs() < 1e-9);
    }

    #[test]
    fn recursion_is_deduplicated_by_content() {
        let tree = build("kind = 'fibonacci'\nn = 10\nmemo = false\ncall = 1\nadd = 1");
        check(&tree);
        // fib(11) leaves, and one call and one addition for each inner node.
        assert_eq!([count(&tree, "call"), count(&tree, "add")], [89 + 88, 88]);
        let chain = build("kind = 'fibonacci'\nn = 70\ncall = 1\nadd = 1");
        check(&chain);
        // As many executions as gg needs: 140.
        assert_eq!([count(&chain, "call"), count(&chain, "add")], [71, 69]);
        // Calls halve the depth: fib(n) reveals fib(n-2) at once, and additions are serial.
        assert_eq!(chain.critical_paths(), [1.0 + 35.0 + 69.0]);
    }

    #[test]
    fn recordings_keep_the_measured_work() {
        let graph = build("kind = 'recording'\nbuild = 'ffmpeg'");
        check(&graph);
        assert_eq!(graph.tasks().len(), 1998);
        let work: f64 = graph.tasks().iter().map(|task| task.work).sum();
        assert!((work - 679.251).abs() < 0.01, "{work}");
        // Every object ends in an archive: only archives and the toolchain are linked.
        let link = graph.classes().iter().position(|name| name == "link").unwrap();
        let links = (0..1998).map(TaskId).filter(|t| usize::from(graph.task(*t).class) == link);
        assert!(links.clone().count() == 2);
        links.for_each(|task| assert_eq!(graph.inputs(task).len(), 8));
    }

    const OLD: &str = r#"{"name": "w", "schemaVersion": "VERSION", "workflow": {"tasks": [
        {"name": "b_2", "parents": ["a_1"], "RUNTIME": 2, "files": [
            {"name": "f", "link": "input", "SIZE": 10}, {"name": "g", "link": "output", "SIZE": 7}]},
        {"name": "c_3", "category": "last", "parents": ["a_1", "b_2"], "RUNTIME": 3,
            "files": [{"name": "g", "link": "input", "SIZE": 7}]},
        {"name": "a_1", "RUNTIME": 1, "files": [
            {"name": "s", "link": "input", "SIZE": 5}, {"name": "f", "link": "output", "SIZE": 10}]}]}}"#;
    const NEW: &str = r#"{"name": "w", "schemaVersion": "VERSION", "workflow": {
        "specification": {"tasks": [
            {"name": "b", "id": "b_2", "parents": ["a_1"], "inputFiles": ["f"], "outputFiles": ["g"]},
            {"name": "last", "id": "c_3", "parents": ["a_1", "b_2"], "inputFiles": ["g"]},
            {"name": "a", "id": "a_1", "inputFiles": ["s"], "outputFiles": ["f"]}],
          "files": [{"id": "s", "sizeInBytes": 5}, {"id": "f", "sizeInBytes": 10}, {"id": "g", "sizeInBytes": 7}]},
        "execution": {"tasks": [{"id": "a_1", "runtimeInSeconds": 1}, {"id": "b_2", "runtimeInSeconds": 2},
          {"id": "c_3", "runtimeInSeconds": 3}]}}}"#;

    #[test]
    fn all_versions_of_wfformat_say_the_same() {
        let old = |version: &str, runtime: &str, size: &str| {
            OLD.replace("VERSION", version).replace("RUNTIME", runtime).replace("SIZE", size)
        };
        let texts = [
            old("1.3", "runtime", "size"),
            old("1.4", "runtimeInSeconds", "sizeInBytes"),
            NEW.replace("VERSION", "1.5"),
            NEW.replace("VERSION", "1.6"),
        ];
        for text in texts {
            let workflow = Workflow::parse(&text).unwrap();
            let mut builder = Builder::default();
            workflow.generate(&mut builder);
            let graph = builder.finish().unwrap();
            check(&graph);
            assert_eq!(graph.classes(), ["a", "b", "last"]);
            assert_eq!(graph.critical_paths(), [6.0]);
            let sizes = |task| {
                graph
                    .inputs(TaskId(task))
                    .iter()
                    .map(|&o| graph.object(o).bytes)
                    .collect::<Vec<_>>()
            };
            // The parent a_1 of c_3 passes no file: a dependency without bytes.
            assert_eq!([sizes(0), sizes(1), sizes(2)], [vec![5], vec![10], vec![7, 0]]);
        }
    }

    #[test]
    fn wrong_workflows_are_refused() {
        let error = |text: String| Workflow::parse(&text).unwrap_err();
        assert!(error(NEW.replace("VERSION", "2.0")).contains("1.3 to 1.6 are known"));
        let known = NEW.replace("VERSION", "1.5");
        assert!(error(known.replace("[\"a_1\"]", "[\"c_3\"]")).contains("circle"));
        assert!(error(known.replace("[\"a_1\"]", "[\"z\"]")).contains("no parent"));
        assert!(error(known.replace("{\"id\": \"g\"", "{\"id\": \"h\"")).contains("no size"));
    }

    #[test]
    fn jobs_arrive_and_share_what_is_common() {
        let graph = build(
            "kind = 'bag'\nwork = 1\ncommon = '1 MB'\ninput = 5\n[arrivals]\ncount = 2000\nusers = 3\n\
             every = { distribution = 'exponential', mean = 4 }",
        );
        check(&graph);
        assert_eq!(graph.jobs().len(), 2000);
        assert_eq!(graph.objects().len(), 2001);
        let last = graph.jobs()[1999].arrival.seconds();
        assert!((last / 1999.0 - 4.0).abs() < 0.3, "{last}");
        assert!((0..3).all(|user| graph.jobs().iter().any(|job| job.user == user)));
    }
}
