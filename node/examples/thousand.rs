//! What a thunk costs: runs trivial ones in the sandbox, one at a time and two at a time.
//!
//! `cargo run --release -p mesh-node --example thousand [COUNT] [PROGRAM]`
//!
//! PROGRAM is a static program, so that there is nothing but the sandbox to pay for; without one,
//! `/bin/true` is taken with its libraries.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use mesh_node::exec::{Engine, Job, SandboxEngine, SandboxOptions, run_launcher_if_asked};
use mesh_protocol::name::ValueName;
use mesh_protocol::path::AbsPath;
use mesh_protocol::thunk::{Function, Input, Limits, Output, Platform, Thunk, ThunkSpec};
use mesh_store::{Store, StoreOptions};

fn main() -> Result<(), Box<dyn Error>> {
    run_launcher_if_asked();
    let mut arguments = std::env::args().skip(1);
    let count: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let program = arguments.next().unwrap_or_else(|| "/bin/true".to_owned());
    let headers: u32 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let store = Store::open(StoreOptions::new(directory.path().join("store")))?;
    let thunk = Arc::new(thunk(&store, &program, headers)?);
    let job = Job { name: thunk.encode()?.0, thunk };
    let runtime = tokio::runtime::Runtime::new()?;
    for control_groups in [true, false] {
        let options = SandboxOptions { control_groups, ..SandboxOptions::default() };
        let engine = SandboxEngine::start(store.clone(), options)?;
        println!("control groups: {:?}", engine.control_groups());
        for concurrent in [1, 2] {
            let started = Instant::now();
            let all = async {
                let lanes = (0..concurrent).map(|_| {
                    let (engine, job) = (engine.clone(), job.clone());
                    tokio::spawn(async move {
                        for _ in 0..count / concurrent {
                            let outcome = engine.run(job.clone()).await?;
                            assert!(outcome.exit == mesh_node::exec::Exit::Code(0), "{outcome:?}");
                        }
                        Ok::<_, mesh_node::exec::EngineError>(())
                    })
                });
                for lane in lanes.collect::<Vec<_>>() {
                    lane.await??;
                }
                Ok::<_, Box<dyn Error>>(())
            };
            runtime.block_on(all)?;
            let each = started.elapsed().as_secs_f64() * 1e3 / f64::from(count);
            println!(
                "{count} x {program}, {headers} headers, {concurrent} at a time: {each:.2} ms per thunk"
            );
        }
    }
    Ok(())
}

fn thunk(store: &Store, program: &str, headers: u32) -> Result<Thunk, Box<dyn Error>> {
    let mut inputs = BTreeMap::new();
    let mut add = |path: &str| -> Result<(), Box<dyn Error>> {
        let name = ValueName(store.put_file(&File::open(path)?)?);
        inputs.insert(path.parse::<AbsPath>()?, Input::executable(name));
        Ok(())
    };
    add(program)?;
    let listed = Command::new("ldd").arg(program).output()?;
    for word in String::from_utf8(listed.stdout)?.split_whitespace() {
        if word.starts_with('/') && std::path::Path::new(word).is_file() {
            add(word)?;
        }
    }
    for number in 0..headers {
        let name = ValueName(store.put_bytes(format!("{number}\n").repeat(800).as_bytes())?);
        inputs.insert(format!("/usr/include/h{number}.h").parse()?, Input::file(name));
    }
    let platform = Platform::host().ok_or("not a platform for thunks")?;
    let output = Output::optional("/out/nothing".parse()?);
    Ok(Thunk::try_from(ThunkSpec {
        function: Function {
            executable: program.parse()?,
            arguments: vec![program.to_owned()],
            environment: BTreeMap::new(),
            working_directory: AbsPath::root(),
        },
        inputs,
        symlinks: BTreeMap::new(),
        directories: Default::default(),
        outputs: BTreeMap::from([("out".parse()?, output)]),
        stdin: None,
        limits: Limits::for_platform(platform),
    })?)
}
