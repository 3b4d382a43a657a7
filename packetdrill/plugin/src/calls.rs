// SPDX-License-Identifier: MIT OR Apache-2.0
//! The functions of the interface. Every descriptor is non-blocking for the library; what a blocking call does is
//! [`Plugin::wait`]'s, in virtual time.

use crate::{
    interface::{Interface, User},
    plugin::{Answer, Plugin},
};
use libc::{
    c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, loff_t, msghdr, nfds_t, pollfd,
    size_t, sockaddr, socklen_t, ssize_t, timeval,
};
use std::{ptr, slice, time::Duration};
use tas::sockets::{
    accept as accepting, address, descriptors, epoll_calls, find, open, poll as polling, receive,
    send as sending, sockopt, Entry, Errno, Result, Token,
};

/// The functions, for `plugin`.
pub(crate) fn table(plugin: *mut Plugin) -> Interface {
    Interface {
        user: plugin.cast(),
        free,
        socket,
        bind,
        listen,
        accept,
        connect,
        read,
        readv,
        recv,
        recvfrom,
        recvmsg,
        write,
        writev,
        send,
        sendto,
        sendmsg,
        fcntl,
        ioctl,
        close,
        shutdown,
        getsockopt,
        setsockopt,
        poll,
        netdev_send,
        netdev_receive,
        usleep,
        gettimeofday,
        epoll_create,
        epoll_ctl,
        epoll_wait,
        pipe,
        splice,
    }
}

/// # Safety
/// `user` was made by [`crate::packetdrill_interface_init`] and not freed.
unsafe fn of<'a>(user: User) -> &'a Plugin {
    // SAFETY: the caller's promise.
    unsafe { &*user.cast::<Plugin>() }
}

fn errno<T>(result: Result<T>) -> std::result::Result<T, c_int> {
    result.map_err(|Errno(errno)| errno)
}

/// As a system call answers.
fn answered(answer: Answer) -> i64 {
    answer.unwrap_or_else(|errno| {
        // SAFETY: this thread's errno.
        unsafe { *libc::__errno_location() = errno };
        -1
    })
}

fn token(fd: c_int) -> std::result::Result<Token, c_int> {
    match find(fd) {
        Some(Entry::Stream(token)) => Ok(token),
        Some(_) => Err(libc::ENOTSOCK),
        None => Err(libc::EBADF),
    }
}

/// Whether a call on `fd` with `flags` may block.
fn blocks(plugin: &Plugin, fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_DONTWAIT == 0 && !plugin.lock().nonblocking.contains(&fd)
}

unsafe extern "C" fn free(user: User) {
    crate::forget(user.cast());
    // SAFETY: made by `Box::into_raw`; the tool does not use it any more.
    drop(unsafe { Box::from_raw(user.cast::<Plugin>()) });
}

unsafe extern "C" fn socket(user: User, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let answer = plugin.call(|state| {
        let all = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let made = open::socket(domain, all, protocol).unwrap_or(Err(Errno(libc::EPROTONOSUPPORT)));
        let fd = errno(made)?;
        state.nonblocking.remove(&fd);
        if kind & libc::SOCK_NONBLOCK != 0 {
            state.nonblocking.insert(fd);
        }
        Ok(fd.into())
    });
    answered(answer) as c_int
}

unsafe extern "C" fn bind(user: User, fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| {
        // SAFETY: the tool's promise.
        errno(unsafe { open::bind(token(fd)?, fd, name, length) }).map(|()| 0)
    })) as c_int
}

unsafe extern "C" fn listen(user: User, fd: c_int, backlog: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| errno(accepting::listen(token(fd)?, backlog)).map(|()| 0))) as c_int
}

unsafe extern "C" fn accept(user: User, fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let attempt = move || {
        let (new, peer, family) =
            errno(accepting::accept(token(fd)?, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC))?;
        if !name.is_null() {
            // SAFETY: the tool's promise.
            errno(unsafe { address::write(peer, family, name, length) })?;
        }
        Ok(new.into())
    };
    let answer = plugin.wait(blocks(plugin, fd, 0), None, Box::new(attempt));
    if let Ok(new) = answer {
        plugin.lock().nonblocking.remove(&(new as c_int));
    }
    answered(answer) as c_int
}

