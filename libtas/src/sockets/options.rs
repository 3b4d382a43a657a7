// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket options: what is accepted, what is read back, what the slow path is told.
//!
//! Plain integers follow one table ([`INTEGERS`]); the others are fields. Values outside the range
//! are refused with Linux's errno, and a value that has no effect under TAS is still stored, so
//! that it reads back and can be replayed on a kernel socket when the socket falls back.

use super::errno::{Errno, Result};
use abi::message::option as slow;
use libc::{c_int, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use std::time::Duration;

/// Which values an integer option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    /// Any; stored as 0 or 1.
    Flag,
    /// From the first to the second, else EINVAL.
    Within(i32, i32),
    /// Any.
    Any,
    /// From the first to the second, else EINVAL; not stored: reads back as the default.
    Ignored(i32, i32),
}

/// An integer option.
struct Integer {
    level: c_int,
    name: c_int,
    default: i32,
    range: Range,
    /// The slow path's name for it (`abi::message::option`), zero if it does not act on it.
    slow: u32,
}

const fn integer(level: c_int, name: c_int, default: i32, range: Range, slow: u32) -> Integer {
    Integer { level, name, default, range, slow }
}

// Numbers that the libc crate lacks, from include/uapi/asm-generic/socket.h and linux/tcp.h.
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;
const IP_LOCAL_PORT_RANGE: c_int = 51;
const TCP_TX_DELAY: c_int = 37;
const IPV6_FLOWINFO_SEND: c_int = 33;
const IPV6_AUTOFLOWLABEL: c_int = 70;
const IPV6_MINHOPCOUNT: c_int = 73;
const IPV6_FREEBIND: c_int = 78;
const TCP_CC_INFO: c_int = 26;
pub(super) const SO_MEMINFO: c_int = 55;

/// TCP_MIN_MSS and MAX_TCP_WINDOW (include/net/tcp.h): bounds of TCP_MAXSEG.
const MSS_MIN: i32 = 88;
const MSS_MAX: i32 = 32767;
/// MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, seconds.
const KEEPALIVE_MAX_S: i32 = 32767;
/// MAX_TCP_KEEPCNT, MAX_TCP_SYNCNT.
const KEEPALIVE_COUNT_MAX: i32 = 127;

/// net.ipv4.ip_default_ttl as shipped.
const TTL_DEFAULT: i32 = 64;
/// INET_ECN_MASK: the bits of IP_TOS that are not an application's on a stream socket.
const ECN_MASK: i32 = 3;

