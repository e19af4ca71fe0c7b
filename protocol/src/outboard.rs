//! BLAKE3 trees of large objects, so that each piece of one is checked as it comes.
//!
//! An object's name is a SHA-256, from which no part can be checked. The root of the object's BLAKE3
//! tree checks every part, but nobody has signed it: it is the word of whoever sends the bytes. That
//! is still worth a lot. A sender is held to its first word, so a piece that does not fit is found
//! before it is written, and whoever sent it is named. Senders with one root have the same bytes,
//! and may each give a part. When the whole is here its SHA-256 says which root was the true one, and so
//! whose word was false.
//!
//! ```text
//!            root                 a proof for piece 2: the hash of piece 3, then `a`
//!          /      \               (siblings on its way to the root, the lowest first)
//!         a        b
//!        / \      / \
//!       0   1    2   3            pieces: 256 KiB, the last one what is left
//! ```
//!
//! The root is the BLAKE3 hash of the object, the one that `b3sum` prints (BLAKE3 paper, section 2.1): a
//! piece is a subtree of 256 chunks. As the left half of a tree holds the largest power of two of its
//! pieces, joining neighbours level by level, and lifting whoever has none, makes the same tree.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::limits;

/// The hash of a piece, or of several that are neighbours (BLAKE3's chaining value).
pub type Node = blake3::hazmat::ChainingValue;

/// The hash of the whole.
pub type Root = blake3::Hash;

const PIECE: u64 = limits::TRANSFER_PIECE_BYTES as u64;

/// All hashes of one object's tree below its root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outboard {
    /// Pieces first; each level joins the neighbours of the one before, down to two.
    levels: Vec<Vec<Node>>,
}

