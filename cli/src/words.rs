//! What a job wrote on its standard output and error, read back from the store.

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::thunk::{KeptStream, is_cut};
use mesh_store::Store;

use crate::error::CliError;
use crate::exit;

/// Both streams, as far as they were kept.
pub(crate) struct Words {
    pub(crate) stdout: KeptStream,
    pub(crate) stderr: KeptStream,
}

impl Words {
    pub(crate) fn read(
        store: &Store,
        stdout: ValueName,
        stderr: ValueName,
    ) -> Result<Self, CliError> {
        Ok(Self { stdout: read(store, stdout)?, stderr: read(store, stderr)? })
    }

    /// What a person is told if anything was cut.
    pub(crate) fn notice(&self) -> Option<String> {
        let streams = [("standard output", &self.stdout), ("standard error", &self.stderr)];
        let cut: Vec<String> = streams
            .into_iter()
            .filter(|(_, stream)| stream.cut_bytes > 0)
            .map(|(which, stream)| format!("{} bytes of {which}", stream.cut_bytes))
            .collect();
        (!cut.is_empty()).then(|| {
            format!(
                "mesh: cut off the last {}: mesh keeps 16 MiB of each stream\n\
                 hint: let the command write to a file, and name that as an output\n",
                cut.join(" and the last ")
            )
        })
    }
}

/// Reads one stream.
pub(crate) fn read(store: &Store, name: ValueName) -> Result<KeptStream, CliError> {
    if name.digest().length > limits::STREAM_OBJECT_BYTES {
        let text = format!("{name} is longer than what a job writes can be");
        return Err(CliError::new(exit::DATA, text)
            .hint("whoever ran it broke the rules; --no-memo or --local runs it again"));
    }
    let object = store.read(name.digest(), limits::STREAM_OBJECT_BYTES)?;
    Ok(KeptStream::from_object(object))
}

/// Number of bytes that were cut off a stream; its object is read only if some were.
pub(crate) fn cut_bytes(store: &Store, name: ValueName) -> Result<u64, CliError> {
    if is_cut(name) { Ok(read(store, name)?.cut_bytes) } else { Ok(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_notice_for_both_streams() {
        let stream = |cut_bytes| KeptStream { bytes: Vec::new(), cut_bytes };
        let notice =
            |stdout, stderr| Words { stdout: stream(stdout), stderr: stream(stderr) }.notice();
        assert_eq!(notice(0, 0), None);
        let both = notice(7, 8).unwrap();
        assert!(
            both.starts_with(
                "mesh: cut off the last 7 bytes of standard output and the last 8 bytes of standard error: "
            ),
            "{both}"
        );
        assert!(!notice(0, 8).unwrap().contains("standard output"));
    }
}