const INTEGERS: &[Integer] = &[
    integer(SOL_SOCKET, libc::SO_REUSEADDR, 0, Range::Flag, slow::REUSE_ADDRESS),
    integer(SOL_SOCKET, libc::SO_REUSEPORT, 0, Range::Flag, slow::REUSE_PORT),
    integer(SOL_SOCKET, libc::SO_KEEPALIVE, 0, Range::Flag, slow::KEEPALIVE),
    integer(SOL_SOCKET, libc::SO_DEBUG, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_DONTROUTE, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_BROADCAST, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_OOBINLINE, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_NO_CHECK, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_PRIORITY, 0, Range::Any, 0),
    integer(SOL_SOCKET, libc::SO_PASSCRED, 0, Range::Ignored(i32::MIN, i32::MAX), 0),
    integer(SOL_SOCKET, libc::SO_RCVLOWAT, 1, Range::Any, 0),
    integer(SOL_SOCKET, libc::SO_TIMESTAMP, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_TIMESTAMPNS, 0, Range::Flag, 0),
    integer(SOL_SOCKET, libc::SO_MARK, 0, Range::Any, 0),
    integer(SOL_SOCKET, libc::SO_BUSY_POLL, 0, Range::Within(0, i32::MAX), 0),
    integer(SOL_SOCKET, SO_PREFER_BUSY_POLL, 0, Range::Flag, 0),
    integer(SOL_SOCKET, SO_BUSY_POLL_BUDGET, 8, Range::Within(0, u16::MAX as i32), 0),
    integer(SOL_SOCKET, libc::SO_MAX_PACING_RATE, -1, Range::Any, 0),
    integer(SOL_SOCKET, libc::SO_ZEROCOPY, 0, Range::Within(0, 1), 0),
    integer(SOL_SOCKET, libc::SO_INCOMING_CPU, -1, Range::Any, 0),
    integer(IPPROTO_TCP, libc::TCP_NODELAY, 0, Range::Flag, slow::NODELAY),
    integer(IPPROTO_TCP, libc::TCP_CORK, 0, Range::Flag, 0),
    integer(IPPROTO_TCP, libc::TCP_KEEPIDLE, 7200, Range::Within(1, KEEPALIVE_MAX_S), slow::KEEPALIVE_IDLE),
    integer(
        IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
        75,
        Range::Within(1, KEEPALIVE_MAX_S),
        slow::KEEPALIVE_INTERVAL,
    ),
    integer(IPPROTO_TCP, libc::TCP_KEEPCNT, 9, Range::Within(1, KEEPALIVE_COUNT_MAX), slow::KEEPALIVE_COUNT),
    integer(IPPROTO_TCP, libc::TCP_SYNCNT, 6, Range::Within(1, KEEPALIVE_COUNT_MAX), slow::SYN_COUNT),
    integer(IPPROTO_TCP, libc::TCP_LINGER2, 60, Range::Any, 0),
    integer(IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 0, Range::Any, 0),
    integer(IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, 0, Range::Any, 0),
    integer(IPPROTO_TCP, libc::TCP_QUICKACK, 1, Range::Flag, 0),
    integer(IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 0, Range::Within(0, i32::MAX), slow::USER_TIMEOUT),
    integer(IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 0, Range::Within(0, 1), 0),
    integer(IPPROTO_TCP, libc::TCP_THIN_DUPACK, 0, Range::Ignored(0, 1), 0),
    integer(IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 0, Range::Any, 0),
    integer(IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 0, Range::Within(0, 1), 0),
    integer(IPPROTO_TCP, libc::TCP_FASTOPEN_NO_COOKIE, 0, Range::Within(0, 1), slow::FAST_OPEN_NO_COOKIE),
    integer(IPPROTO_TCP, libc::TCP_INQ, 0, Range::Within(0, 1), 0),
    integer(IPPROTO_TCP, libc::TCP_TIMESTAMP, 0, Range::Ignored(i32::MIN, i32::MAX), 0),
    integer(IPPROTO_TCP, TCP_TX_DELAY, 0, Range::Any, 0),
    integer(IPPROTO_IP, libc::IP_TOS, 0, Range::Any, slow::TRAFFIC_CLASS),
    integer(IPPROTO_IP, libc::IP_TTL, TTL_DEFAULT, Range::Within(-1, 255), slow::HOP_LIMIT),
    integer(IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT, Range::Within(0, 5), 0),
    integer(IPPROTO_IP, libc::IP_RECVERR, 0, Range::Flag, slow::RECEIVE_ERRORS),
    integer(IPPROTO_IP, libc::IP_FREEBIND, 0, Range::Flag, 0),
    integer(IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 0, Range::Flag, 0),
    integer(IPPROTO_IP, IP_LOCAL_PORT_RANGE, 0, Range::Any, 0),
    integer(IPPROTO_IPV6, libc::IPV6_TCLASS, 0, Range::Within(-1, 255), slow::TRAFFIC_CLASS),
    integer(IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, TTL_DEFAULT, Range::Within(-1, 255), slow::HOP_LIMIT),
    integer(IPPROTO_IPV6, libc::IPV6_RECVERR, 0, Range::Flag, slow::RECEIVE_ERRORS),
    integer(IPPROTO_IPV6, libc::IPV6_V6ONLY, 0, Range::Flag, slow::V6ONLY),
    integer(IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IP_PMTUDISC_WANT, Range::Within(0, 5), 0),
    integer(IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, 1, Range::Within(0, 1), 0),
    integer(IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 0, Range::Flag, 0),
    integer(IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 0, Range::Flag, 0),
    integer(IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 0, Range::Flag, 0),
    integer(IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0, Range::Flag, 0),
    integer(IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 0, Range::Flag, 0),
    integer(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 1, Range::Flag, 0),
    integer(IPPROTO_IPV6, IPV6_MINHOPCOUNT, 0, Range::Within(0, 255), 0),
    integer(IPPROTO_IPV6, IPV6_FREEBIND, 0, Range::Flag, 0),
];

