// SPDX-License-Identifier: MIT OR Apache-2.0
//! The low-level API for C. `libtas/tas.h` is generated from this file (`tests/header.rs` compares
//! them; run it with TAS_UPDATE_HEADER=1 after a change).
//!
//! Every pointer argument must be what another function of this file returned and not yet ended, or
//! memory of the stated size; a NULL where none is allowed is answered by -EINVAL.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

use crate::{
    control::{self, attach, Backend},
    lowlevel::{event, Application, Close, Connection, Context, Event, Options, Socket},
};
use abi::message::Endpoint;
use std::{
    cell::RefCell,
    ffi::{c_char, c_int, c_void, CStr, CString},
    io,
    os::fd::AsRawFd,
    sync::{Arc, OnceLock},
};

/// New bytes can be read.
pub const TAS_READABLE: u16 = 1;
/// The peer sent FIN: end of stream after what is readable.
pub const TAS_END_OF_STREAM: u16 = 2;
/// A write came up short earlier; now there is room.
pub const TAS_WRITABLE: u16 = 4;
/// All data and our FIN were acknowledged.
pub const TAS_FINISHED: u16 = 8;
/// tas_connect() succeeded: call tas_connected() before reading or writing.
pub const TAS_CONNECTED: u16 = 16;
/// tas_connect() failed, or the connection was reset or timed out; tas_event.error says why.
pub const TAS_FAILED: u16 = 32;
/// A listener has connections: call tas_accept() until -EAGAIN.
pub const TAS_ACCEPTABLE: u16 = 64;

const _: () = assert!(
    TAS_READABLE == event::READABLE
        && TAS_END_OF_STREAM == event::END_OF_STREAM
        && TAS_WRITABLE == event::WRITABLE
        && TAS_FINISHED == event::FINISHED
        && TAS_CONNECTED == event::CONNECTED
        && TAS_FAILED == event::FAILED
        && TAS_ACCEPTABLE == event::ACCEPTABLE
);

/// A process attached to an instance of TAS.
pub struct tas_app(Arc<Application>);

/// Rings to the fast path: one per thread, as a rule. Any thread may use any of them.
pub struct tas_context(Arc<Context>);

/// A listener, a connection being opened, or a connection.
pub struct tas_socket {
    socket: Socket,
    connection: OnceLock<Connection>,
}

/// Something happened to a socket.
#[repr(C)]
pub struct tas_event {
    /// The number given when the socket was made.
    pub token: u64,
    /// Some of TAS_READABLE, TAS_END_OF_STREAM, ...
    pub flags: u16,
    /// errno if TAS_FAILED, else zero.
    pub error: i32,
}

/// A piece of memory.
#[repr(C)]
pub struct tas_piece {
    /// First byte.
    pub data: *mut c_void,
    /// Length in bytes.
    pub bytes: usize,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn failed(error: &io::Error) -> c_int {
    let text = CString::new(error.to_string().replace('\0', " ")).unwrap_or_default();
    LAST_ERROR.with(|last| last.replace(text));
    -control::errno(error)
}

/// The value of a result, put into `*out`.
unsafe fn give<T>(result: io::Result<T>, out: *mut *mut T) -> c_int {
    match result {
        Ok(value) => {
            // SAFETY: the caller's pointer, checked by the callers of this function.
            unsafe { *out = Box::into_raw(Box::new(value)) };
            0
        }
        Err(error) => failed(&error),
    }
}

fn status(result: io::Result<()>) -> c_int {
    result.map_or_else(|error| failed(&error), |()| 0)
}

/// The referents of pointers, or -EINVAL out of the function.
macro_rules! checked {
    ($($pointer:ident),+) => {
        // SAFETY: not NULL, so by this file's contract a live handle.
        $(let Some($pointer) = (unsafe { $pointer.as_ref() }) else { return (-libc::EINVAL) as _ };)+
    };
}

macro_rules! connected {
    ($socket:ident) => {{
        checked!($socket);
        let Some(connection) = $socket.connection.get() else {
            return (-libc::ENOTCONN) as _;
        };
        connection
    }};
}

/// What went wrong in the last call of this thread that returned an error, in words. Valid until the
/// next error.
#[no_mangle]
pub extern "C" fn tas_error_text() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// Attaches to an instance, by name; NULL means TAS_INSTANCE or "tas0". TAS_BACKEND chooses between
/// kernel and daemon. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_init(instance: *const c_char, app: *mut *mut tas_app) -> c_int {
    if app.is_null() {
        return -libc::EINVAL;
    }
    let mut options = Options::default();
    if !instance.is_null() {
        // SAFETY: a C string by contract.
        options.instance = unsafe { CStr::from_ptr(instance) }.to_string_lossy().into_owned();
    }
    options.command = attach::command_name();
    let attached = Backend::from_environment()
        .and_then(|backend| control::open(backend, &options.instance))
        .and_then(|channel| Application::attach(channel, &options));
    // SAFETY: checked above.
    unsafe { give(attached.map(tas_app), app) }
}

