// SPDX-License-Identifier: GPL-2.0-only
//! `/dev/tas`: open files and their roles.

use crate::{
    call::{self, NewDescriptor},
    control, errors::from_stack, mapping, regions,
    roles::{self, Role},
    socket::SocketFile,
    wait::WaitQueue,
};
use abi::{
    message::{Message, Notice, Op, Route, Socket},
    region::Region as Name,
};
use core::sync::atomic::Ordering;
use kernel::{
    bindings, error::code::*, fs::File, miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    mm::virt::VmaNew, new_mutex, page::PAGE_SIZE, prelude::*, sync::{Arc, Mutex, SetOnce},
    types::{ForeignOwnable, Opaque},
};
use slowpath::Caller;

/// An open `/dev/tas`.
#[pin_data]
pub(crate) struct DeviceFile {
    /// Before `pollers`: what it holds may wake them until it is dropped.
    role: SetOnce<Role>,
    /// Held while the first call decides the role.
    #[pin]
    deciding: Mutex<()>,
    pollers: Arc<WaitQueue>,
}

type Reply = Result<Option<NewDescriptor>>;

impl DeviceFile {
    fn call(&self, op: Op, message: &mut Message) -> Reply {
        match op {
            Op::AttachFast | Op::AttachApplication | Op::AttachControl => self.attach(op, message).map(|()| None),
            _ => match self.role.as_ref().ok_or(EPERM)? {
                Role::Fast(instance) => Self::call_fast(instance, op, message).map(|()| None),
                Role::Application(instance, id) => Self::call_application(instance, *id, op, message),
                Role::Control(instance) => control::call(instance, op, message).map(|()| None),
            },
        }
    }

    /// EISCONN: the file has its role already.
    fn attach(&self, op: Op, message: &mut Message) -> Result {
        let _deciding = self.deciding.lock();
        if self.role.as_ref().is_some() {
            return Err(EISCONN);
        }
        let role = match op {
            Op::AttachFast => roles::attach_fast(message, self.pollers.clone())?,
            Op::AttachApplication => roles::attach_application(message)?,
            _ => roles::attach_control(message)?,
        };
        self.role.populate(role);
        Ok(())
    }

    fn call_fast(instance: &Arc<crate::instance::Instance>, op: Op, message: &mut Message) -> Result {
        match op {
            Op::WakeContext => instance.context_wakers.wake(message.object),
            Op::WakeSlowpath => {
                instance.call_worker();
                Ok(())
            }
            Op::Ready => {
                instance.fast_path_ready();
                Ok(())
            }
            Op::CoreEventfd => {
                let core = message.object;
                if core >= instance.lock().config.cores {
                    return Err(EINVAL);
                }
                let wake = Arc::new(crate::eventfd::EventFd::from_descriptor(message.flags)?, GFP_KERNEL)?;
                instance.core_wakers.set(core, Some(wake));
                Ok(())
            }
            Op::AddRoute => {
                let route: Route = message.get();
                let mut state = instance.lock();
                state.stack.add_route(&route).map_err(from_stack)?;
                instance.settle(&mut state);
                Ok(())
            }
            Op::NextNotice => {
                message.set(&instance.lock().next_notice().ok_or(EAGAIN)?);
                Ok(())
            }
            Op::NoticeDone => {
                let notice: Notice = message.get();
                let mut state = instance.lock();
                if !state.notice_done(&notice) {
                    return Err(ENOENT);
                }
                // An application's removal may have waited for its last context's.
                instance.announce(&state);
                instance.settle(&mut state);
                drop(state);
                instance.notices_answered();
                Ok(())
            }
            Op::Status | Op::FlowEntry | Op::ListenEntry | Op::ApplicationEntry | Op::SlowCounters => {
                control::call(instance, op, message)
            }
            _ => Err(EPERM),
        }
    }

