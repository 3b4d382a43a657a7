// SPDX-License-Identifier: MIT OR Apache-2.0
//! Urgent data, received as Linux receives it: the same calls on a pair of the kernel's sockets are the oracle.

use super::fake::World;
use crate::lowlevel::{event, event::Event, Connection, UrgentByte};
use abi::event::{event_flags, FlowEvent};
use std::{
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

const START: u64 = (1 << 32) + 1000;
const FLOW: u32 = 5;
const SIOCATMARK: libc::c_ulong = 0x8905;
/// `tcpi_bytes_received` in Linux's `struct tcp_info`: its offset, and the end of what is asked for.
const BYTES_RECEIVED: std::ops::Range<usize> = 128..136;

/// What a caller can see after each step.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    is_at_mark: bool,
    to_mark: i32,
    readable: bool,
    urgent: bool,
}

/// The kernel's sockets.
struct Linux {
    sender: TcpStream,
    receiver: TcpStream,
    sent_bytes: u64,
}

impl Linux {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nodelay(true).unwrap();
        Self { sender, receiver: listener.accept().unwrap().0, sent_bytes: 0 }
    }

    fn send(&mut self, bytes: &[u8], urgent: bool) {
        let flags = if urgent { libc::MSG_OOB } else { 0 };
        // SAFETY: the buffer is readable for its length.
        let sent = unsafe { libc::send(self.sender.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        assert_eq!(sent, bytes.len() as isize);
        // A busy machine delivers after the call: what was sent has not been received yet.
        self.sent_bytes += bytes.len() as u64;
        while self.received_bytes() < self.sent_bytes {
            std::thread::yield_now();
        }
    }

    fn received_bytes(&self) -> u64 {
        let mut info = [0u8; BYTES_RECEIVED.end];
        let mut len = info.len() as libc::socklen_t;
        let fd = self.receiver.as_raw_fd();
        // SAFETY: the buffer is writable for the length given.
        let got = unsafe {
            libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
        };
        assert_eq!((got, len as usize), (0, info.len()));
        u64::from_ne_bytes(info[BYTES_RECEIVED].try_into().unwrap())
    }

    fn receive(&self, room: usize, flags: i32) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0u8; room];
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: the buffer is writable for its length.
        let got = unsafe { libc::recv(self.receiver.as_raw_fd(), bytes.as_mut_ptr().cast(), room, flags) };
        if got < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
        }
        bytes.truncate(got as usize);
        Ok(bytes)
    }

    fn set_inline(&self, on: bool) {
        let on = i32::from(on);
        let fd = self.receiver.as_raw_fd();
        // SAFETY: the option takes an int.
        let set =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, (&raw const on).cast(), 4) };
        assert_eq!(set, 0);
    }

    fn ask(&self, request: libc::c_ulong) -> i32 {
        let mut value = 0;
        // SAFETY: the request writes an int.
        assert_eq!(unsafe { libc::ioctl(self.receiver.as_raw_fd(), request, &raw mut value) }, 0);
        value
    }

    fn seen(&self) -> Seen {
        let events = libc::POLLIN | libc::POLLPRI;
        let mut set = [libc::pollfd { fd: self.receiver.as_raw_fd(), events, revents: 0 }];
        // SAFETY: one entry.
        unsafe { libc::poll(set.as_mut_ptr(), 1, 0) };
        Seen {
            is_at_mark: self.ask(SIOCATMARK) != 0,
            to_mark: self.ask(libc::FIONREAD),
            readable: set[0].revents & libc::POLLIN != 0,
            urgent: set[0].revents & libc::POLLPRI != 0,
        }
    }
}

/// Ours, with the calls of the sockets layer.
struct Ours {
    world: World,
    connection: Connection,
    _socket: crate::lowlevel::Socket,
}

impl Ours {
    fn new() -> Self {
        let mut world = World::new(1, 64, 1);
        let (socket, connection) = world.open(FLOW, START);
        Self { world, connection, _socket: socket }
    }

    /// One segment, as the fast path tells of it.
    fn send(&mut self, bytes: &[u8], urgent: bool) -> u16 {
        self.world.fast.drain();
        assert_eq!(self.world.fast.receive(FLOW, bytes), bytes.len());
        let flow = &self.world.fast.flows[&FLOW];
        let mut entry = FlowEvent {
            flow: FLOW,
            flags: event_flags::RX,
            generation: flow.info.generation,
            rx: flow.rcv_nxt,
            ..FlowEvent::default()
        };
        if let (true, Some(last)) = (urgent, bytes.last()) {
            entry.flags |= event_flags::URGENT | event_flags::URGENT_BYTE;
            entry.urgent = entry.rx as u32 - 1;
            entry.urgent_byte = *last;
        }
        self.tell(entry)
    }

    fn tell(&mut self, entry: FlowEvent) -> u16 {
        assert!(self.world.fast.to_application[0].push(entry.encode()));
        let mut events = [Event::default(); 8];
        let count = self.world.context.poll(&mut events);
        events[..count].iter().fold(0, |all, event| all | event.flags)
    }

    fn receive(&self, room: usize, flags: i32) -> Result<Vec<u8>, i32> {
        let peek = flags & libc::MSG_PEEK != 0;
        if flags & libc::MSG_OOB != 0 {
            return match self.connection.receive_urgent(peek) {
                UrgentByte::Is(byte) => Ok(vec![byte]),
                UrgentByte::Coming => Err(libc::EAGAIN),
                UrgentByte::None => Err(libc::EINVAL),
            };
        }
        let mut bytes = vec![0u8; room];
        let got = match peek {
            true => self.connection.peek(0, &mut bytes),
            false => self.connection.read(&mut bytes),
        };
        if got == 0 {
            if !peek {
                self.connection.pass_mark();
            }
            return Err(libc::EAGAIN);
        }
        bytes.truncate(got);
        Ok(bytes)
    }

