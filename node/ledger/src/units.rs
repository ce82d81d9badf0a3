//! Units: integers with names, bounded where the specification bounds them.
//!
//! There is no floating point between the edge and a digest. A fraction is rounded once, at the edge, by
//! [`round_decimal`]; products are rounded by [`round_div`]. Both round halves away from zero.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest magnitude of any figure in a statement or a seal: 2^53 − 1, exact in every JSON reader.
pub const MAX_FIGURE: i64 = (1 << 53) - 1;
/// The largest magnitude of one settlement's consumption and CO2: 2^40.
pub const MAX_SETTLEMENT: i64 = 1 << 40;
/// Epochs and nothing but epochs are below this: 2^40.
pub const EPOCHS: u64 = 1 << 40;

/// A number beyond the bounds of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} is out of range: {unit} go from {min} to {max}")]
pub struct OutOfRange {
    /// What was asked for.
    pub value: i128,
    /// The unit's name, in the plural.
    pub unit: &'static str,
    /// The least allowed value.
    pub min: i128,
    /// The greatest allowed value.
    pub max: i128,
}

fn bounded(value: i128, unit: &'static str, min: i128, max: i128) -> Result<i128, OutOfRange> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(OutOfRange {
            value,
            unit,
            min,
            max,
        })
    }
}