/// Lets go of an application. Its memory goes with its last context and socket.
#[no_mangle]
pub unsafe extern "C" fn tas_exit(app: *mut tas_app) {
    if !app.is_null() {
        // SAFETY: made by `give`.
        drop(unsafe { Box::from_raw(app) });
    }
}

/// Makes a context. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_context_create(app: *const tas_app, context: *mut *mut tas_context) -> c_int {
    checked!(app);
    if context.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: checked above.
    unsafe { give(Context::new(&app.0).map(tas_context), context) }
}

/// Lets go of a context. It lives on while it has connections.
#[no_mangle]
pub unsafe extern "C" fn tas_context_destroy(context: *mut tas_context) {
    if !context.is_null() {
        // SAFETY: made by `give`.
        drop(unsafe { Box::from_raw(context) });
    }
}

/// Takes up to `count` events, without blocking. Returns how many.
#[no_mangle]
pub unsafe extern "C" fn tas_context_poll(
    context: *const tas_context,
    events: *mut tas_event,
    count: c_int,
) -> c_int {
    /// Events taken at a time, on the stack.
    const BATCH: usize = 64;
    checked!(context);
    if events.is_null() || count < 0 {
        return -libc::EINVAL;
    }
    let (mut taken, count) = (0, count as usize);
    while taken < count {
        let mut batch = [Event::default(); BATCH];
        let room = BATCH.min(count - taken);
        let got = context.0.poll(&mut batch[..room]);
        for event in &batch[..got] {
            let Event { token, flags, error } = *event;
            // SAFETY: `count` events by contract.
            unsafe { events.add(taken).write(tas_event { token, flags, error }) };
            taken += 1;
        }
        if got < room {
            break;
        }
    }
    taken as c_int
}

/// Sleeps until there is something to poll, at most `timeout_ms` (negative: without limit). Returns 0
/// or -EINTR.
#[no_mangle]
pub unsafe extern "C" fn tas_context_wait(context: *const tas_context, timeout_ms: c_int) -> c_int {
    checked!(context);
    status(context.0.wait(u32::try_from(timeout_ms).ok()))
}

/// Descriptor to sleep on with poll(2) or epoll(7), between tas_context_prepare_wait() and
/// tas_context_finish_wait(). Do not read or close it.
#[no_mangle]
pub unsafe extern "C" fn tas_context_fd(context: *const tas_context) -> c_int {
    checked!(context);
    context.0.eventfd().as_raw_fd()
}

/// Asks for a wake-up. Returns 1: sleep on tas_context_fd(), then call tas_context_finish_wait(); or 0:
/// there is something to poll.
#[no_mangle]
pub unsafe extern "C" fn tas_context_prepare_wait(context: *const tas_context) -> c_int {
    checked!(context);
    c_int::from(context.0.prepare_wait())
}

/// Ends a sleep begun by tas_context_prepare_wait().
#[no_mangle]
pub unsafe extern "C" fn tas_context_finish_wait(context: *const tas_context) -> c_int {
    checked!(context);
    context.0.finish_wait();
    0
}