    fn seen(&self) -> Seen {
        Seen {
            is_at_mark: self.connection.is_at_mark(),
            to_mark: self.connection.bytes_to_mark() as i32,
            readable: self.connection.waiting_bytes() > 0,
            urgent: self.connection.has_urgent_byte(),
        }
    }
}

#[test]
fn every_call_answers_as_linux_does() {
    for seed in 1..60u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) % bound
        };
        let (mut linux, mut ours) = (Linux::new(), Ours::new());
        let mut written = 0u8;
        let mut history = Vec::new();
        for step in 0..150 {
            let choice = below(12);
            let (what, expected, got) = match choice {
                0..=4 => {
                    let urgent = choice > 2;
                    let bytes: Vec<u8> = (0..1 + below(6))
                        .map(|_| {
                            written = written.wrapping_add(1);
                            written
                        })
                        .collect();
                    linux.send(&bytes, urgent);
                    ours.send(&bytes, urgent);
                    (format!("send {bytes:?} urgent {urgent}"), Ok(Vec::new()), Ok(Vec::new()))
                }
                5..=7 => {
                    let room = 1 + below(8) as usize;
                    (format!("receive {room}"), linux.receive(room, 0), ours.receive(room, 0))
                }
                8 => {
                    let room = 1 + below(8) as usize;
                    let flags = libc::MSG_PEEK;
                    (format!("peek {room}"), linux.receive(room, flags), ours.receive(room, flags))
                }
                9 | 10 => {
                    let flags = libc::MSG_OOB | if choice == 9 { libc::MSG_PEEK } else { 0 };
                    (format!("urgent {flags:#x}"), linux.receive(1, flags), ours.receive(1, flags))
                }
                _ => {
                    let on = below(3) == 0;
                    linux.set_inline(on);
                    ours.connection.set_urgent_inline(on);
                    (format!("inline {on}"), Ok(Vec::new()), Ok(Vec::new()))
                }
            };
            history.push(format!("{what} = {expected:?}"));
            assert_eq!(got, expected, "seed {seed} step {step}: {what}; before: {history:#?}");
            assert_eq!(ours.seen(), linux.seen(), "seed {seed} step {step}: after {history:#?}");
        }
    }
}

#[test]
fn the_byte_may_come_after_its_announcement() {
    let mut ours = Ours::new();
    let entry = FlowEvent {
        flow: FLOW,
        flags: event_flags::RX | event_flags::URGENT,
        generation: ours.world.fast.flows[&FLOW].info.generation,
        rx: START,
        urgent: START as u32 + 2,
        ..FlowEvent::default()
    };
    assert_eq!(ours.tell(entry), event::URGENT);
    assert_eq!(ours.tell(entry), 0, "said twice");
    assert!(!ours.connection.has_urgent_byte());
    assert_eq!(ours.receive(1, libc::MSG_OOB), Err(libc::EAGAIN));
    assert_eq!(ours.send(b"ab", false), event::READABLE);
    assert_eq!(ours.receive(1, libc::MSG_OOB), Err(libc::EAGAIN));
    assert_eq!(ours.send(b"cd", false), event::READABLE | event::URGENT_BYTE);
    assert_eq!(ours.receive(9, 0), Ok(b"ab".to_vec()));
    assert_eq!(ours.receive(1, libc::MSG_OOB), Ok(b"c".to_vec()));
    assert_eq!(ours.receive(9, 0), Ok(b"d".to_vec()));
    assert_eq!(ours.receive(9, 0), Err(libc::EAGAIN));
    assert!(!ours.connection.has_urgent(), "passed");
}

#[test]
fn nonsense_about_urgent_data_is_refused() {
    let mut ours = Ours::new();
    ours.send(b"abc", false);
    let entry = FlowEvent {
        flow: FLOW,
        flags: event_flags::RX | event_flags::URGENT,
        generation: ours.world.fast.flows[&FLOW].info.generation,
        rx: START + 3,
        ..FlowEvent::default()
    };
    assert_eq!(ours.tell(FlowEvent { urgent: START as u32 + 500_000_000, ..entry }), 0);
    assert_eq!(ours.tell(FlowEvent { urgent: (START as u32).wrapping_sub(1), ..entry }), 0, "read before");
    assert!(!ours.connection.has_urgent());
    assert_eq!(ours.receive(9, 0), Ok(b"abc".to_vec()));
}

#[test]
fn urgent_data_written_is_told_until_the_fast_path_knows() {
    let mut ours = Ours::new();
    assert_eq!(ours.connection.write(b"plain"), 5);
    assert_eq!(ours.connection.write_urgent(b"now!"), 4);
    let entries = ours.world.fast.entries();
    let urgent: Vec<_> = entries.iter().filter(|entry| entry.flags & event_flags::URGENT != 0).collect();
    assert_eq!(urgent.len(), 1);
    assert_eq!(urgent[0].flags & event_flags::TX, event_flags::TX);
    assert_eq!(urgent[0].urgent, urgent[0].tx as u32);
    assert_eq!(ours.connection.write(b"plain again"), 11);
    assert!(ours.world.fast.entries().iter().all(|entry| entry.flags & event_flags::URGENT == 0));
}
