//! Links.

/// A link.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Seconds from one end to the other.
    pub latency: f64,
    /// Bytes a second; infinite if the link never is the bottleneck.
    pub bandwidth: f64,
}
