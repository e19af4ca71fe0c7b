//! The `mesh` command.

mod args;
mod build;
mod commands;
mod config;
mod ended;
mod error;
mod exit;
mod forcing;
mod home;
mod logging;
mod node_log;
mod resolve;
mod stderr;
mod threads;
mod ui;
mod words;

use clap::Parser;

use args::{Args, Command, ConfigCommand, ServiceCommand, StoreCommand, ThunkCommand};
use error::CliError;
use home::with_store;

fn main() -> std::process::ExitCode {
    // The sandbox engine starts this binary again as its launcher.
    mesh_node::exec::run_launcher_if_asked();
    build::outlive_file_limit();
    if let Some(code) = build::guardian::run_if_asked() {
        return code;
    }
    if let Some(code) = build::words::relay::run_if_asked().or_else(build::usher::run_if_asked) {
        return code;
    }
    build::inside::see_tools();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are data, not errors.
            let code = if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
            let _ = error.print();
            return code.into();
        }
    };
    match dispatch(args.command) {
        Ok(code) => code.into(),
        Err(error) => {
            error.print();
            error.code().into()
        }
    }
}

/// Runs a command. The exit code is the build command's where one runs.
fn dispatch(command: Command) -> Result<u8, CliError> {
    match command {
        Command::Make(args) => return commands::build::make(&args),
        Command::Build(args) => return commands::build::build(&args),
        Command::Infer(args) => return commands::build::infer(&args),
        Command::Run(args) => return commands::run::run(&args),
        Command::Put(args) => with_store(|store| commands::put::run(store, &args)),
        Command::Get(args) => with_store(|store| commands::get::run(store, &args)),
        Command::Find(args) => commands::find::run(&args),
        Command::Cat(args) => with_store(|store| commands::cat::run(store, &args)),
        Command::Ls(args) => with_store(|store| commands::ls::run(store, &args)),
        Command::Thunk(ThunkCommand::Create(args)) => commands::thunk::create(&args),
        Command::Thunk(ThunkCommand::Show(args)) => {
            with_store(|store| commands::thunk::show(store, &args))
        }
        Command::Thunk(ThunkCommand::Graph(args)) => {
            with_store(|store| commands::graph::run(store, &args))
        }
        Command::Force(args) => with_store(|store| commands::force::run(store, &args)),
        Command::Log(args) => with_store(|store| commands::log::run(store, &args)),
        Command::Gc(args) => commands::gc::run(&args),
        Command::Store(StoreCommand::Verify(args)) => {
            with_store(|store| commands::store::verify(store, &args))
        }
        Command::Store(StoreCommand::Stats(args)) => {
            with_store(|store| commands::store::stats(store, &args))
        }
        Command::Sim(command) => commands::sim::run(&command),
        Command::Init(args) => commands::init::run(&args),
        Command::Invite(args) => commands::invite::run(&args),
        Command::Join(args) => commands::join::run(&args),
        Command::Pause => commands::pause::run(true),
        Command::Resume => commands::pause::run(false),
        Command::Stop => commands::stop::run(),
        Command::Status(args) => commands::status::run(&args),
        Command::Peers(args) => commands::peers::run(&args),
        Command::Revoke(args) => commands::revoke::run(&args),
        Command::Tickets(args) => commands::tickets::list(&args),
        Command::Withdraw(args) => commands::tickets::withdraw(&args),
        Command::Forget(args) => commands::revoke::forget(&args),
        Command::Leave(args) => commands::leave::run(&args),
        Command::Service(ServiceCommand::Install(args)) => commands::service::install(&args),
        Command::Service(ServiceCommand::Uninstall) => commands::service::uninstall(),
        Command::Config(ConfigCommand::Check(args)) => commands::config::check(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
    }?;
    Ok(exit::SUCCESS)
}