macro_rules! figure {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name(i64);

        impl $name {
            /// None of it.
            pub const ZERO: $name = $name(0);

            /// A figure of at most [`MAX_FIGURE`] in magnitude.
            ///
            /// # Errors
            /// [`OutOfRange`] beyond that.
            pub fn new(value: impl Into<i128>) -> Result<Self, OutOfRange> {
                let max = i128::from(MAX_FIGURE);
                let value = bounded(value.into(), $unit, -max, max)?;
                // Within ±(2^53 − 1), so it fits.
                Ok($name(value as i64))
            }

            /// The bare number.
            pub const fn get(self) -> i64 {
                self.0
            }

            /// The bare number, wide enough to sum without overflow.
            pub fn wide(self) -> i128 {
                i128::from(self.0)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = OutOfRange;
            fn try_from(value: i64) -> Result<Self, OutOfRange> {
                $name::new(value)
            }
        }

        impl From<$name> for i64 {
            fn from(value: $name) -> i64 {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

figure!(
    /// Energy in whole watt-hours. In statements never negative: direction is said by `from` and `to`.
    Wh,
    "watt-hours"
);
figure!(
    /// Grams of CO2 equivalent, signed.
    GramsCo2,
    "grams of CO2"
);
figure!(
    /// Millionths of the currency, signed: a price of one kilowatt-hour, or a value.
    MicroCurrency,
    "millionths of the currency"
);

/// A market time unit: `floor(unix_ms / epoch_ms)`, below 2^40.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch below 2^40.
    ///
    /// # Errors
    /// [`OutOfRange`] from there on.
    pub fn new(value: u64) -> Result<Self, OutOfRange> {
        bounded(i128::from(value), "epochs", 0, i128::from(EPOCHS) - 1)?;
        Ok(Epoch(value))
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch `back` epochs earlier, if there is one.
    pub fn earlier(self, back: u64) -> Option<Epoch> {
        self.0.checked_sub(back).map(Epoch)
    }
}

impl TryFrom<u64> for Epoch {
    type Error = OutOfRange;
    fn try_from(value: u64) -> Result<Self, OutOfRange> {
        Epoch::new(value)
    }
}

impl From<Epoch> for u64 {
    fn from(value: Epoch) -> u64 {
        value.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970, UTC, at most 2^53 − 1. Always the leader's stamp in an entry, never a clock read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of 1970.
    pub const ZERO: Timestamp = Timestamp(0);

    /// A moment of at most 2^53 − 1 ms.
    ///
    /// # Errors
    /// [`OutOfRange`] beyond that.
    pub fn new(ms: u64) -> Result<Self, OutOfRange> {
        bounded(i128::from(ms), "milliseconds", 0, i128::from(MAX_FIGURE))?;
        Ok(Timestamp(ms))
    }

    /// Milliseconds since 1970.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This moment and `ms` more, at most the greatest there is.
    pub fn plus(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms).min(MAX_FIGURE.unsigned_abs()))
    }
}

impl TryFrom<u64> for Timestamp {
    type Error = OutOfRange;
    fn try_from(value: u64) -> Result<Self, OutOfRange> {
        Timestamp::new(value)
    }
}

impl From<Timestamp> for u64 {
    fn from(value: Timestamp) -> u64 {
        value.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `numerator / denominator`, rounded to the nearest integer, halves away from zero.
///
/// `None` where the denominator is 0. Exact for all magnitudes below 2^126.
pub fn round_div(numerator: i128, denominator: i128) -> Option<i128> {
    if denominator == 0 {
        return None;
    }
    let (n, d) = (numerator.unsigned_abs(), denominator.unsigned_abs());
    let (quotient, remainder) = (n / d, n % d);
    // remainder ≥ d − remainder says 2 × remainder ≥ d without the doubling.
    let rounded = i128::try_from(if remainder >= d - remainder {
        quotient + 1
    } else {
        quotient
    })
    .ok()?;
    Some(if (numerator < 0) == (denominator < 0) {
        rounded
    } else {
        -rounded
    })
}

/// The nearest integer to a decimal number as JSON writes it (`-2.5`, `1e3`, `0.5E-1`), halves away from zero,
/// with no detour through floating point.
///
/// # Errors
/// [`DecimalError`] for anything that is no such number, or that is beyond ±2^63.
pub fn round_decimal(text: &str) -> Result<i64, DecimalError> {
    let malformed = || DecimalError::Malformed {
        text: text.chars().take(40).collect(),
    };
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, 0i64),
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            // An exponent too long for i64 is beyond any bound anyway; its sign decides which way.
            let huge = if exponent.starts_with('-') {
                -1_000_000
            } else {
                1_000_000
            };
            (
                mantissa,
                exponent
                    .parse::<i64>()
                    .unwrap_or(huge)
                    .clamp(-1_000_000, 1_000_000),
            )
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let no_digits = whole.is_empty() && fraction.is_empty();
    if no_digits || text.len() > 4096 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    // At most 4096 digits, so the lengths fit.
    let point = i64::try_from(whole.len()).map_err(|_| malformed())? + exponent;
    let digit = |i: i64| {
        usize::try_from(i)
            .ok()
            .and_then(|i| digits.get(i))
            .copied()
            .unwrap_or(0)
    };
    let leading = digits.iter().position(|d| *d != 0).unwrap_or(digits.len());
    let leading = i64::try_from(leading).map_err(|_| malformed())?;
    let mut value: i128 = 0;
    for i in leading..point {
        value = value * 10 + i128::from(digit(i));
        if value > i128::from(i64::MAX) {
            return Err(DecimalError::TooLarge {
                text: text.chars().take(40).collect(),
            });
        }
        if usize::try_from(leading).is_ok_and(|l| l >= digits.len()) {
            break; // all zeros
        }
    }
    if digit(point) >= 5 && !planted!("fraction-cut") {
        value += 1;
    }
    i64::try_from(if negative { -value } else { value }).map_err(|_| DecimalError::TooLarge {
        text: text.chars().take(40).collect(),
    })
}

/// Why a text is no number that could be rounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It is not written as a decimal number.
    #[error("`{text}` is no decimal number")]
    Malformed {
        /// Its first characters.
        text: String,
    },
    /// Its magnitude is beyond 2^63.
    #[error("`{text}` is too large")]
    TooLarge {
        /// Its first characters.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        for (n, d, r) in [
            (5, 2, 3),
            (-5, 2, -3),
            (5, -2, -3),
            (-5, -2, 3),
            (4, 3, 1),
            (5, 3, 2),
            (0, 7, 0),
            (1, 2, 1),
        ] {
            assert_eq!(round_div(n, d), Some(r), "{n}/{d}");
        }
        assert_eq!(round_div(1, 0), None);
    }

    #[test]
    fn decimals_are_exact() {
        for (text, value) in [
            ("2.5", 3),
            ("-2.5", -3),
            ("2.4999999999999999999999", 2),
            ("0", 0),
            ("-0", 0),
            ("1e3", 1000),
            ("12.345e1", 123),
            ("12.35e1", 124),
            ("5e-1", 1),
            ("49e-2", 0),
            ("0e999999999999999999999", 0),
            ("1e-999999999999999999999", 0),
            ("00012", 12),
            (".5", 1),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(round_decimal(text), Ok(value), "{text}");
        }
        for text in [
            "", "-", ".", "e1", "1e", "1e+", "1.2.3", "NaN", "inf", "0x10", "1 ", "--1",
        ] {
            assert!(
                matches!(round_decimal(text), Err(DecimalError::Malformed { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            round_decimal("1e40"),
            Err(DecimalError::TooLarge { .. })
        ));
        assert!(matches!(
            round_decimal("9223372036854775808"),
            Err(DecimalError::TooLarge { .. })
        ));
    }

    #[test]
    fn bounds_hold() {
        assert!(Wh::new(MAX_FIGURE).is_ok() && Wh::new(MAX_FIGURE + 1).is_err());
        assert!(Epoch::new(EPOCHS - 1).is_ok() && Epoch::new(EPOCHS).is_err());
    }
}