/// What Linux adds to a buffer size given by the application: room for its own bookkeeping.
const BUFFER_FACTOR: i32 = 2;
/// SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF on 64-bit Linux.
const RECEIVE_BUFFER_MIN: i32 = 2304;
const SEND_BUFFER_MIN: i32 = 4608;
/// net.core.rmem_max and wmem_max as shipped.
const BUFFER_MAX: i32 = 212_992;
/// net.ipv4.tcp_rmem[1] and tcp_wmem[1] as shipped.
const RECEIVE_BUFFER_DEFAULT: i32 = 131_072;
const SEND_BUFFER_DEFAULT: i32 = 16_384;
/// net.core.somaxconn as shipped: bounds TCP_FASTOPEN.
const FAST_OPEN_MAX: i32 = 4096;
/// Bytes of a fast-open key (TCP_FASTOPEN_KEY_LENGTH); one or two of them are given.
const KEY_BYTES: usize = 16;
/// Longest name of a congestion control, with its NUL (TCP_CA_NAME_MAX).
const CONGESTION_NAME_BYTES: usize = 16;

/// Congestion controls by the names Linux programs use.
const CONGESTION: &[(&str, u32)] = &[
    ("dctcp", abi::message::congestion::DCTCP_RATE),
    ("reno", abi::message::congestion::NEWRENO),
    ("const-rate", abi::message::congestion::CONST_RATE),
];

/// The options of one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Values of [`INTEGERS`] that differ from the default, by index.
    changed: Vec<(u8, i32)>,
    /// SO_LINGER: on, seconds.
    pub linger: (bool, u32),
    /// SO_RCVTIMEO.
    pub receive_timeout: Option<Duration>,
    /// SO_SNDTIMEO.
    pub send_timeout: Option<Duration>,
    receive_buffer: i32,
    send_buffer: i32,
    /// TCP_MAXSEG as set, zero when it was not.
    pub max_segment: i32,
    congestion: Option<&'static str>,
    /// TCP_FASTOPEN.
    fast_open: i32,
    /// TCP_FASTOPEN_KEY as set.
    fast_open_key: Vec<u8>,
    /// What was given in full, to be set again on a kernel socket.
    replay: Vec<(c_int, c_int, Vec<u8>)>,
}

/// What is left to do after an option was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Tell the slow path: option, value, second value.
    Slow(u32, u32, u32),
    /// Give the slow path these keys of fast-open cookies, the current one first.
    Keys(Vec<[u32; 4]>),
    /// TCP_CORK, on or off.
    Cork(bool),
    /// SO_OOBINLINE was set: the connection is told.
    Inline,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            changed: Vec::new(),
            linger: (false, 0),
            receive_timeout: None,
            send_timeout: None,
            receive_buffer: RECEIVE_BUFFER_DEFAULT,
            send_buffer: SEND_BUFFER_DEFAULT,
            max_segment: 0,
            congestion: None,
            fast_open: 0,
            fast_open_key: Vec::new(),
            replay: Vec::new(),
        }
    }
}

fn number(bytes: &[u8]) -> Result<i32> {
    let first = bytes.first_chunk::<4>().ok_or(Errno(libc::EINVAL))?;
    Ok(i32::from_ne_bytes(*first))
}

/// A `struct timeval` as a limit; zero is none (sock_set_timeout in net/core/sock.c).
fn timeout(bytes: &[u8]) -> Result<Option<Duration>> {
    let seconds = i64::from_ne_bytes(*bytes.first_chunk::<8>().ok_or(Errno(libc::EINVAL))?);
    let micros = bytes.get(8..16).and_then(|rest| rest.first_chunk::<8>()).ok_or(Errno(libc::EINVAL))?;
    let micros = i64::from_ne_bytes(*micros);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno(libc::EDOM));
    }
    if seconds < 0 {
        // Linux: a negative time-out means "do not wait".
        return Ok(Some(Duration::ZERO));
    }
    let span = Duration::new(seconds as u64, micros as u32 * 1000);
    Ok((span > Duration::ZERO).then_some(span))
}

fn timeval(limit: Option<Duration>) -> Vec<u8> {
    let limit = limit.unwrap_or_default();
    let mut bytes = (limit.as_secs() as i64).to_ne_bytes().to_vec();
    bytes.extend(i64::from(limit.subsec_micros()).to_ne_bytes());
    bytes
}

