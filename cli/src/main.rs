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

fn main() -> std::process::ExitCode {
    // The sandbox engine starts this binary again as its launcher.
    mesh_node::exec::run_launcher_if_asked();
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
        Command::Put(args) => commands::put::run(&args),
        Command::Get(args) => commands::get::run(&args),
        Command::Find(args) => commands::find::run(&args),
        Command::Cat(args) => commands::cat::run(&args),
        Command::Ls(args) => commands::ls::run(&args),
        Command::Thunk(ThunkCommand::Create(args)) => commands::thunk::create(&args),
        Command::Thunk(ThunkCommand::Show(args)) => commands::thunk::show(&args),
        Command::Thunk(ThunkCommand::Graph(args)) => commands::graph::run(&args),
        Command::Force(args) => commands::force::run(&args),
        Command::Log(args) => commands::log::run(&args),
        Command::Gc(args) => commands::gc::run(&args),
        Command::Store(StoreCommand::Verify(args)) => commands::store::verify(&args),
        Command::Store(StoreCommand::Stats(args)) => commands::store::stats(&args),
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