/// Listens at an IPv4 address (host byte order, 0 for any) and port (0 for a free one). Events name it
/// by `token`. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_listen(
    context: *const tas_context,
    address: u32,
    port: u16,
    backlog: u32,
    token: u64,
    socket: *mut *mut tas_socket,
) -> c_int {
    checked!(context);
    if socket.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: checked above.
    unsafe { give(listen_at(context, &Endpoint::ipv4(address, port), backlog, token), socket) }
}

/// As tas_listen() at an IPv6 address: 16 bytes in network order, all zero for any, which takes IPv4
/// connections too (their addresses are of the form ::ffff:a.b.c.d).
#[no_mangle]
pub unsafe extern "C" fn tas_listen6(
    context: *const tas_context,
    address: *const u8,
    port: u16,
    backlog: u32,
    token: u64,
    socket: *mut *mut tas_socket,
) -> c_int {
    checked!(context);
    if socket.is_null() || address.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: checked above, and the caller's promise of 16 bytes.
    unsafe {
        let local = endpoint6(address, port);
        give(listen_at(context, &local, backlog, token), socket)
    }
}

fn listen_at(context: &tas_context, local: &Endpoint, backlog: u32, token: u64) -> io::Result<tas_socket> {
    let listener = Socket::of_family(&context.0, local.family, token, libc::O_CLOEXEC)?;
    // As every server does: the port may have connections in TIME-WAIT.
    listener.set_option(abi::message::option::REUSE_ADDRESS, 1, 0)?;
    listener.bind(local)?;
    listener.listen(backlog)?;
    Ok(tas_socket { socket: listener, connection: OnceLock::new() })
}

/// An IPv6 endpoint of 16 bytes in network order.
///
/// # Safety
/// 16 bytes are readable.
unsafe fn endpoint6(address: *const u8, port: u16) -> Endpoint {
    // SAFETY: the caller's promise; the bytes need not be aligned.
    let bytes = unsafe { std::ptr::read_unaligned(address.cast::<[u8; 16]>()) };
    let words =
        std::array::from_fn(|word| u32::from_be_bytes(std::array::from_fn(|index| bytes[word * 4 + index])));
    Endpoint::ipv6(words, port, 0)
}

/// Takes a connection. Its events go to `context` and name it by `token`. Returns 0, -EAGAIN if there
/// is none, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_accept(
    listener: *const tas_socket,
    context: *const tas_context,
    token: u64,
    socket: *mut *mut tas_socket,
) -> c_int {
    checked!(listener, context);
    if socket.is_null() {
        return -libc::EINVAL;
    }
    let accepted = listener.socket.accept(&context.0, token, libc::O_CLOEXEC);
    let accepted = accepted.map(|(socket, connection)| tas_socket { socket, connection: connection.into() });
    // SAFETY: checked above.
    unsafe { give(accepted, socket) }
}

/// Begins to connect to an IPv4 address (host byte order) and port. TAS_CONNECTED or TAS_FAILED
/// follows. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_connect(
    context: *const tas_context,
    address: u32,
    port: u16,
    token: u64,
    socket: *mut *mut tas_socket,
) -> c_int {
    checked!(context);
    if socket.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: checked above.
    unsafe { give(connect_to(context, &Endpoint::ipv4(address, port), token), socket) }
}

/// As tas_connect() to an IPv6 address: 16 bytes in network order.
#[no_mangle]
pub unsafe extern "C" fn tas_connect6(
    context: *const tas_context,
    address: *const u8,
    port: u16,
    token: u64,
    socket: *mut *mut tas_socket,
) -> c_int {
    checked!(context);
    if socket.is_null() || address.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: checked above, and the caller's promise of 16 bytes.
    unsafe {
        let remote = endpoint6(address, port);
        give(connect_to(context, &remote, token), socket)
    }
}

fn connect_to(context: &tas_context, remote: &Endpoint, token: u64) -> io::Result<tas_socket> {
    let connecting = Socket::of_family(&context.0, remote.family, token, libc::O_CLOEXEC)?;
    connecting.connect(&context.0, remote)?;
    Ok(tas_socket { socket: connecting, connection: OnceLock::new() })
}