impl Options {
    /// Sets an option.
    ///
    /// # Errors
    /// ENOPROTOOPT for one that Linux does not know or does not let set, EINVAL and EDOM for
    /// values out of range, ENOENT for an unknown congestion control.
    pub fn set(&mut self, level: c_int, name: c_int, bytes: &[u8]) -> Result<Effect> {
        let effect = self.apply(level, name, bytes)?;
        self.replay.retain(|entry| (entry.0, entry.1) != (level, name));
        self.replay.push((level, name, bytes.to_vec()));
        Ok(effect)
    }

    fn apply(&mut self, level: c_int, name: c_int, bytes: &[u8]) -> Result<Effect> {
        match (level, name) {
            (SOL_SOCKET, libc::SO_LINGER) => self.set_linger(bytes),
            (SOL_SOCKET, libc::SO_RCVTIMEO) => {
                timeout(bytes).map(|limit| self.receive_timeout = limit).map(none)
            }
            (SOL_SOCKET, libc::SO_SNDTIMEO) => {
                timeout(bytes).map(|limit| self.send_timeout = limit).map(none)
            }
            (SOL_SOCKET, libc::SO_RCVBUF | libc::SO_RCVBUFFORCE) => {
                self.receive_buffer = buffer(number(bytes)?, RECEIVE_BUFFER_MIN);
                Ok(Effect::Slow(slow::RECEIVE_BUFFER, self.receive_buffer as u32, 0))
            }
            (SOL_SOCKET, libc::SO_SNDBUF | libc::SO_SNDBUFFORCE) => {
                self.send_buffer = buffer(number(bytes)?, SEND_BUFFER_MIN);
                Ok(Effect::None)
            }
            // Which device does not matter: TAS has one. Attaching filters does not apply.
            (SOL_SOCKET, libc::SO_BINDTODEVICE) => Ok(Effect::None),
            (IPPROTO_TCP, libc::TCP_MAXSEG) => self.set_max_segment(number(bytes)?),
            (IPPROTO_TCP, libc::TCP_CONGESTION) => self.set_congestion(bytes),
            (IPPROTO_TCP, libc::TCP_FASTOPEN) => self.set_fast_open(number(bytes)?),
            (IPPROTO_TCP, libc::TCP_FASTOPEN_KEY) => self.set_fast_open_key(bytes),
            _ => self.set_integer(level, name, bytes),
        }
    }

    fn set_integer(&mut self, level: c_int, name: c_int, bytes: &[u8]) -> Result<Effect> {
        let (index, rule) = find(level, name).ok_or(Errno(libc::ENOPROTOOPT))?;
        // IP_TOS and IP_TTL may be given as one byte (do_ip_setsockopt).
        let given = match (level, bytes) {
            (IPPROTO_IP, [byte]) => i32::from(*byte),
            _ => number(bytes)?,
        };
        let value = match rule.range {
            Range::Flag => i32::from(given != 0),
            Range::Within(low, high) | Range::Ignored(low, high) if given < low || given > high => {
                return Err(Errno(libc::EINVAL));
            }
            // A stream's ECN field is the stack's (__ip_sock_set_tos).
            Range::Any if (level, name) == (IPPROTO_IP, libc::IP_TOS) => given & 0xff & !ECN_MASK,
            Range::Within(..) if (level, name) == (IPPROTO_IP, libc::IP_TTL) && given == 0 => {
                return Err(Errno(libc::EINVAL));
            }
            Range::Within(..) if (level, name) == (IPPROTO_IP, libc::IP_TTL) && given < 0 => rule.default,
            Range::Within(..) if (level, name) == (IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                given.max(0) & !ECN_MASK
            }
            Range::Within(..) if (level, name) == (IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) && given < 0 => {
                rule.default
            }
            Range::Within(..) | Range::Any => given,
            Range::Ignored(..) => return Ok(Effect::None),
        };
        self.changed.retain(|(other, _)| *other != index);
        if value != rule.default {
            self.changed.push((index, value));
        }
        match (level, name) {
            (IPPROTO_TCP, libc::TCP_CORK) => Ok(Effect::Cork(value != 0)),
            (SOL_SOCKET, libc::SO_OOBINLINE) => Ok(Effect::Inline),
            _ if rule.slow != 0 => Ok(Effect::Slow(rule.slow, value as u32, 0)),
            _ => Ok(Effect::None),
        }
    }