impl Outboard {
    /// Of the hashes of all pieces in their order.
    pub fn new(pieces: Vec<Node>) -> Self {
        let mut levels = vec![pieces];
        while let Some(last) = levels.last().filter(|level| level.len() > 2) {
            let next = last.chunks(2).map(|pair| match pair {
                [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
                alone => alone[0],
            });
            let next = next.collect();
            levels.push(next);
        }
        Self { levels }
    }

    /// What shows that the piece that begins there belongs to the object.
    pub fn proof(&self, start: u64) -> Vec<Node> {
        let mut place = usize::try_from(start / PIECE).unwrap_or(usize::MAX);
        let mut proof = Vec::new();
        for level in &self.levels {
            proof.extend(level.get(place ^ 1));
            place /= 2;
        }
        proof
    }

    /// How many hashes it holds, of 32 bytes each.
    pub fn len(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }

    /// Of an object without a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The hash of a piece that begins there. `start` is a multiple of
/// [`TRANSFER_PIECE_BYTES`](limits::TRANSFER_PIECE_BYTES), and the piece no longer than that.
pub fn piece(start: u64, bytes: &[u8]) -> Node {
    Hasher::new().set_input_offset(start).update(bytes).finalize_non_root()
}

/// How many hashes the proof of a piece has, in an object of so many bytes.
pub fn proof_length(object_bytes: u64, start: u64) -> usize {
    climb(object_bytes, start).filter(|step| *step != Step::Alone).count()
}

/// The BLAKE3 hash of the object of which this is a piece. None if no object of that length has
/// such a proof, or if it has one piece only.
pub fn root(object_bytes: u64, start: u64, piece: Node, proof: &[Node]) -> Option<Root> {
    let (mut node, mut proof) = (piece, proof.iter());
    for step in climb(object_bytes, start) {
        let (left, right) = match step {
            Step::Alone => continue,
            Step::Left { .. } => (node, *proof.next()?),
            Step::Right { .. } => (*proof.next()?, node),
        };
        match step {
            Step::Left { is_last: true } | Step::Right { is_last: true } => {
                let root = merge_subtrees_root(&left, &right, Mode::Hash);
                return proof.next().is_none().then_some(root);
            }
            _ => node = merge_subtrees_non_root(&left, &right, Mode::Hash),
        }
    }
    None
}

/// What happens to a node on one level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It has a neighbour to the right.
    Left { is_last: bool },
    /// It has a neighbour to the left.
    Right { is_last: bool },
    /// It has none, and is lifted.
    Alone,
}

/// From a piece to the root.
fn climb(object_bytes: u64, start: u64) -> impl Iterator<Item = Step> {
    let (mut place, mut width) = (start / PIECE, object_bytes.div_ceil(PIECE));
    std::iter::from_fn(move || {
        if width < 2 || place >= width {
            return None;
        }
        let is_last = width == 2;
        let step = match place % 2 {
            1 => Step::Right { is_last },
            _ if place + 1 < width => Step::Left { is_last },
            _ => Step::Alone,
        };
        (place, width) = (place / 2, width.div_ceil(2));
        Some(step)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    fn noise(length: usize) -> Vec<u8> {
        let mut random = Random::new(length as u64);
        (0..length).map(|_| random.bits() as u8).collect()
    }

    fn pieces(bytes: &[u8]) -> Vec<(u64, Node)> {
        let starts = (0..).step_by(PIECE as usize);
        let pieces = starts.zip(bytes.chunks(PIECE as usize));
        pieces.map(|(start, bytes)| (start, piece(start, bytes))).collect()
    }

    /// The same tree as that of the library, whatever the length.
    #[test]
    fn each_piece_leads_to_the_hash_of_the_whole() {
        let all = noise(14 * PIECE as usize);
        let lengths = (2..14).flat_map(|pieces| {
            let full = pieces * PIECE as usize;
            [full - PIECE as usize + 1, full - 1024, full - 77, full]
        });
        for length in lengths {
            let bytes = &all[..length];
            let hash = blake3::hash(bytes);
            let pieces = pieces(bytes);
            let outboard = Outboard::new(pieces.iter().map(|(_, node)| *node).collect());
            for (start, node) in pieces {
                let proof = outboard.proof(start);
                assert_eq!(proof.len(), proof_length(length as u64, start), "{length} {start}");
                assert_eq!(
                    root(length as u64, start, node, &proof),
                    Some(hash),
                    "{length} {start}"
                );
            }
        }
    }

    #[test]
    fn what_is_one_piece_has_no_proof() {
        assert!(Outboard::new(vec![piece(0, b"x")]).proof(0).is_empty());
        assert_eq!((proof_length(1, 0), root(1, 0, piece(0, b"x"), &[])), (0, None));
        assert!(Outboard::new(vec![]).is_empty());
    }

    #[test]
    fn the_longest_proof_is_that_of_the_largest_object() {
        let longest = proof_length(limits::TRANSFER_OBJECT_BYTES, 0);
        assert_eq!(longest, limits::TRANSFER_PROOF_HASHES);
    }

    proptest! {
        /// Nothing but the very piece at its very place leads to the root.
        #[test]
        fn another_piece_place_or_proof_leads_elsewhere(
            count in 2_u64..300, rest in 1..=PIECE,
            at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
            bit in 0_usize..256, how in 0..4,
        ) {
            // What the pieces are does not matter here: their hashes are drawn.
            let mut random = Random::new(count);
            let mut draw = || {
                let mut node = Node::default();
                node.iter_mut().for_each(|byte| *byte = random.bits() as u8);
                node
            };
            let pieces: Vec<Node> = (0..count).map(|_| draw()).collect();
            let length = (count - 1) * PIECE + rest;
            let outboard = Outboard::new(pieces.clone());
            let place = at.index(pieces.len());
            let start = place as u64 * PIECE;
            let (mut node, mut proof, mut claimed) = (pieces[place], outboard.proof(start), start);
            let good = root(length, start, node, &proof);
            prop_assert!(good.is_some());
            match how {
                0 => node[bit / 8] ^= 1 << (bit % 8),
                1 => {
                    let height = other.index(proof.len());
                    proof[height][bit / 8] ^= 1 << (bit % 8);
                }
                2 if bit % 2 == 0 => proof.push(node),
                2 => drop(proof.pop()),
                _ => claimed = other.index(pieces.len() + 5) as u64 * PIECE,
            }
            if how < 3 || claimed != start {
                prop_assert_ne!(root(length, claimed, node, &proof), good);
            }
        }
    }
}
