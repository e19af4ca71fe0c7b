//! The keys of a node, and of a mesh on the machine that made it.
//!
//! A key file holds the 32 bytes of an ed25519 secret key (RFC 8032) as hexadecimal text, so that
//! it can be copied by hand. Nobody but its owner may read it.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p::identity::{Keypair, PublicKey, ed25519};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{Signature, Verifier};
use mesh_store::files;
use thiserror::Error;

/// An ed25519 key pair.
#[derive(Clone)]
pub struct Key(ed25519::Keypair);

/// Says whose, and not more.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", PeerId(self.public()))
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file that cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A key that others can read.
    #[error("{} can be read by others (mode {mode:o}); chmod 600 it, or make a new identity", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file without a key in it.
    #[error("{} holds no key: 64 hexadecimal digits are expected", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

impl IdentityError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// More than the text of a key takes.
const KEY_BYTES_MAX: u64 = 4096;

impl Key {
    /// A new one.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_secret(random().map_err(IdentityError::io("read", Path::new("/dev/random")))?)
    }

    /// The key in that file; `None` if there is no file.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let text = match files::read(path, KEY_BYTES_MAX) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::io("read", path)(error)),
        };
        let metadata = std::fs::metadata(path).map_err(IdentityError::io("read", path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
        let malformed = || IdentityError::Malformed { path: path.to_owned() };
        let secret = from_hex(text.trim()).ok_or_else(malformed)?;
        Self::from_secret(secret).map(Some)
    }

    /// The key in that file, or a new one that is there from now on. Two processes that do this at
    /// once get the same key.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        let text = format!("{}\n", PeerId(secret_bytes(&key.0)));
        let made = write_private(path, text.as_bytes(), Replace::Never);
        match made {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let malformed = || IdentityError::Malformed { path: path.to_owned() };
                Self::load(path)?.ok_or_else(malformed)
            }
            Err(error) => Err(IdentityError::io("write", path)(error)),
        }
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.public().to_bytes()
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let bytes = self.0.sign(message);
        let half =
            |from: usize| std::array::from_fn(|at| bytes.get(from + at).copied().unwrap_or(0));
        [half(0), half(32)]
    }

    /// For libp2p.
    pub(super) fn keypair(&self) -> Keypair {
        self.0.clone().into()
    }

    fn from_secret(secret: [u8; 32]) -> Result<Self, IdentityError> {
        // Fails for a wrong length alone.
        let malformed = |_| IdentityError::Malformed { path: PathBuf::new() };
        let secret = ed25519::SecretKey::try_from_bytes(secret).map_err(malformed)?;
        Ok(Self(secret.into()))
    }
}

fn secret_bytes(keypair: &ed25519::Keypair) -> [u8; 32] {
    let bytes = keypair.to_bytes();
    std::array::from_fn(|at| bytes[at])
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(bytes)
}

/// May a file that is there be replaced?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    Always,
    Never,
}

/// Writes a file that only its owner reads: whole and on the disk, or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8], replace: Replace) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    files::create_private_directory(directory)?;
    let unique: [u8; 8] = random()?;
    let unique = u64::from_le_bytes(unique);
    let temporary = directory.join(format!(".new-{unique:016x}"));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| match replace {
        Replace::Always => std::fs::rename(&temporary, path),
        // A link fails if the name is taken.
        Replace::Never => std::fs::hard_link(&temporary, path),
    });
    if replace == Replace::Never || placed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    placed?;
    std::fs::File::open(directory)?.sync_all()
}

/// Checks ed25519 signatures.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519;

impl Verifier for Ed25519 {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
        let key = ed25519::PublicKey::try_from_bytes(key);
        key.is_ok_and(|key| key.verify(message, &signature.concat()))
    }
}

/// What libp2p calls this peer; `None` if its bytes are no key.
pub(super) fn to_libp2p(peer: PeerId) -> Option<libp2p::PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Whom libp2p means; `None` if its key is not an ed25519 one.
pub(super) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    // Short keys stand in the id themselves.
    let hash = peer.as_ref();
    let key = (hash.code() == 0).then(|| PublicKey::try_decode_protobuf(hash.digest()))?;
    Some(PeerId(key.ok()?.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity/node.key");
        assert!(Key::load(&path).unwrap().is_none());
        let key = Key::load_or_create(&path).unwrap();
        assert_eq!(Key::load_or_create(&path).unwrap().public(), key.public());
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        mode(0o640);
        assert!(matches!(Key::load(&path), Err(IdentityError::Exposed { mode: 0o640, .. })));
        mode(0o600);
        std::fs::write(&path, "12ab").unwrap();
        assert!(matches!(Key::load(&path), Err(IdentityError::Malformed { .. })));
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays");
    }

    #[test]
    fn signatures_hold_for_one_key_and_one_message() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let signature = key.sign(b"message");
        assert!(Ed25519.verify(&key.public(), b"message", &signature));
        assert!(!Ed25519.verify(&key.public(), b"massage", &signature));
        assert!(!Ed25519.verify(&other.public(), b"message", &signature));
        assert!(!Ed25519.verify(&[255; 32], b"message", &signature));
    }

    #[test]
    fn peers_have_the_same_name_in_libp2p() {
        let key = Key::generate().unwrap();
        let peer = PeerId(key.public());
        let name = to_libp2p(peer).unwrap();
        assert_eq!(name, key.keypair().public().to_peer_id());
        assert_eq!(from_libp2p(&name), Some(peer));
        assert_eq!(from_libp2p(&libp2p::PeerId::random()), None);
    }
}