    fn set_linger(&mut self, bytes: &[u8]) -> Result<Effect> {
        let on = number(bytes)? != 0;
        let seconds = number(bytes.get(4..).unwrap_or_default())?;
        // Linux reads the time as unsigned: a negative one is very long.
        self.linger = (on, if on { seconds as u32 } else { 0 });
        Ok(Effect::Slow(slow::LINGER, u32::from(on), self.linger.1))
    }

    fn set_max_segment(&mut self, value: i32) -> Result<Effect> {
        if value != 0 && !(MSS_MIN..=MSS_MAX).contains(&value) {
            return Err(Errno(libc::EINVAL));
        }
        self.max_segment = value;
        Ok(Effect::Slow(slow::MAX_SEGMENT, value as u32, 0))
    }

    fn set_fast_open(&mut self, limit: i32) -> Result<Effect> {
        if limit < 0 {
            return Err(Errno(libc::EINVAL));
        }
        self.fast_open = limit.min(FAST_OPEN_MAX);
        Ok(Effect::Slow(slow::FAST_OPEN, self.fast_open as u32, 0))
    }

    fn set_fast_open_key(&mut self, bytes: &[u8]) -> Result<Effect> {
        if bytes.len() != KEY_BYTES && bytes.len() != 2 * KEY_BYTES {
            return Err(Errno(libc::EINVAL));
        }
        self.fast_open_key = bytes.to_vec();
        let word =
            |key: &[u8], at: usize| u32::from_le_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
        let key = |key: &[u8]| [0, 4, 8, 12].map(|at| word(key, at));
        Ok(Effect::Keys(bytes.chunks_exact(KEY_BYTES).map(key).collect()))
    }

    fn set_congestion(&mut self, bytes: &[u8]) -> Result<Effect> {
        if bytes.is_empty() {
            return Err(Errno(libc::EINVAL));
        }
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let wanted = &bytes[..end.min(CONGESTION_NAME_BYTES - 1)];
        let known = CONGESTION.iter().find(|(name, _)| name.as_bytes() == wanted);
        let (name, number) = known.ok_or(Errno(libc::ENOENT))?;
        self.congestion = Some(name);
        Ok(Effect::Slow(slow::CONGESTION, *number, 0))
    }

