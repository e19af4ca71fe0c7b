//! Reads the arguments of another process's call from its memory.
#![allow(unsafe_code)] // process_vm_readv(2): no crate of ours has it.

/// Longest list of words that is read: more than a recipe's command line needs.
const WORDS_MAX: usize = 64;

/// Longest word that is read, in bytes.
const WORD_BYTES_MAX: usize = 64 * 1024;

/// Reads exactly `N` bytes.
pub(super) fn read<const N: usize>(pid: u32, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (read_some(pid, address, &mut bytes)? == N).then_some(bytes)
}

/// Reads so many bytes.
pub(super) fn bytes(pid: u32, address: u64, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    (read_some(pid, address, &mut bytes)? == count).then_some(bytes)
}

/// Reads a zero-terminated path of at most `PATH_MAX` bytes.
pub(super) fn path(pid: u32, address: u64) -> Option<Vec<u8>> {
    text(pid, address, libc::PATH_MAX as usize).filter(|path| path.len() < libc::PATH_MAX as usize)
}

/// Reads an `argv`, cut after [`WORDS_MAX`] words.
pub(super) fn words(pid: u32, address: u64) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for at in 0..WORDS_MAX as u64 {
        let Some(pointer) = address.checked_add(at * 8).and_then(|at| read(pid, at)) else { break };
        let pointer = u64::from_ne_bytes(pointer);
        if pointer == 0 {
            break;
        }
        match text(pid, pointer, WORD_BYTES_MAX) {
            Some(word) => words.push(word),
            None => break,
        }
    }
    words
}

/// Reads a zero-terminated text page by page, cut at a page behind `limit` bytes.
fn text(pid: u32, address: u64, limit: usize) -> Option<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    while text.len() < limit {
        let from = address.checked_add(text.len() as u64)?;
        let mut chunk = [0; PAGE as usize];
        let within = (PAGE - from % PAGE) as usize;
        let count = read_some(pid, from, &mut chunk[..within])?;
        let read = chunk.get(..count).filter(|read| !read.is_empty())?;
        if let Some(end) = read.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&read[..end]);
            return Some(text);
        }
        text.extend_from_slice(read);
    }
    Some(text)
}

fn read_some(pid: u32, address: u64, into: &mut [u8]) -> Option<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: into.len() };
    // SAFETY: `local` is our buffer with its length; the remote address is only read by the kernel,
    // which reports what it cannot reach.
    let read = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    usize::try_from(read).ok()
}
