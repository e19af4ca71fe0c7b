//! What goes wrong on the lines of a network, as rules of nftables. Pure.

use std::fmt::Write;

/// What is wrong with the line between one host and the switch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Line {
    /// Frames lost in each direction, of a hundred.
    pub(super) lost_percent: u32,
    /// Hosts hear those on the same side only.
    pub(super) side: u32,
}

/// The port of the switch at which a host's line ends.
pub(super) fn port(host: usize) -> String {
    format!("h{host}")
}

/// The port at which what has been delayed comes in.
pub(super) fn delayed_port(host: usize) -> String {
    format!("b{host}")
}

/// All rules of the switch, in place of those before.
pub(super) fn render(lines: &[Line]) -> String {
    let mut text = String::from("table bridge faults\ndelete table bridge faults\n");
    text += "table bridge faults {\n  chain forward {\n    type filter hook forward priority 0;\n";
    for (host, line) in lines.iter().enumerate() {
        let others = lines.iter().enumerate().filter(|(_, other)| other.side != line.side);
        let others: Vec<String> = others.flat_map(|(other, _)| ports(other)).collect();
        if !others.is_empty() {
            let from = ports(host).join(", ");
            let to = others.join(", ");
            let _ = writeln!(text, "    iifname {{ {from} }} oifname {{ {to} }} drop");
        }
        // Of a delayed line as well, once in each direction: its other end is another port.
        for direction in ["iifname", "oifname"].into_iter().filter(|_| line.lost_percent > 0) {
            let (port, lost) = (port(host), line.lost_percent);
            let _ = writeln!(text, "    {direction} {port} numgen random mod 100 < {lost} drop");
        }
    }
    text + "  }\n}\n"
}

fn ports(host: usize) -> [String; 2] {
    [port(host), delayed_port(host)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_hear_each_other_and_lossy_lines_lose_both_ways() {
        let lines = [
            Line::default(),
            Line { lost_percent: 5, side: 0 },
            Line { side: 1, ..Line::default() },
        ];
        assert_eq!(
            render(&lines).lines().skip(5).collect::<Vec<_>>(),
            [
                "    iifname { h0, b0 } oifname { h2, b2 } drop",
                "    iifname { h1, b1 } oifname { h2, b2 } drop",
                "    iifname h1 numgen random mod 100 < 5 drop",
                "    oifname h1 numgen random mod 100 < 5 drop",
                "    iifname { h2, b2 } oifname { h0, b0, h1, b1 } drop",
                "  }",
                "}",
            ]
        );
    }
}
