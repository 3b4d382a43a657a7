// SPDX-License-Identifier: MIT OR Apache-2.0
//! A place in the text of a script.

use super::{ParseError, Result};

/// Reads a script from front to back. Every method but [`Self::word`], [`Self::until`] and
/// [`Self::follows`] skips white space and comments first.
pub(super) struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    pub(super) fn error(&self, text: impl Into<String>) -> ParseError {
        let near: String = self.rest.chars().take_while(|letter| *letter != '\n').take(40).collect();
        ParseError { line: self.line, text: format!("{} (at \"{near}\")", text.into()) }
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip(&mut self) {
        loop {
            let space = self.rest.len() - self.rest.trim_start().len();
            self.advance(space);
            let end = if self.rest.starts_with('#') || self.rest.starts_with("//") {
                self.rest.find('\n').unwrap_or(self.rest.len())
            } else if self.rest.starts_with("/*") {
                self.rest.find("*/").map_or(self.rest.len(), |at| at + 2)
            } else {
                return;
            };
            self.advance(end);
        }
    }

    /// Line of the next thing.
    pub(super) fn line(&mut self) -> usize {
        self.skip();
        self.line
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest.chars().next()
    }

    /// Whether `text` follows immediately.
    pub(super) fn follows(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    /// Takes `letter` if it is next.
    pub(super) fn take(&mut self, letter: char) -> bool {
        self.skip();
        let found = self.rest.starts_with(letter);
        if found {
            self.advance(letter.len_utf8());
        }
        found
    }

    /// Takes `text` if it is next.
    pub(super) fn take_text(&mut self, text: &str) -> bool {
        self.skip();
        let found = self.rest.starts_with(text);
        if found {
            self.advance(text.len());
        }
        found
    }

    pub(super) fn expect(&mut self, letter: char) -> Result<()> {
        if self.take(letter) {
            Ok(())
        } else {
            Err(self.error(format!("expected '{letter}'")))
        }
    }

    /// Takes the word `name` if it is next, and whole.
    pub(super) fn take_word(&mut self, name: &str) -> bool {
        self.skip();
        let whole = self.rest.strip_prefix(name).is_some_and(|rest| {
            !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
        });
        if whole {
            self.advance(name.len());
        }
        whole
    }

    /// As many letters as `belongs` takes, from here.
    pub(super) fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|letter| !belongs(letter)).unwrap_or(self.rest.len());
        self.advance(end).to_owned()
    }

    /// A name: letters, digits, underscores.
    pub(super) fn name(&mut self) -> Result<String> {
        self.skip();
        let name = self.word(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if name.is_empty() {
            return Err(self.error("expected a name"));
        }
        Ok(name)
    }

    /// An unsigned decimal number.
    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T> {
        self.skip();
        let digits = self.word(|letter| letter.is_ascii_digit());
        digits.parse().map_err(|_| self.error("expected a number in its range"))
    }

    /// What stands before `end`, which is taken too.
    pub(super) fn until(&mut self, end: &str) -> Result<String> {
        let at = self.rest.find(end).ok_or_else(|| self.error(format!("no {end} follows")))?;
        let text = self.advance(at).to_owned();
        self.advance(end.len());
        Ok(text)
    }
}
