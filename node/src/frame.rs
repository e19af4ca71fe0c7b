//! Frames on a stream: a length in four bytes, the lowest first, and so many bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one frame of at most `max` bytes. None: the other end closed the stream between two.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    max: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > max {
        let text = format!("a frame of {length} bytes, where {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Memory follows the bytes that come, not the length that was promised.
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
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

/// Writes and flushes, and gives up after so long.
pub(crate) async fn write_within(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    within: Duration,
) -> io::Result<()> {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    tokio::time::timeout(within, write).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// The next frame, or an error if none comes within so long.
pub(crate) async fn read_within(
    stream: &mut (impl AsyncRead + Unpin),
    max: u64,
    within: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let read = read(stream, max);
    tokio::time::timeout(within, read).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_went_and_no_longer_than_allowed() {
        let mut bytes = Vec::new();
        append(&mut bytes, b"");
        append(&mut bytes, b"abc");
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from, 3).await.unwrap(), Some(vec![]));
        assert_eq!(read(&mut from, 3).await.unwrap(), Some(b"abc".to_vec()));
        assert_eq!(read(&mut from, 3).await.unwrap(), None);
        let kind = |result: io::Result<Option<Vec<u8>>>| result.unwrap_err().kind();
        assert_eq!(kind(read(&mut &bytes[4..], 2).await), io::ErrorKind::InvalidData);
        assert_eq!(kind(read(&mut &bytes[4..9], 3).await), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(read(&mut &bytes[4..6], 3).await), io::ErrorKind::UnexpectedEof);
    }
}