/// After TAS_CONNECTED: makes the connection usable. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_connected(socket: *const tas_socket) -> c_int {
    checked!(socket);
    let established = socket.socket.established();
    status(established.map(|connection| {
        let _ = socket.connection.set(connection);
    }))
}

/// Local (peer == 0) or the peer's (peer != 0) IPv4 address (0 if it is IPv6) and port, in host byte order.
/// Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_name(
    socket: *const tas_socket,
    peer: c_int,
    address: *mut u32,
    port: *mut u16,
) -> c_int {
    checked!(socket);
    if address.is_null() || port.is_null() {
        return -libc::EINVAL;
    }
    match socket.socket.names() {
        Ok(names) => {
            let name = if peer == 0 { names.local } else { names.remote };
            // SAFETY: checked above.
            unsafe { (*address, *port) = (name.as_ipv4().or(name.as_ipv4_mapped()).unwrap_or(0), name.port) };
            0
        }
        Err(error) => failed(&error),
    }
}

/// As tas_name() for either family: 16 bytes in network order, an IPv4 address as ::ffff:a.b.c.d. Returns 0
/// or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_name6(
    socket: *const tas_socket,
    peer: c_int,
    address: *mut u8,
    port: *mut u16,
) -> c_int {
    checked!(socket);
    if address.is_null() || port.is_null() {
        return -libc::EINVAL;
    }
    match socket.socket.names() {
        Ok(names) => {
            let name = if peer == 0 { names.local } else { names.remote };
            let words = match name.as_ipv4() {
                Some(address) => Endpoint::ipv4_mapped(address, 0).address,
                None => name.address,
            };
            let mut bytes = [0u8; 16];
            for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
                to.copy_from_slice(&word.to_be_bytes());
            }
            // SAFETY: checked above, and the caller's promise of 16 bytes.
            unsafe {
                std::ptr::write_unaligned(address.cast::<[u8; 16]>(), bytes);
                *port = name.port;
            }
            0
        }
        Err(error) => failed(&error),
    }
}

/// Bytes that can be read now, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_readable_bytes(socket: *const tas_socket) -> isize {
    connected!(socket).readable_bytes() as isize
}

/// 1 if the peer sent FIN: nothing comes after what is readable then. 0 if not, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_peer_finished(socket: *const tas_socket) -> c_int {
    c_int::from(connected!(socket).has_peer_finished())
}

/// Copies out up to `bytes` and consumes them. Returns how many, 0 at the end of the stream, -EAGAIN if
/// there is nothing yet, or -errno of a failed connection.
#[no_mangle]
pub unsafe extern "C" fn tas_read(socket: *const tas_socket, into: *mut c_void, bytes: usize) -> isize {
    let connection = connected!(socket);
    if into.is_null() {
        return -(libc::EINVAL as isize);
    }
    // Looked at before reading: bytes may arrive together with the end.
    let (at_end, error) = (connection.has_peer_finished(), connection.error());
    // SAFETY: `bytes` writable bytes by contract.
    let count = connection.read(unsafe { std::slice::from_raw_parts_mut(into.cast(), bytes) });
    match count {
        0 if bytes > 0 && error != 0 => -(error as isize),
        0 if bytes > 0 && !at_end => -(libc::EAGAIN as isize),
        count => count as isize,
    }
}

/// Says where the readable bytes are, in up to `count` pieces, without copying. They stay there until
/// tas_rx_done(); one thread at a time reads a socket. Returns the number of pieces, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_rx(socket: *const tas_socket, pieces: *mut tas_piece, count: c_int) -> c_int {
    let connection = connected!(socket);
    if pieces.is_null() || count < 0 {
        return -libc::EINVAL;
    }
    let readable = connection.readable();
    let (mut skip, mut used) = (0, 0);
    while used < count as usize {
        let piece = readable.piece(skip);
        if piece.is_empty() {
            break;
        }
        // SAFETY: `count` pieces by contract.
        unsafe {
            pieces.add(used).write(tas_piece { data: piece.as_ptr().cast_mut().cast(), bytes: piece.len() })
        };
        skip += piece.len();
        used += 1;
    }
    used as c_int
}

