// SPDX-License-Identifier: GPL-2.0-only
//! A socket is a file of this module: dup, fork, exec, SCM_RIGHTS, poll and close at process death are
//! the kernel's own. Its release, when the last descriptor is gone, is the protocol's close.

use crate::{
    call::{self, NewDescriptor},
    instance::Instance,
    objects::Life,
    process,
    registry::Registry,
    state::State,
    wait::WaitQueue,
};
use abi::message::{Accept, FlowInfo, Message, Name, Op, Socket};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::{
    bindings, error::code::*, ffi, fs::{file::FileDescriptorReservation, File}, prelude::*,
    sync::{Arc, ArcBorrow}, types::ForeignOwnable,
};
use slowpath::{Caller, Outcome, Readiness};

/// What an application's sockets know of it. They may outlive it, in other processes.
#[pin_data]
pub(crate) struct Owner {
    dead: AtomicBool,
    #[pin]
    pollers: WaitQueue,
}

impl Owner {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(pin_init!(Self { dead: AtomicBool::new(false), pollers <- WaitQueue::new() }), GFP_KERNEL)
    }

    /// The application is gone, and with it what its sockets stood for.
    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::Release);
        self.pollers.wake(bindings::POLLERR | bindings::POLLHUP);
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

/// An open socket.
#[pin_data]
pub(crate) struct SocketFile {
    /// Socket id; not used any more once the owner is dead.
    id: u32,
    application: u32,
    owner: Arc<Owner>,
    instance: Arc<Instance>,
    #[pin]
    pollers: WaitQueue,
}

impl SocketFile {
    /// Has the stack carry out `message` (SOCKET, or ACCEPT on `listener`), which makes a new socket,
    /// and makes a file for it. EMFILE, ENFILE: no descriptor; ENOMEM; or what the stack says.
    pub(crate) fn create(
        instance: &Arc<Instance>,
        application: u32,
        caller: &Caller,
        listener: Option<u32>,
        file_flags: u32,
        message: &mut Message,
    ) -> Result<Option<NewDescriptor>> {
        if file_flags & !(bindings::O_CLOEXEC | bindings::O_NONBLOCK) != 0 {
            return Err(EINVAL);
        }
        let mut state = instance.lock();
        let owner = state.applications.get(application).filter(|a| a.life == Life::Alive).ok_or(ENOTCONN)?.owner.clone();
        let now_us = state.now_us(&instance.clock);
        let outcome = state.stack.handle_request(now_us, caller, listener, message);
        let id = match outcome {
            Outcome::NewSocket { socket } if message.error == 0 => socket,
            _ => {
                instance.settle(&mut state);
                return Err(reply_error(message).unwrap_or(EINVAL));
            }
        };
        let made = Self::open(&mut state, instance, owner, application, id, file_flags);
        if made.is_err() {
            state.stack.release_socket(now_us, id);
        }
        instance.settle(&mut state);
        let made = made?;
        set_descriptor(message, made.reservation.reserved_fd());
        Ok(Some(made))
    }

    /// The file of socket `id`, entered in the table.
    fn open(
        state: &mut State,
        instance: &Arc<Instance>,
        owner: Arc<Owner>,
        application: u32,
        id: u32,
        file_flags: u32,
    ) -> Result<NewDescriptor> {
        let file = Arc::pin_init(
            pin_init!(Self { id, application, owner, instance: instance.clone(), pollers <- WaitQueue::new() }),
            GFP_KERNEL,
        )?;
        if id >= state.sockets.limit() {
            return Err(EMFILE);
        }
        let descriptor = new_descriptor(file.clone(), file_flags)?;
        // Nothing may fail from here on: the file's release is the socket's. An entry of a dead owner
        // may still be in the table; it goes.
        drop(state.sockets.set(id, file));
        Ok(descriptor)
    }

    /// Something happened to the socket: pollers look again.
    pub(crate) fn wake(&self) {
        self.pollers.wake(bindings::POLLIN | bindings::POLLOUT | bindings::POLLRDNORM | bindings::POLLWRNORM);
    }

    fn call(&self, op: Op, message: &mut Message) -> Result<Option<NewDescriptor>> {
        let caller = Caller {
            application: self.application,
            net_bind_service: op == Op::Bind && needs_bind_service(message) && process::may_bind_low_ports(),
            net_admin: false,
        };
        message.object = self.id;
        match op {
            Op::Accept => {
                let request: Accept = message.get();
                Self::create(&self.instance, self.application, &caller, Some(self.id), request.file_flags, message)
            }
            Op::Bind | Op::Listen | Op::Connect | Op::Shutdown | Op::FlowInfo | Op::SetOption | Op::GetOption
            | Op::Names | Op::Move | Op::SynData => {
                let mut state = self.instance.lock();
                if self.owner.is_dead() {
                    return Err(ENOTCONN);
                }
                let now_us = state.now_us(&self.instance.clock);
                let outcome = state.stack.handle_request(now_us, &caller, Some(self.id), message);
                self.instance.settle(&mut state);
                match (outcome, reply_error(message)) {
                    (Outcome::Done, None) => Ok(None),
                    (_, Some(error)) => Err(error),
                    _ => Err(EINVAL),
                }
            }
            _ => Err(EPERM),
        }
    }