unsafe extern "C" fn connect(user: User, fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let first = plugin.call(|_| {
        // SAFETY: the tool's promise.
        errno(unsafe { open::connect(token(fd)?, fd, name, length) }).map(|()| 0)
    });
    if first != Err(libc::EINPROGRESS) || !blocks(plugin, fd, 0) {
        return answered(first) as c_int;
    }
    let attempt = move || {
        let mut set = [pollfd { fd, events: libc::POLLOUT, revents: 0 }];
        if look(&mut set)? == 0 {
            return Err(libc::EAGAIN);
        }
        let (mut error, mut length) = (0, size_of::<c_int>() as socklen_t);
        // SAFETY: the value is writable for its length.
        errno(unsafe {
            sockopt::get(token(fd)?, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut length)
        })?;
        if error == 0 {
            Ok(0)
        } else {
            Err(error)
        }
    };
    answered(plugin.wait(true, None, Box::new(attempt))) as c_int
}

/// What `set` has now.
fn look(set: &mut [pollfd]) -> Answer {
    // SAFETY: no mask.
    errno(unsafe { polling::poll(set, Some(Duration::ZERO), ptr::null()) }).map(i64::from)
}

/// The pieces behind the first `skip` bytes.
fn rest(pieces: &[iovec], mut skip: usize) -> Vec<iovec> {
    let mut left = Vec::new();
    for piece in pieces {
        let passed = skip.min(piece.iov_len);
        skip -= passed;
        if passed < piece.iov_len {
            // Inside the piece.
            let base = piece.iov_base.cast::<u8>().wrapping_add(passed).cast();
            left.push(iovec { iov_base: base, iov_len: piece.iov_len - passed });
        }
    }
    left
}

/// Every call that receives.
fn receive_into(plugin: &Plugin, fd: c_int, pieces: Vec<iovec>, flags: c_int) -> ssize_t {
    let blocking = blocks(plugin, fd, flags);
    let room: usize = pieces.iter().map(|piece| piece.iov_len).sum();
    let wanted = if blocking && flags & libc::MSG_WAITALL != 0 { room } else { room.min(1) };
    let mut moved = 0;
    let attempt = move || loop {
        // SAFETY: the tool's buffers, for as long as its call lasts.
        match errno(unsafe {
            receive::receive(token(fd)?, &rest(&pieces, moved), flags & !libc::MSG_WAITALL)
        }) {
            Ok(0) => return Ok(moved as i64),
            Ok(count) => moved += count,
            Err(libc::EAGAIN) => return Err(libc::EAGAIN),
            Err(_) if moved > 0 => return Ok(moved as i64),
            Err(errno) => return Err(errno),
        }
        if moved >= wanted {
            return Ok(moved as i64);
        }
    };
    answered(plugin.wait(blocking, None, Box::new(attempt))) as ssize_t
}

/// Every call that sends.
fn send_from(plugin: &Plugin, fd: c_int, pieces: Vec<iovec>, flags: c_int) -> ssize_t {
    let blocking = blocks(plugin, fd, flags);
    let total: usize = pieces.iter().map(|piece| piece.iov_len).sum();
    let mut moved = 0;
    let attempt = move || {
        // SAFETY: the tool's buffers, for as long as its call lasts.
        match errno(unsafe { sending::send(token(fd)?, &rest(&pieces, moved), flags | libc::MSG_NOSIGNAL) }) {
            Ok(count) => moved += count,
            Err(libc::EAGAIN) => {}
            Err(_) if moved > 0 => return Ok(moved as i64),
            Err(errno) => return Err(errno),
        }
        match moved {
            _ if moved >= total || (moved > 0 && !blocking) => Ok(moved as i64),
            _ => Err(libc::EAGAIN),
        }
    };
    answered(plugin.wait(blocking, None, Box::new(attempt))) as ssize_t
}

fn piece(buffer: *const c_void, count: size_t) -> Vec<iovec> {
    vec![iovec { iov_base: buffer.cast_mut(), iov_len: count }]
}

/// # Safety
/// `pieces` is readable for `count` entries.
unsafe fn pieces_of(pieces: *const iovec, count: usize) -> Vec<iovec> {
    if pieces.is_null() || count == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(pieces, count) }.to_vec()
}

unsafe extern "C" fn read(user: User, fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: the tool's promise.
    receive_into(unsafe { of(user) }, fd, piece(buffer, count), 0)
}

unsafe extern "C" fn readv(user: User, fd: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the tool's promise.
    unsafe { receive_into(of(user), fd, pieces_of(pieces, count.max(0) as usize), 0) }
}

unsafe extern "C" fn recv(
    user: User,
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the tool's promise.
    receive_into(unsafe { of(user) }, fd, piece(buffer, count), flags)
}