/// Gives back the first `bytes` of what tas_rx() showed. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_rx_done(socket: *const tas_socket, bytes: usize) -> c_int {
    connected!(socket).readable().consume(bytes);
    0
}

/// Bytes that can be written now, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_writable_bytes(socket: *const tas_socket) -> isize {
    connected!(socket).writable_bytes() as isize
}

/// Sends up to `bytes`, without a further call. Returns how many were taken; if fewer than asked for,
/// TAS_WRITABLE follows. -EAGAIN if none, -EPIPE after tas_finish(), or -errno of a failed connection.
#[no_mangle]
pub unsafe extern "C" fn tas_write(socket: *const tas_socket, from: *const c_void, bytes: usize) -> isize {
    let connection = connected!(socket);
    if from.is_null() {
        return -(libc::EINVAL as isize);
    }
    // SAFETY: `bytes` readable bytes by contract.
    let count = connection.write(unsafe { std::slice::from_raw_parts(from.cast(), bytes) });
    if count == 0 && bytes > 0 {
        return write_error(connection);
    }
    count as isize
}

fn write_error(connection: &Connection) -> isize {
    let errno = match connection.error() {
        0 if connection.has_finished() => libc::EPIPE,
        0 => libc::EAGAIN,
        error => error,
    };
    -(errno as isize)
}

/// Reserves memory to write up to `bytes` in place, in up to `count` pieces. The caller then calls
/// tas_tx_send(), and writes nothing else to the socket before. Returns the number of pieces, or
/// errors as tas_write().
#[no_mangle]
pub unsafe extern "C" fn tas_tx_alloc(
    socket: *const tas_socket,
    bytes: usize,
    pieces: *mut tas_piece,
    count: c_int,
) -> c_int {
    let connection = connected!(socket);
    if pieces.is_null() || count < 0 {
        return -libc::EINVAL;
    }
    let mut writable = connection.writable(bytes);
    let (mut skip, mut used) = (0, 0);
    while used < count as usize {
        let piece = writable.piece(skip);
        if piece.is_empty() {
            break;
        }
        // SAFETY: `count` pieces by contract.
        unsafe { pieces.add(used).write(tas_piece { data: piece.as_mut_ptr().cast(), bytes: piece.len() }) };
        skip += piece.len();
        used += 1;
    }
    if used == 0 && bytes > 0 && count > 0 {
        return write_error(connection) as c_int;
    }
    writable.keep();
    used as c_int
}

/// Sends the first `bytes` of what tas_tx_alloc() reserved and gives up the rest. Returns how many
/// were sent, or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_tx_send(socket: *const tas_socket, bytes: usize) -> isize {
    let connection = connected!(socket);
    let count = connection.commit(bytes);
    if count == 0 && bytes > 0 {
        return write_error(connection);
    }
    count as isize
}

/// Sends FIN after what was written. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_finish(socket: *const tas_socket) -> c_int {
    connected!(socket).finish();
    0
}

/// Delivers a connection's events to another context from now on. Returns 0 or -errno.
#[no_mangle]
pub unsafe extern "C" fn tas_move(socket: *const tas_socket, context: *const tas_context) -> c_int {
    checked!(context);
    let connection = connected!(socket);
    // SAFETY: checked by `connected!`.
    status(connection.move_to(&context.0, unsafe { &(*socket).socket }))
}

/// Closes a socket of any kind. What was written is still delivered, unless bytes were left unread:
/// then, as with Linux, the peer sees a reset.
#[no_mangle]
pub unsafe extern "C" fn tas_close(socket: *mut tas_socket) {
    if socket.is_null() {
        return;
    }
    // SAFETY: made by `give`.
    let tas_socket { socket, connection } = *unsafe { Box::from_raw(socket) };
    if let Some(connection) = connection.get() {
        let how = if connection.readable_bytes() > 0 { Close::Abort } else { Close::Finish };
        connection.close(&socket, how);
    }
}
