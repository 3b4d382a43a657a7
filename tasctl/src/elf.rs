// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether LD_PRELOAD has any effect on a program.

/// Why a preloaded library would not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// No dynamic loader is asked for.
    Static,
    /// For another word size.
    OtherClass,
}

const MAGIC: [u8; 4] = *b"\x7fELF";
/// ELFCLASS64 in e_ident.
const CLASS_64: u8 = 2;
/// p_type of the program header that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// Looks at the start of a file (its headers). A script, or anything unknown, is no obstacle: what it
/// starts is looked at by nobody.
pub(crate) fn obstacle(file: &[u8]) -> Option<Obstacle> {
    if file.get(..4)? != MAGIC {
        return None;
    }
    if *file.get(4)? != CLASS_64 {
        return Some(Obstacle::OtherClass);
    }
    let u16_at = |offset: usize| Some(u16::from_le_bytes(file.get(offset..offset + 2)?.try_into().ok()?));
    let u32_at =
        |offset: usize| Some(u32::from_le_bytes(file.get(offset..offset.checked_add(4)?)?.try_into().ok()?));
    let table = u64::from_le_bytes(file.get(32..40)?.try_into().ok()?) as usize;
    let (bytes, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    for index in 0..count {
        let offset = table.checked_add(index.checked_mul(bytes)?)?;
        if u32_at(offset)? == PT_INTERP {
            return None;
        }
    }
    Some(Obstacle::Static)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(headers: &[u32]) -> Vec<u8> {
        let mut file = vec![0u8; 64 + headers.len() * 56];
        file[..4].copy_from_slice(&MAGIC);
        file[4] = CLASS_64;
        file[32] = 64;
        file[54] = 56;
        file[56] = headers.len() as u8;
        for (index, kind) in headers.iter().enumerate() {
            file[64 + index * 56] = *kind as u8;
        }
        file
    }

    #[test]
    fn only_a_dynamic_program_loads_a_library() {
        assert_eq!(obstacle(&program(&[6, PT_INTERP, 1])), None);
        assert_eq!(obstacle(&program(&[1, 1])), Some(Obstacle::Static));
        assert_eq!(obstacle(b"#!/bin/sh\n"), None);
        let mut other = program(&[1]);
        other[4] = 1;
        assert_eq!(obstacle(&other), Some(Obstacle::OtherClass));
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(obstacle(&own), None);
    }

    #[test]
    fn truncated_headers_are_survived() {
        let whole = program(&[1, 1]);
        for length in 0..whole.len() {
            obstacle(&whole[..length]);
        }
        let mut wild = program(&[1]);
        wild[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(obstacle(&wild), None);
    }
}
