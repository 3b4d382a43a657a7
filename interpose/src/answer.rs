// SPDX-License-Identifier: MIT OR Apache-2.0
//! From results to C.

use tas::sockets::Result;

/// What a C function returns: -1 with errno set, or a value.
pub(crate) trait Answer<T> {
    /// The value, or -1 and errno.
    fn answer(self) -> T;
}

impl<T: TryInto<i32>> Answer<i32> for Result<T> {
    fn answer(self) -> i32 {
        match self {
            Ok(value) => value.try_into().unwrap_or(i32::MAX),
            Err(error) => {
                error.set();
                -1
            }
        }
    }
}

impl<T: TryInto<isize>> Answer<isize> for Result<T> {
    fn answer(self) -> isize {
        match self {
            Ok(value) => value.try_into().unwrap_or(isize::MAX),
            Err(error) => {
                error.set();
                -1
            }
        }
    }
}

/// A call without a value: 0, or -1 and errno.
pub(crate) fn done(result: Result<()>) -> i32 {
    result.map(|()| 0i32).answer()
}

/// Defines an exported function whose first argument is a descriptor: `$name` of the C library
/// unless the descriptor is a stream socket of ours.
macro_rules! on_stream {
    ($($(#[$meta:meta])* fn $name:ident($fd:ident $(, $argument:ident: $type:ty)*) -> $result:ty, $token:ident => $body:expr;)+) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// As for the C function.
        #[no_mangle]
        pub unsafe extern "C" fn $name($fd: libc::c_int $(, $argument: $type)*) -> $result {
            match tas::sockets::find($fd) {
                // SAFETY: the caller's promise.
                None | Some(tas::sockets::Entry::Epoll(_)) => unsafe { tas::sockets::real::$name($fd $(, $argument)*) },
                Some(tas::sockets::Entry::Foreign) => {
                    $crate::answer::Answer::<$result>::answer(tas::sockets::inherited::<i32>())
                }
                Some(tas::sockets::Entry::Stream($token)) => $body,
            }
        }
    )+};
}
pub(crate) use on_stream;