unsafe extern "C" fn recvfrom(
    user: User,
    fd: c_int,
    buffer: *mut c_void,
    count: size_t,
    flags: c_int,
    _name: *mut sockaddr,
    length: *mut socklen_t,
) -> ssize_t {
    if !length.is_null() {
        // SAFETY: the tool's promise. A stream tells no names.
        unsafe { *length = 0 };
    }
    // SAFETY: the tool's promise.
    receive_into(unsafe { of(user) }, fd, piece(buffer, count), flags)
}

unsafe extern "C" fn recvmsg(user: User, fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the tool's promise.
    let (plugin, pieces) =
        unsafe { (of(user), pieces_of((*message).msg_iov, (*message).msg_iovlen as usize)) };
    let count = receive_into(plugin, fd, pieces, flags);
    if count >= 0 {
        // SAFETY: the tool's promise.
        unsafe { ((*message).msg_namelen, (*message).msg_controllen, (*message).msg_flags) = (0, 0, 0) };
    }
    count
}

unsafe extern "C" fn write(user: User, fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the tool's promise.
    send_from(unsafe { of(user) }, fd, piece(buffer, count), 0)
}

unsafe extern "C" fn writev(user: User, fd: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the tool's promise.
    unsafe { send_from(of(user), fd, pieces_of(pieces, count.max(0) as usize), 0) }
}

unsafe extern "C" fn send(
    user: User,
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the tool's promise.
    send_from(unsafe { of(user) }, fd, piece(buffer, count), flags)
}

unsafe extern "C" fn sendto(
    user: User,
    fd: c_int,
    buffer: *const c_void,
    count: size_t,
    flags: c_int,
    _name: *const sockaddr,
    _length: socklen_t,
) -> ssize_t {
    // SAFETY: the tool's promise.
    send_from(unsafe { of(user) }, fd, piece(buffer, count), flags)
}

unsafe extern "C" fn sendmsg(user: User, fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the tool's promise.
    unsafe { send_from(of(user), fd, pieces_of((*message).msg_iov, (*message).msg_iovlen as usize), flags) }
}

unsafe extern "C" fn fcntl(user: User, fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|state| {
        token(fd)?;
        match command {
            libc::F_GETFL => {
                let nonblocking = if state.nonblocking.contains(&fd) { libc::O_NONBLOCK } else { 0 };
                Ok((libc::O_RDWR | nonblocking).into())
            }
            libc::F_SETFL => {
                if argument as c_int & libc::O_NONBLOCK == 0 {
                    state.nonblocking.remove(&fd);
                } else {
                    state.nonblocking.insert(fd);
                }
                Ok(0)
            }
            _ => Err(libc::EINVAL),
        }
    })) as c_int
}

unsafe extern "C" fn ioctl(user: User, fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|state| {
        let stream = token(fd)?;
        if request == libc::FIONBIO {
            // SAFETY: the request takes a pointer to an int.
            match unsafe { argument.cast::<c_int>().read_unaligned() } {
                0 => state.nonblocking.remove(&fd),
                _ => state.nonblocking.insert(fd),
            };
            return Ok(0);
        }
        // SAFETY: the tool's promise.
        let answer = unsafe { descriptors::ioctl(stream, request, argument) };
        errno(answer.unwrap_or(Err(Errno(libc::ENOTTY)))).map(i64::from)
    })) as c_int
}

unsafe extern "C" fn close(user: User, fd: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|state| {
        state.nonblocking.remove(&fd);
        match find(fd) {
            Some(entry) => errno(descriptors::close(entry, fd)).map(|()| 0),
            // A pipe's end.
            // SAFETY: the script's own descriptor.
            None if unsafe { libc::close(fd) } == 0 => Ok(0),
            None => Err(libc::EBADF),
        }
    })) as c_int
}

unsafe extern "C" fn shutdown(user: User, fd: c_int, how: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| errno(sockopt::shutdown(token(fd)?, how)).map(|()| 0))) as c_int
}

/// # Safety
/// As getsockopt(2), and `user` as everywhere here.
pub(crate) unsafe extern "C" fn getsockopt(
    user: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| {
        // SAFETY: the tool's promise.
        errno(unsafe { sockopt::get(token(fd)?, level, name, value, length) }).map(|()| 0)
    })) as c_int
}

