// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls.

use super::{constants, cursor::Cursor, Result};
use crate::script::{Argument, Call};

/// `name(arguments) = result [ERRNO] [(note)]`
pub(super) fn call(cursor: &mut Cursor<'_>) -> Result<Call> {
    let name = cursor.name()?;
    cursor.expect('(')?;
    let arguments = list(cursor, ')')?;
    cursor.expect('=')?;
    let mut call = Call { name, arguments, result: None, errno: None };
    if cursor.take('?') {
        return Ok(call);
    }
    call.result = Some(number(cursor)?);
    if call.result == Some(-1) {
        let name = cursor.name()?;
        let errno = constants::errno(&name);
        call.errno = Some(errno.ok_or_else(|| cursor.error(format!("unknown error {name}")))?);
    }
    if cursor.peek() == Some('(') {
        cursor.take('(');
        cursor.until(")")?;
    }
    Ok(call)
}

/// Arguments up to `end`, which is taken too.
fn list(cursor: &mut Cursor<'_>, end: char) -> Result<Vec<Argument>> {
    let mut items = Vec::new();
    while !cursor.take(end) {
        items.push(argument(cursor)?);
        if !cursor.take(',') {
            cursor.expect(end)?;
            break;
        }
    }
    Ok(items)
}

fn argument(cursor: &mut Cursor<'_>) -> Result<Argument> {
    match cursor.peek() {
        Some('.') if cursor.take_text("...") => Ok(Argument::Any),
        Some('[') => {
            cursor.take('[');
            list(cursor, ']').map(Argument::List)
        }
        Some('{') => {
            cursor.take('{');
            fields(cursor)
        }
        Some('"') => {
            cursor.take('"');
            Ok(Argument::Text(cursor.until("\"")?.into_bytes()))
        }
        _ => number(cursor).map(Argument::Number),
    }
}

fn fields(cursor: &mut Cursor<'_>) -> Result<Argument> {
    let mut fields = Vec::new();
    while !cursor.take('}') {
        let name = cursor.name()?;
        cursor.expect('=')?;
        fields.push((name, argument(cursor)?));
        if !cursor.take(',') {
            cursor.expect('}')?;
            break;
        }
    }
    Ok(Argument::Fields(fields))
}

/// A number, a constant, or several joined by `|`.
fn number(cursor: &mut Cursor<'_>) -> Result<i64> {
    let mut value = term(cursor)?;
    while cursor.take('|') {
        value |= term(cursor)?;
    }
    Ok(value)
}

fn term(cursor: &mut Cursor<'_>) -> Result<i64> {
    let sign = if cursor.take('-') { -1 } else { 1 };
    let word = cursor.name()?;
    if let Some(digits) = word.strip_prefix("0x") {
        let value = i64::from_str_radix(digits, 16);
        return value.map(|value| sign * value).map_err(|_| cursor.error("no hexadecimal number"));
    }
    if word.starts_with(|letter: char| letter.is_ascii_digit()) {
        return word.parse::<i64>().map(|value| sign * value).map_err(|_| cursor.error("no number"));
    }
    match word.as_str() {
        // Network order is the runner's business.
        "htons" | "htonl" => {
            cursor.expect('(')?;
            let value = number(cursor)?;
            cursor.expect(')')?;
            Ok(value)
        }
        "inet_addr" => {
            cursor.expect('(')?;
            cursor.expect('"')?;
            let text = cursor.until("\"")?;
            cursor.expect(')')?;
            let address: std::net::Ipv4Addr = text.parse().map_err(|_| cursor.error("no address"))?;
            Ok(u32::from(address).into())
        }
        _ => constants::value(&word).ok_or_else(|| cursor.error(format!("unknown constant {word}"))),
    }
}
