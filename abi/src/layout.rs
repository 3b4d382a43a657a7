// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Size and offset assertions, and the layout hash made from the same text.

/// Asserts the size and field offsets of a shared struct and defines `LAYOUT`, the FNV-1a hash of
/// the assertion's own text, so that a changed layout changes the ABI hash.
macro_rules! assert_layout {
    ($name:ident, size $size:literal, $($field:ident @ $offset:literal),+ $(,)?) => {
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($name, $field) == $offset);)+
        impl $name {
            /// FNV-1a hash of this struct's asserted layout.
            pub const LAYOUT: u64 = $crate::layout::fnv1a(
                concat!(stringify!($name), " ", stringify!($size), $(" ", stringify!($field), "@", stringify!($offset)),+)
                    .as_bytes(),
            );
        }
    };
}

/// FNV-1a, 64 bits.
pub(crate) const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        hash = (hash ^ *first as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}
