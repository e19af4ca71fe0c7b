//! `mesh find`

use mesh_node::api::{Reply, Request, Whereabouts};
use mesh_protocol::name::ObjectName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::records::RecordKey;

use super::{ask_node, print_line};
use crate::args::FindArgs;
use crate::error::CliError;
use crate::exit;

pub(crate) fn run(args: &FindArgs) -> Result<(), CliError> {
    let name: ObjectName = args.name.parse()?;
    let key = match &name {
        ObjectName::Thunk(thunk, _) => RecordKey::Reduction(*thunk),
        ObjectName::Value(value) => RecordKey::Provider(value.digest()),
    };
    let Reply::Whereabouts(found) = ask_node(&Request::Find(key))? else {
        return Err(CliError::new(exit::INTERNAL, "unexpected answer"));
    };
    if args.json {
        print_line(json(&found))?;
    } else {
        lines(&found)?;
    }
    let is_known = found.is_here || !found.providers.is_empty() || found.reduction.is_some();
    match is_known {
        true => Ok(()),
        false => {
            let text = format!("no member that can be reached has {name}");
            Err(CliError::new(exit::NOT_FOUND, text))
        }
    }
}

fn lines(found: &Whereabouts) -> Result<(), CliError> {
    if found.is_here {
        print_line("here")?;
    }
    for (peer, name) in &found.providers {
        print_line(format_args!("{}  {name}", short(*peer)))?;
    }
    let Some((reduction, publisher)) = &found.reduction else { return Ok(()) };
    for (tag, output) in &reduction.outputs {
        print_line(format_args!("#{tag}  {}", serde_json::json!(output)))?;
    }
    let executor: String = reduction.executor.chars().take(16).collect();
    print_line(format_args!("run by {executor}, says {}", short(*publisher)))
}

fn short(peer: PeerId) -> String {
    peer.to_string().chars().take(16).collect()
}

fn json(found: &Whereabouts) -> serde_json::Value {
    let provider = |(peer, name): &(PeerId, String)| serde_json::json!({ "peer": peer.to_string(), "name": name });
    let reduction = found.reduction.as_ref().map(|(reduction, publisher)| {
        serde_json::json!({
            "outputs": reduction.outputs,
            "stdout": reduction.stdout,
            "stderr": reduction.stderr,
            "executor": reduction.executor,
            "publisher": publisher.to_string(),
        })
    });
    serde_json::json!({
        "here": found.is_here,
        "providers": found.providers.iter().map(provider).collect::<Vec<_>>(),
        "reduction": reduction,
    })
}