unsafe extern "C" fn setsockopt(
    user: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| {
        // SAFETY: the tool's promise.
        errno(unsafe { sockopt::set(token(fd)?, fd, level, name, value, length) }).map(|()| 0)
    })) as c_int
}

/// Milliseconds as poll and epoll_wait have them: none, or for ever.
fn limit_us(timeout_ms: c_int) -> Option<u64> {
    u64::try_from(timeout_ms).ok().map(|ms| ms * 1000)
}

unsafe extern "C" fn poll(user: User, set: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let attempt = move || {
        // SAFETY: the tool's set, for as long as its call lasts.
        let set = unsafe { slice::from_raw_parts_mut(set, count as usize) };
        match look(set)? {
            0 if timeout_ms != 0 => Err(libc::EAGAIN),
            found => Ok(found),
        }
    };
    answered(plugin.wait(timeout_ms != 0, limit_us(timeout_ms), Box::new(attempt))) as c_int
}

unsafe extern "C" fn netdev_send(user: User, buffer: *const c_void, count: size_t) -> c_int {
    // SAFETY: the tool's promise.
    let (plugin, datagram) = unsafe { (of(user), slice::from_raw_parts(buffer.cast::<u8>(), count)) };
    plugin.inject(datagram);
    0
}

unsafe extern "C" fn netdev_receive(
    user: User,
    buffer: *mut c_void,
    count: *mut size_t,
    at_us: *mut c_longlong,
) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let Some(sent) = plugin.receive() else {
        // The tool would ask for ever; a datagram of no bytes is an error to it.
        eprintln!("libtas_packetdrill: the host sends nothing more");
        // SAFETY: the tool's promise.
        unsafe { (*count, *at_us) = (0, 0) };
        return 0;
    };
    // SAFETY: the tool's promise.
    unsafe {
        let bytes = sent.datagram.len().min(*count);
        ptr::copy_nonoverlapping(sent.datagram.as_ptr(), buffer.cast(), bytes);
        (*count, *at_us) = (bytes, sent.at_us as c_longlong);
    }
    0
}

unsafe extern "C" fn usleep(user: User, us: c_uint) -> c_int {
    // SAFETY: the tool's promise.
    unsafe { of(user) }.sleep(us.into());
    0
}

unsafe extern "C" fn gettimeofday(user: User, time: *mut timeval, _zone: *mut c_void) -> c_int {
    // SAFETY: the tool's promise.
    let now_us = unsafe { of(user) }.now_us();
    let parts = timeval { tv_sec: (now_us / 1_000_000) as i64, tv_usec: (now_us % 1_000_000) as i64 };
    // SAFETY: the tool's promise.
    unsafe { time.write(parts) };
    0
}

unsafe extern "C" fn epoll_create(user: User, _size: c_int) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| {
        // SAFETY: no pointers.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            fd if fd >= 0 => {
                epoll_calls::created(fd);
                Ok(fd.into())
            }
            _ => Err(Errno::last().0),
        }
    })) as c_int
}

unsafe extern "C" fn epoll_ctl(
    user: User,
    epfd: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    answered(plugin.call(|_| {
        // SAFETY: the tool's promise.
        errno(unsafe { epoll_calls::control(epfd, operation, fd, event) }).map(|()| 0)
    })) as c_int
}

unsafe extern "C" fn epoll_wait(
    user: User,
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: the tool's promise.
    let plugin = unsafe { of(user) };
    let attempt = move || {
        let Some(Entry::Epoll(epoll)) = find(epfd) else { return Err(libc::EBADF) };
        // SAFETY: the tool's array, for as long as its call lasts; no mask.
        let found =
            unsafe { epoll_calls::wait(epoll, epfd, events, count, Some(Duration::ZERO), ptr::null()) };
        match errno(found)? {
            0 if timeout_ms != 0 => Err(libc::EAGAIN),
            found => Ok(found.into()),
        }
    };
    answered(plugin.wait(timeout_ms != 0, limit_us(timeout_ms), Box::new(attempt))) as c_int
}

unsafe extern "C" fn pipe(_user: User, ends: *mut c_int) -> c_int {
    // SAFETY: the tool's promise.
    unsafe { libc::pipe(ends) }
}

/// Sockets of TAS cannot be spliced, as those of any library.
unsafe extern "C" fn splice(
    _user: User,
    _input: c_int,
    _input_at: *mut loff_t,
    _output: c_int,
    _output_at: *mut loff_t,
    _count: size_t,
    _flags: c_uint,
) -> ssize_t {
    answered(Err(libc::EINVAL)) as ssize_t
}
