//! Times as scenario files have them.

/// Reads `300ms`, `5s`, `2m` or `1h`; a fraction is allowed where it comes to whole milliseconds.
///
/// # Errors
/// It is not one of those.
pub fn read_duration(text: &str) -> Result<u64, String> {
    let expected =
        || format!("`{text}` is no time; expected a number and its unit, as `5s`, `300ms`, `2m` or `1h`");
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(fraction.len()).map_err(|_| expected())?;
    let scale = 10_u64.checked_pow(places).ok_or_else(expected)?;
    let whole: u64 = whole.parse().map_err(|_| expected())?;
    let fraction: u64 = fraction.parse().map_err(|_| expected())?;
    let ms = whole
        .checked_mul(unit)
        .zip(fraction.checked_mul(unit))
        .filter(|(_, part)| part % scale == 0);
    ms.and_then(|(whole, part)| whole.checked_add(part / scale))
        .ok_or_else(expected)
}

/// As [`read_duration`] reads it.
pub fn duration(ms: u64) -> String {
    if ms.is_multiple_of(1_000) {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0s", 0),
            ("300ms", 300),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(read_duration(text), Ok(ms));
        }
        for text in ["", "s", "5", "5 s", "-5s", "5d", "99999999999999999999s", "1.s"] {
            assert!(read_duration(text).is_err(), "{text}");
        }
        assert_eq!((duration(1_500), duration(2_000)), ("1500ms".into(), "2s".into()));
    }
}
