// SPDX-License-Identifier: MIT OR Apache-2.0
//! The quantities of a specification: probabilities, times, rates.

use std::fmt;

/// A probability in parts of 10^9: exact for every percentage anyone writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Probability(u64);

impl Probability {
    /// The parts of certainty.
    pub const ONE: u64 = 1_000_000_000;

    /// From parts of [`Self::ONE`].
    pub fn from_parts(parts: u64) -> Self {
        Self(parts.min(Self::ONE))
    }
    /// Parts of [`Self::ONE`].
    pub fn parts(self) -> u64 {
        self.0
    }
    /// Never?
    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    /// From `1%` or `0.01`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        let share = decimal(number, text)? / whole;
        if share > 1.0 {
            return Err(format!("{text} is more than always"));
        }
        Ok(Self((share * Self::ONE as f64).round() as u64))
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 as f64 / (Self::ONE / 100) as f64)
    }
}

fn decimal(number: &str, text: &str) -> Result<f64, String> {
    let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = number.parse::<f64>().ok().filter(|value| digits && value.is_finite());
    value.ok_or_else(|| format!("{text} is not a number"))
}

/// `text` as a decimal number with one of `units`, in the smallest of them.
fn with_unit(text: &str, units: &[(&str, f64)], what: &str) -> Result<u64, String> {
    let (number, scale) = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
        .ok_or_else(|| format!("{text}: {what} ends with one of {}", names(units)))?;
    Ok((decimal(number, text)? * scale).round() as u64)
}

fn names(units: &[(&str, f64)]) -> String {
    units.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ")
}

/// Nanoseconds of `5ms`, `100us`, `1s`.
pub(crate) fn time_ns(text: &str) -> Result<u64, String> {
    with_unit(text, &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)], "a time")
}

/// Bits per second of `100mbit`.
pub(crate) fn rate_bps(text: &str) -> Result<u64, String> {
    let rate = with_unit(text, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9), ("bit", 1.0)], "a rate")?;
    if rate == 0 {
        return Err("a rate of 0 carries nothing".to_owned());
    }
    Ok(rate)
}

/// A count.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a count"))
}

/// A time for people.
pub(crate) fn time_text(ns: u64) -> String {
    match ns {
        _ if ns % 1_000_000 == 0 => format!("{}ms", ns / 1_000_000),
        _ if ns % 1000 == 0 => format!("{}us", ns / 1000),
        _ => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly() {
        assert_eq!(Probability::parse("0.1%").map(Probability::parts), Ok(1_000_000));
        assert_eq!(Probability::parse("0.01").map(Probability::parts), Ok(10_000_000));
        assert_eq!(Probability::parse("100%").map(Probability::parts), Ok(Probability::ONE));
        assert_eq!(
            (time_ns("5ms"), time_ns("1.5us"), time_ns("2s")),
            (Ok(5_000_000), Ok(1500), Ok(2_000_000_000))
        );
        assert_eq!((rate_bps("10gbit"), rate_bps("1.5mbit")), (Ok(10_000_000_000), Ok(1_500_000)));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["101%", "1.1", "-1%", "x", "", "%", "nan", "inf", "1e3"] {
            assert!(Probability::parse(text).is_err(), "{text}");
        }
        for text in ["5", "ms", "-1ms", "5m"] {
            assert!(time_ns(text).is_err(), "{text}");
        }
        assert!(rate_bps("0mbit").is_err() && rate_bps("100").is_err() && count("-1").is_err());
    }
}
