// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times of events.

use super::{cursor::Cursor, Result};
use crate::script::Time;

/// Digits behind the decimal point that count.
const PLACES: usize = 6;

/// `*`, or `[+]time[~[+]time][...[+]time]`.
pub(super) fn time(cursor: &mut Cursor<'_>) -> Result<Time> {
    if cursor.take('*') {
        return Ok(Time { relative: true, any: true, from_us: 0, to_us: 0, returns_us: None });
    }
    let relative = cursor.take('+');
    let from_us = seconds(cursor)?;
    let mut time = Time { relative, any: false, from_us, to_us: from_us, returns_us: None };
    if cursor.follows("~") {
        cursor.take('~');
        if cursor.take('+') != relative {
            return Err(cursor.error("both ends of a range are relative, or none is"));
        }
        time.to_us = seconds(cursor)?;
        if time.to_us < from_us {
            return Err(cursor.error("a range that ends before it begins"));
        }
    }
    if cursor.follows("...") {
        cursor.take_text("...");
        cursor.take('+');
        time.returns_us = Some(seconds(cursor)?);
    }
    Ok(time)
}

/// A decimal number of seconds, in microseconds. A point that no digit follows is not part of it.
fn seconds(cursor: &mut Cursor<'_>) -> Result<u64> {
    cursor.peek();
    let whole = cursor.word(|letter| letter.is_ascii_digit());
    let mut places = String::new();
    if cursor.follows(".") && !cursor.follows("..") {
        cursor.take('.');
        places = cursor.word(|letter| letter.is_ascii_digit());
    }
    if whole.is_empty() && places.is_empty() {
        return Err(cursor.error("expected a time"));
    }
    let places = format!("{places:0<PLACES$}");
    let value = format!("{whole}{}", &places[..PLACES]);
    value.parse().map_err(|_| cursor.error("a time out of range"))
}
