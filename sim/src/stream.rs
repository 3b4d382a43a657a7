// SPDX-License-Identifier: MIT OR Apache-2.0
//! What applications send: a header that says which stream it is and how long, then bytes that follow
//! from both. So whoever receives can check every byte without knowing who sent it.

use crate::random::Random;

/// Bytes of the header: stream number and length.
pub(crate) const HEADER_BYTES: u64 = 8;

/// Bytes `offset..offset + into.len()` of stream `number`, `length` bytes long.
pub(crate) fn fill(number: u32, length: u32, offset: u64, into: &mut [u8]) {
    let key = u64::from(number) << 32 | u64::from(length);
    let mut word = [0; 8];
    let mut at = u64::MAX;
    for (index, byte) in into.iter_mut().enumerate() {
        let position = offset + index as u64;
        if at != position / 8 {
            at = position / 8;
            word = match at {
                0 => key.to_be_bytes(),
                _ => Random::new(key ^ at.rotate_left(17)).next().to_le_bytes(),
            };
        }
        *byte = word[(position % 8) as usize];
    }
}

/// Checks a stream as it is received.
#[derive(Debug, Default)]
pub(crate) struct Check {
    header: [u8; HEADER_BYTES as usize],
    received: u64,
    wrong_at: Option<u64>,
    /// Position of a byte that reads leave out: the urgent one.
    apart: Option<u64>,
}

impl Check {
    /// Reads leave the byte at `position`, behind the header, out.
    pub(crate) fn leaves_out(&mut self, position: u64) {
        self.apart = Some(position);
    }

    /// The byte that reads leave out is what is left of the stream, and has come.
    pub(crate) fn take_apart(&mut self) {
        if self.apart == Some(self.received) {
            self.received += 1;
            self.apart = None;
        }
    }

    /// More bytes of the stream.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let before = self.apart.and_then(|at| at.checked_sub(self.received)).map(|before| before as usize);
        match before {
            Some(before) if bytes.len() > before => {
                self.take_in_line(&bytes[..before]);
                self.take_apart();
                self.take_in_line(&bytes[before..]);
            }
            _ => self.take_in_line(bytes),
        }
    }

    fn take_in_line(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.received < HEADER_BYTES {
            let [first, tail @ ..] = rest else {
                return;
            };
            self.header[self.received as usize] = *first;
            self.received += 1;
            rest = tail;
        }
        let (number, length) = self.stream();
        let mut wanted = [0; 512];
        for piece in rest.chunks(wanted.len()) {
            let wanted = &mut wanted[..piece.len()];
            fill(number, length, self.received, wanted);
            if piece != wanted && self.wrong_at.is_none() {
                let first = piece.iter().zip(wanted.iter()).position(|(a, b)| a != b);
                self.wrong_at = Some(self.received + first.unwrap_or(0) as u64);
            }
            self.received += piece.len() as u64;
        }
    }

    /// Bytes received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Number and length that the header names (zero before it is complete).
    pub(crate) fn stream(&self) -> (u32, u32) {
        if self.received < HEADER_BYTES {
            return (0, 0);
        }
        let key = u64::from_be_bytes(self.header);
        ((key >> 32) as u32, key as u32)
    }

    /// Position of the first byte that is not the stream's, or is behind its end.
    pub(crate) fn wrong_at(&self) -> Option<u64> {
        let length = u64::from(self.stream().1);
        let behind = self.received >= HEADER_BYTES && self.received > length;
        self.wrong_at.or(behind.then_some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_pieces_checks_and_a_wrong_byte_does_not() {
        let mut whole = vec![0; 1000];
        fill(3, 1000, 0, &mut whole);
        let mut again = vec![0; 300];
        fill(3, 1000, 123, &mut again);
        assert_eq!(again, whole[123..423]);
        for wrong in [None, Some(8), Some(999)] {
            let mut bytes = whole.clone();
            if let Some(at) = wrong {
                bytes[at] ^= 1;
            }
            let mut check = Check::default();
            for piece in bytes.chunks(7) {
                check.take(piece);
            }
            assert_eq!((check.stream(), check.received()), ((3, 1000), 1000));
            assert_eq!(check.wrong_at(), wrong.map(|at| at as u64));
        }
        for at in [8, 500, 999] {
            let mut check = Check::default();
            check.leaves_out(at as u64);
            let without = [&whole[..at], &whole[at + 1..]].concat();
            without.chunks(7).for_each(|piece| check.take(piece));
            check.take_apart();
            assert_eq!((check.received(), check.wrong_at()), (1000, None));
        }
        let mut check = Check::default();
        check.take(&whole);
        check.take(&[1]);
        assert_eq!(check.wrong_at(), Some(1000));
    }
}
