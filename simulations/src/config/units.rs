//! `5 ms`, `1 Gbit/s`, `16 GiB`.

/// Seconds of a text such as `1.5 h`.
pub(super) fn seconds(text: &str) -> Option<f64> {
    scaled(text, |unit| {
        Some(match unit {
            "ns" => 1e-9,
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        })
    })
}

/// Bytes of a text such as `90 MB` or `16 GiB`.
pub(super) fn bytes(text: &str) -> Option<f64> {
    scaled(text, byte_unit)
}

/// Bytes a second of a text such as `1 Gbit/s` or `12.5 MB/s`.
pub(super) fn bytes_per_second(text: &str) -> Option<f64> {
    let amount = text.trim_end().strip_suffix("/s")?;
    scaled(amount, |unit| match unit.strip_suffix("bit") {
        Some("") => Some(1.0 / 8.0),
        Some(prefix) => byte_unit(&format!("{prefix}B")).map(|factor| factor / 8.0),
        None => byte_unit(unit),
    })
}

fn byte_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

fn scaled(text: &str, factor: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic() && c != 'e').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    Some(number.trim().parse::<f64>().ok()? * factor(unit.trim())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(seconds("5 ms"), Some(0.005));
        assert_eq!(seconds("1.5h"), Some(5400.0));
        assert_eq!(seconds("2e3 s"), Some(2000.0));
        assert_eq!(bytes("16 KiB"), Some(16384.0));
        assert_eq!(bytes("90 MB"), Some(9e7));
        assert_eq!(bytes_per_second("1 Gbit/s"), Some(1.25e8));
        assert_eq!(bytes_per_second("8 bit/s"), Some(1.0));
        assert_eq!(bytes_per_second("12.5 MB/s"), Some(1.25e7));
        for bad in ["", "5", "ms", "5 m", "5 minutes"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(bytes_per_second("1 Gbit"), None);
    }
}