    fn events(&self) -> u32 {
        let state = self.instance.lock();
        if self.owner.is_dead() {
            return bindings::POLLIN | bindings::POLLOUT | bindings::POLLERR | bindings::POLLHUP;
        }
        poll_events(state.stack.readiness(self.id))
    }

    fn release(this: &Arc<Self>) {
        let mut state = this.instance.lock();
        if matches!(state.sockets.get(this.id), Some(entry) if Arc::ptr_eq(entry, this)) {
            state.sockets.remove(this.id);
        }
        if !this.owner.is_dead() {
            let now_us = state.now_us(&this.instance.clock);
            state.stack.release_socket(now_us, this.id);
            this.instance.settle(&mut state);
        }
    }
}

fn poll_events(ready: Readiness) -> u32 {
    let events = [
        (ready.readable, bindings::POLLIN | bindings::POLLRDNORM),
        (ready.writable, bindings::POLLOUT | bindings::POLLWRNORM),
        (ready.error, bindings::POLLERR),
        (ready.read_hang_up, bindings::POLLRDHUP),
        (ready.hang_up, bindings::POLLHUP),
    ];
    events.into_iter().filter(|(is_so, _)| *is_so).fold(0, |all, (_, event)| all | event)
}

/// The errno that the stack left in a message.
pub(crate) fn reply_error(message: &Message) -> Option<Error> {
    match message.error {
        0 => None,
        errno => Some(i32::try_from(errno).map_or(EINVAL, |errno| Error::from_errno(-errno))),
    }
}

fn needs_bind_service(message: &Message) -> bool {
    matches!(message.get::<Name>().endpoint.port, 1..=1023)
}

/// Puts the new descriptor's number where the operation says.
fn set_descriptor(message: &mut Message, descriptor: u32) {
    if message.op == Op::Socket as u32 {
        let body: Socket = message.get();
        message.set(&Socket { descriptor, ..body });
    } else {
        let body: FlowInfo = message.get();
        message.set(&FlowInfo { descriptor, ..body });
    }
}

/// A file for `socket` and a descriptor for it, not yet installed.
fn new_descriptor(socket: Arc<SocketFile>, file_flags: u32) -> Result<NewDescriptor> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(file_flags & bindings::O_CLOEXEC)?;
    let flags = bindings::O_RDWR | (file_flags & bindings::O_NONBLOCK);
    let (mount, id) = (&Registry::get()?.sockets, socket.id);
    let private = socket.into_foreign();
    // SAFETY: the operations are 'static and expect this; on success the file owns it.
    match unsafe { mount.open(id, &raw const OPERATIONS.0, private.cast(), flags) } {
        Ok(file) => Ok(NewDescriptor { reservation, file }),
        Err(error) => {
            // SAFETY: not taken over.
            drop(unsafe { <Arc<SocketFile> as ForeignOwnable>::from_foreign(private) });
            Err(error)
        }
    }
}

#[repr(transparent)]
struct Operations(bindings::file_operations);
// SAFETY: immutable.
unsafe impl Sync for Operations {}

static OPERATIONS: Operations = Operations(bindings::file_operations {
    // Every open socket pins the module.
    owner: kernel::module::this_module::<crate::Tas>().as_ptr(),
    poll: Some(poll),
    unlocked_ioctl: Some(ioctl),
    compat_ioctl: bindings::compat_ptr_ioctl,
    release: Some(release),
    ..pin_init::zeroed()
});

/// # Safety
/// `file` is one of ours and open.
unsafe fn socket<'a>(file: *mut bindings::file) -> ArcBorrow<'a, SocketFile> {
    // SAFETY: set in `open`, and it lives until the file's release.
    unsafe { <Arc<SocketFile> as ForeignOwnable>::borrow((*file).private_data) }
}

unsafe extern "C" fn poll(file: *mut bindings::file, table: *mut bindings::poll_table_struct) -> bindings::__poll_t {
    // SAFETY: called for an open file of ours; both queues live as long as the socket.
    unsafe {
        let socket = socket(file);
        let file = File::from_raw_file(file);
        socket.pollers.register(file, table);
        socket.owner.pollers.register(file, table);
        socket.events()
    }
}

unsafe extern "C" fn ioctl(file: *mut bindings::file, number: ffi::c_uint, argument: ffi::c_ulong) -> ffi::c_long {
    // SAFETY: called for an open file of ours.
    let socket = unsafe { socket(file) };
    match call::carry_out(number, argument, |op, message| socket.call(op, message)) {
        Ok(value) => value,
        Err(error) => error.to_errno() as ffi::c_long,
    }
}

unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> ffi::c_int {
    // SAFETY: the last call for this file; it gives the private data back.
    let socket = unsafe { <Arc<SocketFile> as ForeignOwnable>::from_foreign((*file).private_data) };
    SocketFile::release(&socket);
    0
}
