//! Frames on a stream: a length in four bytes, the lowest first, and so many bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Memory for a frame of which nothing has come.
const AHEAD_BYTES: usize = 64 * 1024;

/// Reads one frame of at most `max` bytes, and gives up when nothing has come for so long. None: the
/// other end closed the stream between two.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    max: u64,
    silence: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match within(silence, stream.read(&mut length[filled..])).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let length = u64::from(u32::from_le_bytes(length));
    if length > max {
        let text = format!("a frame of {length} bytes, where {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Memory follows the bytes that come, not the length that was promised.
    let mut bytes = Vec::new();
    let mut rest = stream.take(length);
    while (bytes.len() as u64) < length {
        if bytes.len() == bytes.capacity() {
            let left = length - bytes.len() as u64;
            bytes.reserve_exact(bytes.len().max(AHEAD_BYTES).min(left as usize));
        }
        if within(silence, rest.read_buf(&mut bytes)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(bytes))
}

/// Appends a frame to what is to be written.
pub(crate) fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    // Every caller's format bounds its length far below this.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(bytes);
}

/// Writes and flushes, and gives up when nothing could be written for so long.
pub(crate) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    silence: Duration,
) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        match within(silence, stream.write(left)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => left = &left[written..],
        }
    }
    within(silence, stream.flush()).await
}

async fn within<T>(silence: Duration, act: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(silence, act).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_went_and_no_longer_than_allowed() {
        let mut bytes = Vec::new();
        append(&mut bytes, b"");
        append(&mut bytes, b"abc");
        const SILENCE: Duration = Duration::from_secs(1);
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from, 3, SILENCE).await.unwrap(), Some(vec![]));
        assert_eq!(read(&mut from, 3, SILENCE).await.unwrap(), Some(b"abc".to_vec()));
        assert_eq!(read(&mut from, 3, SILENCE).await.unwrap(), None);
        let kind = |result: io::Result<Option<Vec<u8>>>| result.unwrap_err().kind();
        let read = async |mut from: &[u8], max| kind(read(&mut from, max, SILENCE).await);
        assert_eq!(read(&bytes[4..], 2).await, io::ErrorKind::InvalidData);
        assert_eq!(read(&bytes[4..9], 3).await, io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&bytes[4..6], 3).await, io::ErrorKind::UnexpectedEof);
    }

    /// What comes slowly comes; what does not come is given up.
    #[tokio::test(start_paused = true)]
    async fn silence_counts_and_not_slowness() {
        let silence = Duration::from_secs(10);
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let mut bytes = Vec::new();
        append(&mut bytes, &[7; 20]);
        let trickle = tokio::spawn(async move {
            for byte in bytes {
                tokio::time::sleep(Duration::from_secs(9)).await;
                write(&mut theirs, &[byte], silence).await.unwrap();
            }
            theirs
        });
        assert_eq!(read(&mut ours, 20, silence).await.unwrap(), Some(vec![7; 20]));
        let mut theirs = trickle.await.unwrap();
        let stalled = read(&mut ours, 20, silence).await.unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        let stalled = write(&mut theirs, &[7; 2], silence).await.unwrap_err();
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut, "nobody reads");
    }
}
