// SPDX-License-Identifier: MIT OR Apache-2.0
//! getsockopt, setsockopt and shutdown.

use super::{
    address::Family,
    errno::{check, Errno, Result},
    open,
    options::{Effect, Query, SO_MEMINFO},
    process::process,
    real,
    report::Reason,
    stream::{Phase, Stream},
    table::Token,
};
use abi::message::{
    option::{self, NODELAY, V6ONLY},
    tcp_state,
};
use libc::{c_int, c_void, socklen_t, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use std::{ptr, slice};

/// Longest option value looked at.
const VALUE_MAX: usize = 256;
/// TCP_MSS_DEFAULT: what TCP_MAXSEG answers before there is a connection.
const MSS_DEFAULT: i32 = 536;
/// `tcpi_options` bit of data that went with the SYN (linux/tcp.h); the others are [`abi::message::negotiated`]'s.
const TCPI_OPT_SYN_DATA: u8 = 32;

/// setsockopt().
///
/// # Errors
/// As setsockopt(2).
///
/// # Safety
/// `value` is readable for `length` bytes.
pub unsafe fn set(
    token: Token,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> Result<()> {
    if (length as c_int) < 0 {
        return Err(Errno(libc::EINVAL));
    }
    if value.is_null() && length > 0 {
        return Err(Errno(libc::EFAULT));
    }
    let length = (length as usize).min(VALUE_MAX);
    // SAFETY: the caller's promise.
    let bytes = if length == 0 { &[] } else { unsafe { slice::from_raw_parts(value.cast::<u8>(), length) } };
    let process = process();
    let (effect, socket) = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        check_family(stream, level)?;
        let is_v6only = (level, name) == (IPPROTO_IPV6, libc::IPV6_V6ONLY);
        // Not once it has a port (do_ipv6_setsockopt).
        let too_late = is_v6only && !matches!(stream.phase, Phase::Fresh);
        if too_late || level == IPPROTO_TCP && !may_set_fast_open(&stream.phase, name) {
            return Err(Errno(libc::EINVAL));
        }
        (stream.options.set(level, name, bytes)?, stream.socket.clone())
    };
    match effect {
        Effect::None => Ok(()),
        Effect::Inline => {
            let mut engine = process.engine();
            let stream = engine.stream(token)?;
            let is_inline = stream.options.urgent_is_inline();
            stream.connection().into_iter().for_each(|connection| connection.set_urgent_inline(is_inline));
            Ok(())
        }
        Effect::Cork(on) => process.engine().stream(token).map(|stream| stream.cork(on)),
        Effect::Keys(keys) => {
            let names = [option::FAST_OPEN_KEY, option::FAST_OPEN_BACKUP_KEY];
            names.into_iter().zip(keys).try_for_each(|(name, key)| Ok(socket.set_key(name, key)?))
        }
        // No IPv4 through it, and TAS has nothing else.
        Effect::Slow(option, 1, _) if option == V6ONLY && !has_ipv6() => {
            open::fall_back(process, token, Reason::Ipv6, "IPV6_V6ONLY", Errno(libc::EAFNOSUPPORT))?;
            // SAFETY: the caller's promise.
            check(unsafe { real::setsockopt(fd, level, name, value, length as socklen_t) }.into()).map(drop)
        }
        // An option that the slow path does not act on (yet) keeps its stored value.
        Effect::Slow(option, value, value2) => {
            if option == NODELAY && value != 0 {
                // Linux: what TCP_CORK or MSG_MORE holds back leaves, though it goes on holding.
                process.engine().stream(token)?.push();
            }
            match socket.set_option(option, value, value2).map_err(Errno::from) {
                Err(Errno(libc::ENOPROTOOPT | libc::EOPNOTSUPP)) => Ok(()),
                other => other,
            }
        }
    }
}

/// An AF_INET socket has no options of IPv6 (ip_setsockopt).
fn check_family(stream: &Stream, level: c_int) -> Result<()> {
    if level == IPPROTO_IPV6 && stream.family == Family::V4 {
        return Err(Errno(libc::ENOPROTOOPT));
    }
    Ok(())
}

/// True if the instance serves IPv6.
fn has_ipv6() -> bool {
    process().network().is_some_and(|network| network.application.ipv6().is_some())
}

/// Whether a fast-open option can be set in this phase; true for every other option.
fn may_set_fast_open(phase: &Phase, name: c_int) -> bool {
    match name {
        libc::TCP_FASTOPEN | libc::TCP_FASTOPEN_NO_COOKIE => {
            matches!(phase, Phase::Fresh | Phase::Bound | Phase::Failed | Phase::Listening { .. })
        }
        libc::TCP_FASTOPEN_CONNECT => matches!(phase, Phase::Fresh | Phase::Bound | Phase::Failed),
        _ => true,
    }
}

/// getsockopt().
///
/// # Errors
/// As getsockopt(2).
///
/// # Safety
/// `length` is null or valid; `value` is writable for `*length` bytes.
pub unsafe fn get(
    token: Token,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> Result<()> {
    if length.is_null() || value.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: the caller's promise.
    let room = unsafe { *length };
    if (room as c_int) < 0 {
        return Err(Errno(libc::EINVAL));
    }
    let process = process();
    process.pump();
    let bytes = {
        let mut engine = process.engine();
        let stream = engine.stream(token)?;
        check_family(stream, level)?;
        match stream.options.get(level, name)? {
            Query::Bytes(bytes) => bytes,
            Query::Ask => ask(stream, level, name)?,
        }
    };
    let count = bytes.len().min(room as usize);
    // SAFETY: the caller's promise; at most `room` bytes are written.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast::<u8>(), count);
        *length = count as socklen_t;
    }
    Ok(())
}

/// Options whose value depends on the connection.
fn ask(stream: &mut Stream, level: c_int, name: c_int) -> Result<Vec<u8>> {
    let number = match (level, name) {
        (SOL_SOCKET, libc::SO_ERROR) => std::mem::take(&mut stream.error),
        (SOL_SOCKET, libc::SO_ACCEPTCONN) => i32::from(matches!(stream.phase, Phase::Listening { .. })),
        (SOL_SOCKET, libc::SO_DOMAIN) => stream.family.number(),
        (IPPROTO_TCP, libc::TCP_MAXSEG) => match (stream.connection(), stream.options.max_segment) {
            (Some(connection), _) => connection.info().mss_bytes as i32,
            (None, 0) => MSS_DEFAULT,
            (None, set) => set,
        },
        (IPPROTO_IP, libc::IP_MTU) | (IPPROTO_IPV6, libc::IPV6_MTU) => match stream.connection() {
            Some(_) => process().network().map_or(0, |network| network.application.mtu_bytes() as i32),
            None => return Err(Errno(libc::ENOTCONN)),
        },
        (IPPROTO_TCP, libc::TCP_INFO) => return Ok(tcp_info(stream)),
        (SOL_SOCKET, SO_MEMINFO) => return Ok(memory_info(stream)),
        _ => return Err(Errno(libc::ENOPROTOOPT)),
    };
    Ok(number.to_ne_bytes().to_vec())
}

/// What SO_MEMINFO tells (linux/sock_diag.h, `SK_MEMINFO_*`): nine numbers, of which these are known.
fn memory_info(stream: &Stream) -> Vec<u8> {
    let mut words = [0u32; 9];
    let [receive_bytes, receive_room, _, send_room, _, send_bytes, ..] = &mut words;
    *receive_room = stream.options.integer(SOL_SOCKET, libc::SO_RCVBUF) as u32;
    *send_room = stream.options.integer(SOL_SOCKET, libc::SO_SNDBUF) as u32;
    if let Some(connection) = stream.connection() {
        *receive_bytes = connection.readable_bytes() as u32;
        *send_bytes = connection.unacknowledged_bytes() as u32;
    }
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// `struct tcp_info`, as much of it as the slow path knows.
fn tcp_info(stream: &Stream) -> Vec<u8> {
    // SAFETY: plain numbers; zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    info.tcpi_state = stream.tcp_state() as u8;
    info.tcpi_rto = 200_000;
    info.tcpi_snd_mss = MSS_DEFAULT as u32;
    info.tcpi_rcv_mss = MSS_DEFAULT as u32;
    if let Some(connection) = stream.connection() {
        let known = *connection.info();
        let now = stream.socket.flow_info().unwrap_or(known);
        info.tcpi_options = known.options as u8;
        if now.syn_data_bytes > 0 {
            info.tcpi_options |= TCPI_OPT_SYN_DATA;
        }
        if now.tcp_state == tcp_state::SYN_RECEIVED && info.tcpi_state == tcp_state::ESTABLISHED as u8 {
            info.tcpi_state = now.tcp_state as u8;
        }
        info.tcpi_snd_mss = known.mss_bytes;
        info.tcpi_rcv_mss = known.mss_bytes;
        info.tcpi_advmss = known.mss_bytes;
        info.tcpi_pmtu = process().network().map_or(0, |network| network.application.mtu_bytes());
        info.tcpi_rtt = now.srtt_us;
        info.tcpi_rcv_rtt = now.srtt_us;
        info.tcpi_unacked = (connection.unacknowledged_bytes() as u32).div_ceil(known.mss_bytes.max(1));
        info.tcpi_rcv_space = known.rx_buffer_bytes;
        info.tcpi_snd_ssthresh = i32::MAX as u32;
        info.tcpi_snd_cwnd = known.tx_buffer_bytes / known.mss_bytes.max(1);
    }
    // SAFETY: a plain struct is readable as bytes.
    unsafe { slice::from_raw_parts((&raw const info).cast::<u8>(), size_of::<libc::tcp_info>()) }.to_vec()
}

/// shutdown().
///
/// # Errors
/// As shutdown(2).
pub fn shutdown(token: Token, how: c_int) -> Result<()> {
    if !matches!(how, libc::SHUT_RD | libc::SHUT_WR | libc::SHUT_RDWR) {
        return Err(Errno(libc::EINVAL));
    }
    let process = process();
    process.pump();
    let mut engine = process.engine();
    let stream = engine.stream(token)?;
    if matches!(stream.phase, Phase::Listening { .. }) {
        // Linux stops listening; accept() then fails with EINVAL.
        if how != libc::SHUT_WR {
            stream.phase = Phase::Failed;
            engine.notify(token, EVERYTHING);
        }
        return Ok(());
    }
    let Some(connection) = stream.connection().cloned() else {
        return Err(Errno(libc::ENOTCONN));
    };
    if stream.broken {
        return Err(Errno(libc::ENOTCONN));
    }
    if how != libc::SHUT_RD {
        connection.finish();
    }
    if how != libc::SHUT_WR {
        stream.read_shut = true;
        // Linux goes on receiving and acknowledging after shutdown(SHUT_RD); only a reader sees
        // the end. Both directions closed: what arrives now is refused.
        if how == libc::SHUT_RDWR {
            stream.socket.shutdown_read()?;
        }
    }
    engine.notify(token, EVERYTHING);
    Ok(())
}

const EVERYTHING: u32 = (libc::EPOLLIN
    | libc::EPOLLRDNORM
    | libc::EPOLLOUT
    | libc::EPOLLWRNORM
    | libc::EPOLLRDHUP
    | libc::EPOLLHUP) as u32;
