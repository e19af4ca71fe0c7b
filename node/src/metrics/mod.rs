//! What a monitor may know of a node: counts in Prometheus' text format, over HTTP, on this machine.
//!
//! Goals: a scrape costs a node next to nothing, whoever asks, and however; other machines get
//! nothing. Non-goals: HTTP beyond one GET for each connection, and naming members, thunks or files: labels
//! are of a few fixed words.

mod http;
mod sample;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use thiserror::Error;
use tokio::net::TcpListener;

use self::sample::Sampler;
use crate::node::Node;

/// An address that only this machine reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loopback(SocketAddr);

/// Why an address is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotLoopback {
    /// It is no address.
    #[error("not an address and a port, such as 127.0.0.1:9474")]
    Form,
    /// Other machines would reach it.
    #[error(
        "metrics are for this machine alone: the address has to be a loopback one, such as 127.0.0.1:9474"
    )]
    Reachable,
}

impl Loopback {
    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        let address: SocketAddr = text.parse().map_err(|_| NotLoopback::Form)?;
        match address.ip().is_loopback() {
            true => Ok(Self(address)),
            false => Err(NotLoopback::Reachable),
        }
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serves a node's metrics until it is dropped.
pub(crate) async fn serve(listener: TcpListener, node: Node) {
    let sampler = Sampler::new(node);
    let page = move || {
        let sampler = sampler.clone();
        async move { text::page(&sampler.sample().await) }
    };
    http::serve(listener, page).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        for good in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:9474"] {
            assert_eq!(good.parse::<Loopback>().map(|at| at.to_string()).as_deref(), Ok(good));
        }
        for (bad, why) in [
            ("0.0.0.0:9474", NotLoopback::Reachable),
            ("[::]:9474", NotLoopback::Reachable),
            ("10.0.0.1:9474", NotLoopback::Reachable),
            ("9474", NotLoopback::Form),
            ("localhost:9474", NotLoopback::Form),
            ("127.0.0.1", NotLoopback::Form),
        ] {
            assert_eq!(bad.parse::<Loopback>(), Err(why), "{bad}");
        }
    }
}
