//! As much of HTTP/1.1 as a scrape needs: one GET of one page, then the connection is closed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::accept::accepted;

/// Connections that are answered at once; others wait to be accepted.
const CONNECTIONS: usize = 8;

/// The longest request that is read, in bytes. Monitors send a few hundred.
const REQUEST_BYTES: usize = 8 << 10;

/// Bytes that are read after the answer, so that closing does not take it away (RFC 9112, 9.6).
const REST_BYTES: u64 = 64 << 10;

/// From the first byte of a connection to its end.
const PATIENCE: Duration = Duration::from_secs(5);

const PATH: &str = "/metrics";

/// The text format's media type (prometheus.io, exposition formats).
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Page,
    /// The same without its body.
    Head,
    Wrong(&'static str),
}

/// Answers until it is dropped. `page` makes the page anew for each that asks.
pub(super) async fn serve<F, T>(listener: TcpListener, page: F)
where
    F: Fn() -> T + Clone + Send + 'static,
    T: Future<Output = String> + Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = accepted(|| listener.accept()).await;
        let page = page.clone();
        tokio::spawn(async move {
            // Whoever does not listen to the end gets nothing more.
            let _ = tokio::time::timeout(PATIENCE, answer(stream, page)).await;
            drop(place);
        });
    }
}

async fn answer<F, T>(mut stream: impl AsyncRead + AsyncWrite + Unpin, page: F) -> io::Result<()>
where
    F: FnOnce() -> T,
    T: Future<Output = String>,
{
    let reply = match read(&mut stream).await? {
        Asked::Page => response("200 OK", METRICS_TYPE, &page().await, true),
        Asked::Head => response("200 OK", METRICS_TYPE, &page().await, false),
        Asked::Wrong(status) => response(status, TEXT_TYPE, &format!("{status}\n"), true),
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REST_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads a request's head; its fields are nothing to us.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut head = Vec::new();
    let mut stream = stream.take(REQUEST_BYTES as u64);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? > 0 {
            continue;
        }
        return Ok(Asked::Wrong(match head.len() < REQUEST_BYTES {
            true => "400 Bad Request",
            false => "431 Request Header Fields Too Large",
        }));
    }
    Ok(asked(&head))
}

fn asked(head: &[u8]) -> Asked {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&str> = std::str::from_utf8(line).unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Asked::Wrong("400 Bad Request") };
    if !version.starts_with("HTTP/1.") {
        return Asked::Wrong("400 Bad Request");
    }
    let path = target.split('?').next().unwrap_or_default();
    match (path == PATH, method) {
        (false, _) => Asked::Wrong("404 Not Found"),
        (true, "GET") => Asked::Page,
        (true, "HEAD") => Asked::Head,
        (true, _) => Asked::Wrong("405 Method Not Allowed"),
    }
}

fn response(status: &str, media: &str, body: &str, has_body: bool) -> String {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let (length, shown) = (body.len(), if has_body { body } else { "" });
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n{allow}\
         Connection: close\r\n\r\n{shown}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &[u8]) -> String {
        let (mut client, server) = tokio::io::duplex(256 << 10);
        client.write_all(request).await.unwrap();
        client.shutdown().await.unwrap();
        answer(server, || async { "mesh_slots 2\n".to_owned() }).await.unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn the_page_and_nothing_else_is_served() {
        let page = ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(
            page,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: 13\r\nConnection: close\r\n\r\nmesh_slots 2\n"
        );
        let head = ask(b"HEAD /metrics HTTP/1.0\r\n\r\n").await;
        assert!(head.contains("Content-Length: 13\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for (request, status) in [
            ("GET /metrics?x=y HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            ("GET /metrics HTTP/1.1\r\n", "400 Bad Request"),
            ("", "400 Bad Request"),
            ("\u{1f980} /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ] {
            let reply = ask(request.as_bytes()).await;
            assert!(reply.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {reply}");
        }
        let bytes = ask(b"\xff\xfe /metrics HTTP/1.1\r\n\r\n").await;
        assert!(bytes.starts_with("HTTP/1.1 400 "), "{bytes}");
    }

    #[tokio::test]
    async fn a_request_without_end_is_read_as_far_as_it_may_be() {
        let long = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'x'; REQUEST_BYTES]].concat();
        let reply = ask(&long).await;
        assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_loses_its_place() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, || async { String::new() }));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let mut last = tokio::net::TcpStream::connect(address).await.unwrap();
        last.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut reply = String::new();
        last.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        server.abort();
    }
}
