//! What flags take: sizes, times, and what is in a range.

use std::ops::RangeInclusive;

use mesh_protocol::limits;

/// Cores that a flag or a key of the config file may name.
pub(crate) const SLOTS: RangeInclusive<u64> = 0..=limits::CLAIM_CORES as u64;

/// All of them.
pub(crate) const PERCENT_MAX: u32 = 100;

pub(super) fn slots() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(limits::CLAIM_CORES))
}

/// Seconds, perhaps with a fraction, as milliseconds.
pub(super) fn parse_seconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a time is a number of seconds")?;
    let milliseconds = (seconds * 1000.0).ceil();
    let most = limits::TIMEOUT_MS_MAX;
    if !(1.0..=most as f64).contains(&milliseconds) {
        return Err(format!("a time is more than 0 and at most {} seconds", most / 1000));
    }
    Ok(milliseconds as u64)
}

/// `90s`, `30m`, `24h`, `7d`, as seconds.
pub(super) fn parse_span(text: &str) -> Result<u64, String> {
    let expected = "a time is a number and s, m, h or d";
    let (at, unit) = text.char_indices().next_back().ok_or(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(expected.to_owned()),
    };
    let number: u64 = text[..at].parse().map_err(|_| expected)?;
    let most_s = 10 * 365 * 24 * 60 * 60;
    let span_s = number.checked_mul(seconds).filter(|span_s| (1..=most_s).contains(span_s));
    span_s.ok_or_else(|| "a time is more than 0 and at most ten years".to_owned())
}

/// `20G` and the like, in powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let unit = text.char_indices().next_back().map_or(0, |(at, last)| match last {
        'K' | 'M' | 'G' | 'T' => at,
        _ => text.len(),
    });
    let shift = match &text[unit..] {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => 0,
    };
    let number: u64 =
        text[..unit].parse().map_err(|_| "a size is a number, K, M, G or T behind it")?;
    number.checked_mul(1 << shift).ok_or_else(|| "larger than any disk".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_seconds("1.5"), Ok(1500));
        assert_eq!(parse_seconds("0.0001"), Ok(1));
        for bad in ["", "0", "-1", "NaN", "inf", "1e9", "5s"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        assert_eq!(parse_span("90s"), Ok(90));
        assert_eq!(parse_span("24h"), Ok(86_400));
        assert_eq!(parse_span("7d"), Ok(604_800));
        for bad in ["", "h", "0h", "24", "-1h", "1.5h", "11y", "4000d", "9é"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("3K"), Ok(3072));
        assert_eq!(parse_size("20G"), Ok(20 << 30));
        for bad in ["", "G", "1.5G", "-1", "10g", "99999999999T", "1é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
