//! Who vouches for a reduction: its executor, with the key that its peer id is.

use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::Reduction;
use mesh_protocol::wire::claim::SignedReduction;

/// Signs with this node's key (ed25519, RFC 8032).
pub trait Signer: Send + Sync {
    /// The signature of these bytes, in two halves.
    fn sign(&self, bytes: &[u8]) -> [[u8; 32]; 2];
}

/// Checks what others signed.
pub trait Verifier: Send + Sync {
    /// Did this peer sign these bytes?
    fn verify(&self, peer: PeerId, bytes: &[u8], signature: &[[u8; 32]; 2]) -> bool;
}

/// What a reduction names as its executor: the peer, in hexadecimal.
pub(super) fn executor(peer: PeerId) -> String {
    peer.to_string()
}

/// Whom that means; none if it is no peer.
pub(crate) fn peer_of(executor: &str) -> Option<PeerId> {
    let mut bytes = [0; 32];
    let pairs = executor.as_bytes().chunks_exact(2);
    if executor.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(PeerId(bytes))
}

/// The reduction with this node's word for it. What is signed are its canonical bytes, which begin
/// with their format's magic: they are no other message.
pub(super) fn signed(
    signer: &dyn Signer,
    reduction: Reduction,
    remembered: bool,
) -> Result<SignedReduction, String> {
    let bytes = reduction.encode().map_err(|error| error.to_string())?;
    Ok(SignedReduction { signature: signer.sign(&bytes), reduction, remembered })
}

/// Did this peer run it, by its own word?
pub(super) fn is_of(verifier: &dyn Verifier, peer: PeerId, signed: &SignedReduction) -> bool {
    let bytes = signed.reduction.encode();
    signed.reduction.executor == executor(peer)
        && bytes.is_ok_and(|bytes| verifier.verify(peer, &bytes, &signed.signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_is_read_as_it_is_written() {
        let peer = PeerId(std::array::from_fn(|at| 7 * at as u8));
        assert_eq!(peer_of(&executor(peer)), Some(peer));
        for wrong in ["", "local", &"x".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(peer_of(wrong), None, "{wrong}");
        }
    }
}
