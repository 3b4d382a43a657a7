// SPDX-License-Identifier: MIT OR Apache-2.0
//! Constants of system calls by name.

macro_rules! names {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name as i64)),+] };
}

const ERRORS: &[(&str, i64)] = names![
    EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED ECONNRESET
    EDESTADDRREQ EFAULT EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN EMFILE EMSGSIZE ENETDOWN
    ENETUNREACH ENOBUFS ENOENT ENOMEM ENOPROTOOPT ENOTCONN ENOTSOCK EOPNOTSUPP EPERM EPIPE EPROTONOSUPPORT
    ETIMEDOUT
];

const VALUES: &[(&str, i64)] = names![
    AF_INET AF_INET6 PF_INET SOCK_STREAM SOCK_NONBLOCK SOCK_CLOEXEC IPPROTO_TCP IPPROTO_IP SOL_SOCKET SOL_TCP
    SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE SO_LINGER SO_ERROR SO_SNDBUF SO_RCVBUF SO_RCVLOWAT SO_OOBINLINE
    SO_TYPE SO_ACCEPTCONN SO_RCVTIMEO SO_SNDTIMEO
    TCP_NODELAY TCP_CORK TCP_QUICKACK TCP_MAXSEG TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT
    TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_USER_TIMEOUT TCP_FASTOPEN TCP_FASTOPEN_CONNECT
    TCP_NOTSENT_LOWAT TCP_INFO IP_TOS IP_TTL IP_RECVERR TCP_FASTOPEN_KEY TCP_FASTOPEN_NO_COOKIE
    MSG_DONTWAIT MSG_PEEK MSG_OOB MSG_NOSIGNAL MSG_MORE MSG_WAITALL MSG_TRUNC MSG_FASTOPEN
    F_GETFL F_SETFL O_RDWR O_RDONLY O_NONBLOCK SHUT_RD SHUT_WR SHUT_RDWR
    POLLIN POLLOUT POLLERR POLLHUP POLLRDHUP POLLPRI POLLNVAL POLLRDNORM POLLWRNORM
    FIONREAD TIOCOUTQ
];

/// Names that libc gives otherwise.
const OTHERS: &[(&str, i64)] = &[
    ("SIOCINQ", libc::FIONREAD as i64),
    ("SIOCOUTQ", libc::TIOCOUTQ as i64),
    ("SIOCATMARK", 0x8905),
    ("NULL", 0),
];

fn find(table: &[(&str, i64)], name: &str) -> Option<i64> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The constant `name`.
pub(super) fn value(name: &str) -> Option<i64> {
    find(VALUES, name).or_else(|| find(OTHERS, name))
}

/// The error number `name`.
pub(super) fn errno(name: &str) -> Option<i32> {
    find(ERRORS, name).map(|value| value as i32)
}

/// The name of an error number.
pub(crate) fn errno_name(errno: i32) -> String {
    let known = ERRORS.iter().find(|(_, value)| *value == i64::from(errno));
    known.map_or_else(|| format!("errno {errno}"), |(name, _)| (*name).to_owned())
}
