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

/// The reduction with this node's word for it. What is signed are its canonical bytes, which begin
/// with their format's magic: they are no other message.
pub(super) fn signed(signer: &dyn Signer, reduction: Reduction) -> Result<SignedReduction, String> {
    let bytes = reduction.encode().map_err(|error| error.to_string())?;
    Ok(SignedReduction { signature: signer.sign(&bytes), reduction })
}

/// Did this peer run it, by its own word?
pub(super) fn is_of(verifier: &dyn Verifier, peer: PeerId, signed: &SignedReduction) -> bool {
    let bytes = signed.reduction.encode();
    signed.reduction.executor == executor(peer)
        && bytes.is_ok_and(|bytes| verifier.verify(peer, &bytes, &signed.signature))
}
