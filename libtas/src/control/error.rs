// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors that say what happened, why, and what to type, and still carry their errno.

use std::{fmt, io};

/// An errno with an explanation, wrapped in [`io::Error`].
#[derive(Debug)]
pub(super) struct Explained {
    errno: i32,
    text: String,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)
    }
}

impl std::error::Error for Explained {}

/// Wraps `errno` and `text`.
pub fn explained(errno: i32, text: impl Into<String>) -> io::Error {
    let kind = io::Error::from_raw_os_error(errno).kind();
    io::Error::new(kind, Explained { errno, text: text.into() })
}

/// The errno of an error of this crate; EIO when it has none.
pub fn errno(error: &io::Error) -> i32 {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Explained>());
    inner.map(|explained| explained.errno).or_else(|| error.raw_os_error()).unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_errno() {
        let error = explained(libc::EPROTO, "older");
        assert_eq!((errno(&error), error.to_string().as_str()), (libc::EPROTO, "older"));
        assert_eq!(errno(&io::Error::from_raw_os_error(libc::EBUSY)), libc::EBUSY);
    }
}