    /// The bytes of an option that this layer knows; [`Query::Ask`] for those that depend on the
    /// connection.
    ///
    /// # Errors
    /// ENOPROTOOPT for one that Linux does not know.
    pub fn get(&self, level: c_int, name: c_int) -> Result<Query> {
        let bytes = match (level, name) {
            (SOL_SOCKET, libc::SO_LINGER) => {
                let mut bytes = i32::from(self.linger.0).to_ne_bytes().to_vec();
                bytes.extend(self.linger.1.to_ne_bytes());
                bytes
            }
            (SOL_SOCKET, libc::SO_RCVTIMEO) => timeval(self.receive_timeout),
            (SOL_SOCKET, libc::SO_SNDTIMEO) => timeval(self.send_timeout),
            (SOL_SOCKET, libc::SO_RCVBUF) => self.receive_buffer.to_ne_bytes().to_vec(),
            (SOL_SOCKET, libc::SO_SNDBUF) => self.send_buffer.to_ne_bytes().to_vec(),
            (SOL_SOCKET, libc::SO_SNDLOWAT) => 1i32.to_ne_bytes().to_vec(),
            (SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_STREAM.to_ne_bytes().to_vec(),
            (SOL_SOCKET, libc::SO_PROTOCOL) => IPPROTO_TCP.to_ne_bytes().to_vec(),
            (SOL_SOCKET, libc::SO_BINDTODEVICE) | (IPPROTO_IP, libc::IP_OPTIONS) => Vec::new(),
            (SOL_SOCKET, libc::SO_ERROR | libc::SO_ACCEPTCONN | libc::SO_DOMAIN) => return Ok(Query::Ask),
            (IPPROTO_TCP, TCP_CC_INFO) => Vec::new(),
            (SOL_SOCKET, SO_MEMINFO) => return Ok(Query::Ask),
            (IPPROTO_TCP, libc::TCP_INFO | libc::TCP_MAXSEG)
            | (IPPROTO_IP, libc::IP_MTU)
            | (IPPROTO_IPV6, libc::IPV6_MTU) => return Ok(Query::Ask),
            (IPPROTO_TCP, libc::TCP_CONGESTION) => {
                let mut bytes = self.congestion.unwrap_or(CONGESTION[0].0).as_bytes().to_vec();
                bytes.resize(CONGESTION_NAME_BYTES, 0);
                bytes
            }
            (IPPROTO_TCP, libc::TCP_FASTOPEN) => self.fast_open.to_ne_bytes().to_vec(),
            (IPPROTO_TCP, libc::TCP_FASTOPEN_KEY) => self.fast_open_key.clone(),
            _ => {
                let (index, rule) = find(level, name).ok_or(Errno(libc::ENOPROTOOPT))?;
                self.value(index, rule).to_ne_bytes().to_vec()
            }
        };
        Ok(Query::Bytes(bytes))
    }

    fn value(&self, index: u8, rule: &Integer) -> i32 {
        self.changed.iter().find(|(other, _)| *other == index).map_or(rule.default, |(_, value)| *value)
    }

    /// Value of an integer option.
    pub fn integer(&self, level: c_int, name: c_int) -> i32 {
        find(level, name).map_or(0, |(index, rule)| self.value(index, rule))
    }

    /// Bytes that must be there before the socket counts as readable (SO_RCVLOWAT).
    #[inline]
    pub fn receive_low_water(&self) -> usize {
        if self.changed.is_empty() {
            return 1;
        }
        self.integer(SOL_SOCKET, libc::SO_RCVLOWAT).max(1) as usize
    }

    /// Urgent data stays in the stream (SO_OOBINLINE).
    pub fn urgent_is_inline(&self) -> bool {
        self.integer(SOL_SOCKET, libc::SO_OOBINLINE) != 0
    }

    /// Whether TCP_CORK is on.
    pub(crate) fn is_corked(&self) -> bool {
        self.integer(IPPROTO_TCP, libc::TCP_CORK) != 0
    }

    /// Everything that was set, in order, to be set again on a kernel socket.
    pub fn replay(&self) -> &[(c_int, c_int, Vec<u8>)] {
        &self.replay
    }

    /// What an accepted socket inherits from its listener.
    pub fn inherit(&self) -> Self {
        Self { replay: Vec::new(), ..self.clone() }
    }
}

/// Answer of [`Options::get`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The value.
    Bytes(Vec<u8>),
    /// It depends on the connection: the engine answers.
    Ask,
}

fn none(_: ()) -> Effect {
    Effect::None
}

fn find(level: c_int, name: c_int) -> Option<(u8, &'static Integer)> {
    let index = INTEGERS.iter().position(|rule| (rule.level, rule.name) == (level, name))?;
    Some((index as u8, &INTEGERS[index]))
}

