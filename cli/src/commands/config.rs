//! `mesh config`

use std::ffi::OsString;

use clap::Parser;
use serde_json::{Map, Value, json};

use super::print_line;
use crate::args::{Args, Command, ConfigCheckArgs, JoinArgs};
use crate::config::{
    BuildFlags, BuildSettings, Config, JoinSettings, Origin, Row, log_filter, name, quota,
};
use crate::error::CliError;
use crate::{exit, home, logging};

pub(crate) fn check(args: &ConfigCheckArgs) -> Result<(), CliError> {
    let config = match &args.file {
        Some(file) => Config::read(file)?,
        None => Config::of_home()?,
    };
    let rows = rows(&config, command(&args.command)?)?;
    if args.json {
        return print_line(json!({ "file": config.path, "settings": settings(&rows) }));
    }
    print_line(match &config.path {
        Some(path) => format!("# {}", path.display()),
        None => format!("# there is no {}", home::config_file()?.display()),
    })?;
    let lines: Vec<(String, Origin)> =
        rows.iter().map(|row| (format!("{} = {}", row.key, row.value), row.origin)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    lines
        .iter()
        .try_for_each(|(line, origin)| print_line(format_args!("{line:width$}  # {origin}")))
}

/// The command behind `--`, of which only the flags matter.
fn command(words: &[OsString]) -> Result<Option<Command>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    let words = std::iter::once("mesh".into()).chain(words.iter().cloned());
    match Args::try_parse_from(words) {
        Ok(args) => Ok(Some(args.command)),
        Err(error) => {
            let text = error.to_string();
            // What is wrong, and below it perhaps what is allowed.
            let told = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            let told = told.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            Err(CliError::new(exit::USAGE, told).hint("behind -- is a command with its flags"))
        }
    }
}

fn rows(config: &Config, command: Option<Command>) -> Result<Vec<Row>, CliError> {
    let (mut join, mut build, mut quota_bytes) = (JoinArgs::default(), BuildFlags::default(), None);
    match command {
        Some(Command::Join(args)) => join = args,
        Some(Command::Build(args)) => build = (&args).into(),
        Some(Command::Infer(args)) => build = (&args).into(),
        Some(Command::Force(args)) => build = (&args).into(),
        Some(Command::Run(args)) => build = (&args).into(),
        Some(Command::Gc(args)) => quota_bytes = args.quota,
        Some(Command::Init(args)) => join.name = args.name,
        Some(Command::Make(_)) | None => {}
        Some(_) => {
            return Err(CliError::new(
                exit::USAGE,
                "that command takes nothing from the config file",
            )
            .hint("these do: join, init, build, make, infer, force, run, gc"));
        }
    }
    let log = log_filter(config);
    logging::parse(&log)?;
    let mut rows = vec![
        name(config, join.name.as_ref()).row("name", |name| json!(name)),
        log.row("log", |log| json!(log)),
    ];
    rows.extend(JoinSettings::of(config, &join).rows());
    rows.extend(BuildSettings::of(config, build).rows());
    rows.push(quota(config, quota_bytes).row("store.quota", |bytes| json!(bytes)));
    Ok(rows)
}

fn settings(rows: &[Row]) -> Value {
    let setting = |row: &Row| {
        let mut setting = Map::new();
        setting.insert("value".to_owned(), row.value.clone());
        setting.insert("from".to_owned(), json!(row.origin.word()));
        match row.origin {
            Origin::File(line) => drop(setting.insert("line".to_owned(), json!(line))),
            Origin::Environment(variable) => {
                drop(setting.insert("variable".to_owned(), json!(variable)));
            }
            Origin::Default | Origin::Flag => {}
        }
        (row.key.to_owned(), Value::Object(setting))
    };
    Value::Object(rows.iter().map(setting).collect())
}