    fn call_application(
        instance: &Arc<crate::instance::Instance>,
        id: u32,
        op: Op,
        message: &mut Message,
    ) -> Reply {
        match op {
            Op::WakeCore => instance.core_wakers.wake(message.object)?,
            Op::CreateContext => instance.create_context(id, message)?,
            Op::DestroyContext => instance.destroy_context(id, message.object)?,
            Op::Grow => instance.grow(id, message)?,
            Op::Socket => {
                let request: Socket = message.get();
                let caller = Caller::application(id);
                return SocketFile::create(instance, id, &caller, None, request.file_flags, message);
            }
            _ => return Err(EPERM),
        }
        Ok(None)
    }

    fn events(&self) -> u32 {
        match self.role.as_ref() {
            Some(Role::Fast(instance)) if instance.has_notice() => bindings::POLLIN | bindings::POLLRDNORM,
            Some(role) if role.instance().dead.load(Ordering::Acquire) => bindings::POLLERR | bindings::POLLHUP,
            _ => 0,
        }
    }
}

#[vtable]
impl MiscDevice for DeviceFile {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let pollers = Arc::pin_init(WaitQueue::new(), GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(Self { role: SetOnce::new(), deciding <- new_mutex!((), "tas::deciding"), pollers }),
            GFP_KERNEL,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, number: u32, argument: usize) -> Result<isize> {
        call::carry_out(number, argument, |op, message| me.get_ref().call(op, message))
    }

    fn mmap(me: Pin<&Self>, _file: &File, vma: &VmaNew) -> Result {
        // SAFETY: the area is being set up.
        let pgoff = unsafe { (*vma.as_ptr()).vm_pgoff } as u64;
        let name = Name::from_offset(pgoff.checked_mul(PAGE_SIZE as u64).ok_or(ENOENT)?).ok_or(ENOENT)?;
        let role = me.role.as_ref().ok_or(EPERM)?;
        let (region, writable) = regions::find(role, name)?;
        mapping::map(region, vma, writable)
    }
}

unsafe extern "C" fn poll(file: *mut bindings::file, table: *mut bindings::poll_table_struct) -> bindings::__poll_t {
    // SAFETY: the private data was set by `open` and lives until the file's release.
    unsafe {
        let me: Pin<&DeviceFile> = <Pin<KBox<DeviceFile>> as ForeignOwnable>::borrow((*file).private_data);
        me.pollers.register(File::from_raw_file(file), table);
        me.events()
    }
}

#[repr(transparent)]
struct Operations(bindings::file_operations);
// SAFETY: immutable.
unsafe impl Sync for Operations {}

/// The kernel crate's misc device has neither poll nor get_unmapped_area: take its table and add them.
static OPERATIONS: Operations = {
    let raw = MiscDeviceOptions { name: c"tas" }.into_raw::<DeviceFile>();
    // SAFETY: a 'static constant.
    let base = unsafe { core::ptr::read(raw.fops) };
    Operations(bindings::file_operations {
        poll: Some(poll),
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        ..base
    })
};

/// The registered device; unregistered when dropped.
#[pin_data(PinnedDrop)]
#[repr(transparent)]
pub(crate) struct Device {
    #[pin]
    inner: Opaque<bindings::miscdevice>,
}

// SAFETY: registered and unregistered from any thread.
unsafe impl Send for Device {}
// SAFETY: no `&self` methods.
unsafe impl Sync for Device {}

impl Device {
    /// `/dev/tas`, for root and, by the udev rule, group `tas`.
    pub(crate) fn register() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let mut device = MiscDeviceOptions { name: c"tas" }.into_raw::<DeviceFile>();
                device.fops = &raw const OPERATIONS.0;
                device.mode = 0o660;
                // SAFETY: the slot is valid for writes and stays pinned until it is unregistered.
                unsafe {
                    slot.write(device);
                    kernel::error::to_result(bindings::misc_register(slot))
                }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Device {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: registered by `register`.
        unsafe { bindings::misc_deregister(self.inner.get()) }
    }
}
