//! How a node finds out whether a connection still leads to somebody: it sends a few bytes that
//! nobody can guess, on a stream that both ends keep, and gets them back.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::identity::random;

/// Enough that an answer is one to this question.
const QUESTION_BYTES: usize = 8;

/// Asks, and gives how long the way there and back took.
pub(super) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Duration> {
    let question: [u8; QUESTION_BYTES] = random()?;
    let asked = Instant::now();
    stream.write_all(&question).await?;
    stream.flush().await?;
    let mut answer = [0; QUESTION_BYTES];
    stream.read_exact(&mut answer).await?;
    match answer == question {
        true => Ok(asked.elapsed()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")),
    }
}

/// Answers one question; an error is also the end of the stream.
pub(super) async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut question = [0; QUESTION_BYTES];
    stream.read_exact(&mut question).await?;
    stream.write_all(&question).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_stream_serves_question_after_question() {
        let (mut asker, mut asked) = tokio::io::duplex(64);
        for _ in 0..3 {
            let (round_trip, answered) = tokio::join!(ask(&mut asker), answer(&mut asked));
            assert!(round_trip.is_ok() && answered.is_ok());
        }
        drop(asker);
        assert!(answer(&mut asked).await.is_err());
    }

    #[tokio::test]
    async fn what_was_not_asked_is_no_answer() {
        let (mut asker, mut asked) = tokio::io::duplex(64);
        // In advance, by somebody who wants to look near.
        asked.write_all(&[0; QUESTION_BYTES]).await.unwrap();
        let failed = ask(&mut asker).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
    }
}
