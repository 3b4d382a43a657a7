// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library as packetdrill uses it: by its C interface, from two threads, in virtual time.

use libc::{c_void, timeval};
use std::{mem::MaybeUninit, ptr::null_mut, thread};
use tas_packetdrill::{packetdrill_interface_init, Interface};

const LOCAL: [u8; 4] = [10, 0, 0, 1];
const REMOTE: [u8; 4] = [192, 0, 2, 1];
const SYN: u8 = 2;
const PUSH_ACK: u8 = 0x18;
const ACK: u8 = 0x10;

/// A pointer for another thread.
#[derive(Clone, Copy)]
struct Tool(*const Interface);
// SAFETY: the interface may be called from two threads: packetdrill does.
unsafe impl Send for Tool {}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum()
}

fn checksum(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A segment of the peer's, from its port 4000 to 8080.
fn segment(flags: u8, sequence: u32, acknowledgement: u32, payload: &[u8]) -> Vec<u8> {
    let mut tcp = [4000u16.to_be_bytes(), 8080u16.to_be_bytes()].concat();
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(acknowledgement.to_be_bytes());
    tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(payload);
    let pseudo = sum(&REMOTE) + sum(&LOCAL) + 6 + tcp.len() as u32;
    let check = checksum(pseudo + sum(&tcp));
    tcp[16..18].copy_from_slice(&check);
    let mut ip = vec![0x45, 0];
    ip.extend((20 + tcp.len() as u16).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(REMOTE);
    ip.extend(LOCAL);
    let check = checksum(sum(&ip));
    ip[10..12].copy_from_slice(&check);
    ip.extend(tcp);
    ip
}

impl Tool {
    fn get(&self) -> &Interface {
        // SAFETY: it lives as long as the test.
        unsafe { &*self.0 }
    }

    fn now_us(self) -> i64 {
        let mut now = MaybeUninit::<timeval>::uninit();
        // SAFETY: valid for the call.
        let now = unsafe {
            (self.get().gettimeofday)(self.get().user, now.as_mut_ptr(), null_mut());
            now.assume_init()
        };
        now.tv_sec * 1_000_000 + now.tv_usec
    }

    fn send(self, datagram: &[u8]) {
        // SAFETY: valid for the call.
        let sent =
            unsafe { (self.get().netdev_send)(self.get().user, datagram.as_ptr().cast(), datagram.len()) };
        assert_eq!(sent, 0);
    }

    /// Flags, sequence number, acknowledgement number, payload, and when it was sent.
    fn receive(self) -> (u8, u32, u32, Vec<u8>, i64) {
        let (mut buffer, mut count, mut at_us) = ([0u8; 2048], 2048usize, 0i64);
        // SAFETY: valid for the call.
        let received = unsafe {
            (self.get().netdev_receive)(self.get().user, buffer.as_mut_ptr().cast(), &mut count, &mut at_us)
        };
        assert!(received == 0 && count >= 40, "nothing was sent");
        let word = |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().unwrap());
        assert_eq!(buffer[12..20], [LOCAL, REMOTE].concat());
        let payload = buffer[20 + usize::from(buffer[32] >> 4) * 4..count].to_vec();
        (buffer[33], word(24), word(28), payload, at_us)
    }
}

#[test]
fn a_connection_in_virtual_time() {
    let mut interface = MaybeUninit::<Interface>::uninit();
    // SAFETY: as packetdrill does.
    let interface = unsafe {
        packetdrill_interface_init(c"ipv4=10.0.0.1,tcp_ecn=0".as_ptr(), interface.as_mut_ptr());
        interface.assume_init()
    };
    let (user, tool) = (interface.user, Tool(&raw const interface));
    let mut name: libc::sockaddr_in = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 8080u16.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(LOCAL) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as u32;
    // SAFETY: every pointer is valid for its call.
    let (connection, next) = unsafe {
        let listener = (interface.socket)(user, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP);
        assert!(listener >= 0);
        assert_eq!((interface.bind)(user, listener, (&raw mut name).cast(), length), 0);
        assert_eq!((interface.listen)(user, listener, 5), 0);
        tool.send(&segment(SYN, 100, 0, b""));
        let (flags, sequence, acknowledged, ..) = tool.receive();
        assert_eq!((flags, acknowledged), (SYN | ACK, 101));
        tool.send(&segment(ACK, 101, sequence.wrapping_add(1), b""));
        let connection = (interface.accept)(user, listener, null_mut(), null_mut());
        assert!(connection >= 0);
        // Nothing there, and the script said so.
        assert_eq!((interface.fcntl)(user, connection, libc::F_SETFL, libc::O_NONBLOCK.into()), 0);
        let mut byte = 0u8;
        assert_eq!((interface.read)(user, connection, (&raw mut byte).cast(), 1), -1);
        assert_eq!(*libc::__errno_location(), libc::EAGAIN);
        assert_eq!((interface.fcntl)(user, connection, libc::F_SETFL, 0), 0);
        (connection, sequence.wrapping_add(1))
    };
    // A call that blocks returns at the very time of the segment that ends it, however long that is.
    let begin = tool.now_us();
    let reader = thread::spawn(move || {
        let tool = tool;
        let mut buffer = [0u8; 100];
        // SAFETY: the buffer outlives the call.
        let count = unsafe {
            (tool.get().read)(tool.get().user, connection, buffer.as_mut_ptr().cast(), buffer.len())
        };
        (count, tool.now_us(), buffer)
    });
    // SAFETY: no pointers.
    unsafe { (interface.usleep)(user, 3_000_000_000) };
    let sent_us = tool.now_us();
    assert!((3_000_000_000..3_000_000_100).contains(&(sent_us - begin)), "{}", sent_us - begin);
    tool.send(&segment(PUSH_ACK, 101, next, b"hello"));
    let (count, returned_us, buffer) = reader.join().unwrap();
    assert_eq!((count, &buffer[..5]), (5, &b"hello"[..]));
    assert!(returned_us >= sent_us && returned_us - sent_us < 1000, "{}", returned_us - sent_us);
    // What is written leaves now, and again after a timeout that takes no real time.
    // SAFETY: every pointer is valid for its call.
    unsafe {
        assert_eq!((interface.write)(user, connection, b"answer".as_ptr().cast::<c_void>(), 6), 6);
        let (first, second) = loop {
            let segment = tool.receive();
            if !segment.3.is_empty() {
                break (segment, tool.receive());
            }
        };
        assert_eq!((first.3.as_slice(), first.2), (&b"answer"[..], 106));
        assert_eq!((second.1, &second.3), (first.1, &first.3));
        assert!((100_000..1_500_000).contains(&(second.4 - first.4)), "{}", second.4 - first.4);
        assert_eq!((interface.close)(user, connection), 0);
        (interface.free)(user);
    }
}