/// What Linux makes of SO_RCVBUF and SO_SNDBUF: clamped, doubled, at least the minimum.
fn buffer(value: i32, minimum: i32) -> i32 {
    (value.clamp(0, BUFFER_MAX) * BUFFER_FACTOR).max(minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(options: &mut Options, level: c_int, name: c_int, value: i32) -> Result<Effect> {
        options.set(level, name, &value.to_ne_bytes())
    }

    fn get(options: &Options, level: c_int, name: c_int) -> i32 {
        match options.get(level, name).unwrap() {
            Query::Bytes(bytes) => number(&bytes).unwrap(),
            Query::Ask => panic!("not stored"),
        }
    }

    /// A Linux TCP socket is the oracle for every integer option, over a spread of values.
    #[test]
    fn integers_agree_with_linux() {
        for rule in INTEGERS {
            let domain = if rule.level == IPPROTO_IPV6 { libc::AF_INET6 } else { libc::AF_INET };
            // Linux asks for capabilities, rounds, or gives values of its own here.
            if matches!(
                (rule.level, rule.name),
                (
                    SOL_SOCKET,
                    libc::SO_DEBUG
                        | libc::SO_MARK
                        | libc::SO_BUSY_POLL
                        | SO_PREFER_BUSY_POLL
                        | SO_BUSY_POLL_BUDGET
                ) | (
                    SOL_SOCKET,
                    libc::SO_PASSCRED | libc::SO_MAX_PACING_RATE | libc::SO_INCOMING_CPU | libc::SO_RCVLOWAT
                ) | (
                    IPPROTO_TCP,
                    libc::TCP_DEFER_ACCEPT | libc::TCP_WINDOW_CLAMP | libc::TCP_LINGER2 | TCP_TX_DELAY
                ) | (
                    IPPROTO_TCP,
                    libc::TCP_TIMESTAMP
                        | libc::TCP_NOTSENT_LOWAT
                        | libc::TCP_QUICKACK
                        | libc::TCP_USER_TIMEOUT
                ) | (IPPROTO_IPV6, libc::IPV6_TCLASS | libc::IPV6_UNICAST_HOPS | libc::IPV6_MTU_DISCOVER)
                    | (IPPROTO_IP, libc::IP_TTL | libc::IP_TOS | IP_LOCAL_PORT_RANGE | libc::IP_MTU_DISCOVER)
            ) {
                continue;
            }
            for value in [-1, 0, 1, 2, 5, 127, 128, 255, 256, 32767, 32768] {
                // SAFETY: plain socket calls on a descriptor of our own, with valid pointers.
                let (result, read_back) = unsafe {
                    let fd = libc::socket(domain, libc::SOCK_STREAM, 0);
                    let result = libc::setsockopt(fd, rule.level, rule.name, (&raw const value).cast(), 4);
                    let errno = if result == 0 { 0 } else { Errno::last().0 };
                    let (mut read_back, mut length) = (0i32, 4u32);
                    libc::getsockopt(fd, rule.level, rule.name, (&raw mut read_back).cast(), &mut length);
                    libc::close(fd);
                    (errno, read_back)
                };
                let mut options = Options::default();
                let ours =
                    set(&mut options, rule.level, rule.name, value).map_or_else(|error| error.0, |_| 0);
                if result == libc::EPERM {
                    continue;
                }
                assert_eq!(ours, result, "level {} option {} value {value}", rule.level, rule.name);
                assert_eq!(
                    get(&options, rule.level, rule.name),
                    read_back,
                    "level {} option {} value {value} read back",
                    rule.level,
                    rule.name
                );
            }
        }
    }

    #[test]
    fn unknown_and_short_options_are_refused() {
        let mut options = Options::default();
        assert_eq!(set(&mut options, SOL_SOCKET, 9999, 1), Err(Errno(libc::ENOPROTOOPT)));
        assert_eq!(set(&mut options, SOL_SOCKET, libc::SO_TYPE, 1), Err(Errno(libc::ENOPROTOOPT)));
        assert_eq!(options.set(SOL_SOCKET, libc::SO_REUSEADDR, &[1, 0]), Err(Errno(libc::EINVAL)));
        assert_eq!(options.set(SOL_SOCKET, libc::SO_LINGER, &[1, 0, 0, 0]), Err(Errno(libc::EINVAL)));
        assert_eq!(options.get(IPPROTO_TCP, 9999), Err(Errno(libc::ENOPROTOOPT)));
        assert_eq!(options, Options::default());
    }

    #[test]
    fn timeouts_round_trip() {
        let mut options = Options::default();
        let half = timeval(Some(Duration::from_millis(1500)));
        options.set(SOL_SOCKET, libc::SO_RCVTIMEO, &half).unwrap();
        assert_eq!(options.receive_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(options.get(SOL_SOCKET, libc::SO_RCVTIMEO).unwrap(), Query::Bytes(half));
        options.set(SOL_SOCKET, libc::SO_RCVTIMEO, &[0; 16]).unwrap();
        assert_eq!(options.receive_timeout, None);
        let mut bad = vec![0u8; 8];
        bad.extend(1_000_000i64.to_ne_bytes());
        assert_eq!(options.set(SOL_SOCKET, libc::SO_SNDTIMEO, &bad), Err(Errno(libc::EDOM)));
    }

    #[test]
    fn what_the_slow_path_acts_on_is_told() {
        let mut options = Options::default();
        assert_eq!(
            set(&mut options, IPPROTO_TCP, libc::TCP_NODELAY, 7),
            Ok(Effect::Slow(slow::NODELAY, 1, 0))
        );
        let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
        assert_eq!(options.set(SOL_SOCKET, libc::SO_LINGER, &linger), Ok(Effect::Slow(slow::LINGER, 1, 0)));
        assert_eq!(
            options.set(IPPROTO_TCP, libc::TCP_CONGESTION, b"reno"),
            Ok(Effect::Slow(slow::CONGESTION, abi::message::congestion::NEWRENO, 0))
        );
        assert_eq!(options.set(IPPROTO_TCP, libc::TCP_CONGESTION, b"nosuch"), Err(Errno(libc::ENOENT)));
        assert_eq!(set(&mut options, IPPROTO_TCP, libc::TCP_CORK, 1), Ok(Effect::Cork(true)));
        assert_eq!(set(&mut options, IPPROTO_TCP, libc::TCP_CORK, 0), Ok(Effect::Cork(false)));
        assert_eq!(
            set(&mut options, IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
            Ok(Effect::Slow(slow::V6ONLY, 1, 0))
        );
        assert_eq!(get(&options, IPPROTO_IPV6, libc::IPV6_V6ONLY), 1);
    }

    #[test]
    fn tos_and_ttl_are_checked_as_linux_does() {
        let mut options = Options::default();
        assert_eq!(
            set(&mut options, IPPROTO_IP, libc::IP_TOS, 0x1bb),
            Ok(Effect::Slow(slow::TRAFFIC_CLASS, 0xb8, 0))
        );
        assert_eq!(get(&options, IPPROTO_IP, libc::IP_TOS), 0xb8);
        assert_eq!(set(&mut options, IPPROTO_IP, libc::IP_TTL, 0), Err(Errno(libc::EINVAL)));
        assert_eq!(set(&mut options, IPPROTO_IP, libc::IP_TTL, 256), Err(Errno(libc::EINVAL)));
        assert_eq!(set(&mut options, IPPROTO_IP, libc::IP_TTL, 9), Ok(Effect::Slow(slow::HOP_LIMIT, 9, 0)));
        set(&mut options, IPPROTO_IP, libc::IP_TTL, -1).unwrap();
        assert_eq!(get(&options, IPPROTO_IP, libc::IP_TTL), TTL_DEFAULT);
    }

    #[test]
    fn traffic_class_and_hop_limit_are_those_of_ipv6() {
        let mut options = Options::default();
        let class = set(&mut options, IPPROTO_IPV6, libc::IPV6_TCLASS, 0xbb);
        assert_eq!(class, Ok(Effect::Slow(slow::TRAFFIC_CLASS, 0xb8, 0)));
        assert_eq!(get(&options, IPPROTO_IPV6, libc::IPV6_TCLASS), 0xb8);
        set(&mut options, IPPROTO_IPV6, libc::IPV6_TCLASS, -1).unwrap();
        assert_eq!(get(&options, IPPROTO_IPV6, libc::IPV6_TCLASS), 0);
        let hops = set(&mut options, IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 77);
        assert_eq!(hops, Ok(Effect::Slow(slow::HOP_LIMIT, 77, 0)));
        assert_eq!(set(&mut options, IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 256), Err(Errno(libc::EINVAL)));
        set(&mut options, IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, -1).unwrap();
        assert_eq!(get(&options, IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS), TTL_DEFAULT);
    }

    #[test]
    fn buffers_double_like_linux() {
        let mut options = Options::default();
        set(&mut options, SOL_SOCKET, libc::SO_RCVBUF, 10_000).unwrap();
        set(&mut options, SOL_SOCKET, libc::SO_SNDBUF, 1).unwrap();
        assert_eq!(get(&options, SOL_SOCKET, libc::SO_RCVBUF), 20_000);
        assert_eq!(get(&options, SOL_SOCKET, libc::SO_SNDBUF), SEND_BUFFER_MIN);
    }

    #[test]
    fn replay_keeps_the_last_value_of_each() {
        let mut options = Options::default();
        for value in [1, 0, 1] {
            set(&mut options, IPPROTO_TCP, libc::TCP_NODELAY, value).unwrap();
        }
        assert_eq!(options.replay(), [(IPPROTO_TCP, libc::TCP_NODELAY, 1i32.to_ne_bytes().to_vec())]);
        assert!(options.inherit().replay().is_empty());
        assert_eq!(options.inherit().integer(IPPROTO_TCP, libc::TCP_NODELAY), 1);
    }
}
