//! What planning a compile costs: a thunk for each source file, include scan and all, none of them run.
//!
//! `cargo run --release -p mesh-cli --example scan -- FILE… [-- OPTION…]`
//!
//! The files are planned as `gcc OPTION… -c FILE`, in the working directory, three times over: *cold*
//! (nothing known, the store empty), *restarted* (the caches of a new process, the store as it was
//! left), *warm* (the caches as they were left). Each line is tab-separated: which pass, units, wall
//! and CPU milliseconds of the pass. A unit that would run locally is an error.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mesh_cli::frontend::{Call, Frontends, Plan, Settings, StoreFiles};
use mesh_store::{Store, StoreOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let units: Vec<String> = arguments.by_ref().take_while(|word| word != "--").collect();
    let options: Vec<String> = arguments.collect();
    let calls = calls(&units, &options)?;

    let directory = tempfile::tempdir()?;
    let store = Store::open(StoreOptions::new(directory.path().join("store")))?;
    let first = Planner::new(&store);
    first.pass("cold", &calls)?;
    let second = Planner::new(&store);
    second.pass("restarted", &calls)?;
    second.pass("warm", &calls)
}

fn calls(units: &[String], options: &[String]) -> Result<Vec<Call>, Box<dyn Error>> {
    let program = gcc().ok_or("no gcc in PATH")?;
    let working_directory = std::env::current_dir()?;
    let environment = std::env::vars().collect();
    let call = Call { program, arguments: Vec::new(), working_directory, environment };
    let call_of = |unit: &String| {
        let object = format!("{}.o", Path::new(unit).file_stem()?.to_str()?);
        let mut arguments = vec!["gcc".to_owned()];
        arguments.extend_from_slice(options);
        arguments.extend(["-c".to_owned(), unit.clone(), "-o".to_owned(), object]);
        Some(Call { arguments, ..call.clone() })
    };
    units
        .iter()
        .map(|unit| call_of(unit).ok_or_else(|| format!("no source: {unit}").into()))
        .collect()
}

fn gcc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("gcc")).find(|file| file.is_file())
}

struct Planner {
    frontends: Frontends,
    files: StoreFiles,
}

impl Planner {
    fn new(store: &Store) -> Self {
        Self {
            frontends: Frontends::new(Settings::default()),
            files: StoreFiles::new(store.clone()),
        }
    }

    #[allow(clippy::disallowed_macros)] // Run by hand.
    fn pass(&self, name: &str, calls: &[Call]) -> Result<(), Box<dyn Error>> {
        let (began, cpu) = (Instant::now(), cpu_ms()?);
        for call in calls {
            match self.frontends.plan(call, &self.files) {
                Plan::Thunk(planned) => drop(planned.thunk.encode()?),
                Plan::Local(reason) => return Err(format!("{:?}: {reason}", call.arguments).into()),
                Plan::NeedReal(paths) => return Err(format!("placeholders: {paths:?}").into()),
            }
        }
        let wall = began.elapsed().as_secs_f64() * 1e3;
        println!("{name}\t{}\t{wall:.3}\t{:.3}", calls.len(), cpu_ms()? - cpu);
        Ok(())
    }
}

/// CPU time of this thread (Linux, proc(5): `schedstat`), which plans; not of a compiler it asks.
fn cpu_ms() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(ns / 1e6)
}
