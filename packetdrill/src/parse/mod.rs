// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text to [`Script`].

mod call;
mod constants;
mod cursor;
mod packet;
mod time;

pub(crate) use constants::errno_name;

use crate::script::{Action, Event, Script, Time};
use cursor::Cursor;
use std::fmt;

/// What is wrong with a script, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for ParseError {}

type Result<T> = std::result::Result<T, ParseError>;

/// Time of a command that stands alone: at once.
const NOW: Time = Time { relative: true, any: false, from_us: 0, to_us: 0, returns_us: None };

/// Parses a script.
///
/// # Errors
/// The first thing that is not understood.
pub fn parse(text: &str) -> Result<Script> {
    let mut cursor = Cursor::new(text);
    let mut script = Script::default();
    while let Some(next) = cursor.peek() {
        if cursor.take_text("--") {
            script.options.push(option(&mut cursor)?);
            continue;
        }
        let line = cursor.line();
        let time = if next == '`' { NOW } else { time::time(&mut cursor)? };
        let action = action(&mut cursor)?;
        if time.returns_us.is_some() && !matches!(action, Action::Call(_)) {
            return Err(cursor.error("only a system call lasts"));
        }
        script.events.push(Event { line, time, action });
    }
    Ok(script)
}

fn option(cursor: &mut Cursor<'_>) -> Result<(String, String)> {
    let name = cursor.word(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
    if !cursor.take('=') {
        return Ok((name, String::new()));
    }
    let value = cursor.word(|letter| !letter.is_whitespace());
    Ok((name, value))
}

fn action(cursor: &mut Cursor<'_>) -> Result<Action> {
    match cursor.peek() {
        Some('<') => packet::inbound(cursor),
        Some('>') => packet::outbound(cursor),
        Some('`') => {
            cursor.take('`');
            cursor.until("`").map(Action::Command)
        }
        Some('%') if cursor.take_text("%{") => cursor.until("}%").map(Action::Code),
        Some(letter) if letter.is_ascii_alphabetic() || letter == '_' => call::call(cursor).map(Action::Call),
        _ => Err(cursor.error("expected a packet, a system call, a command or code")),
    }
}

#[cfg(test)]
mod tests;
