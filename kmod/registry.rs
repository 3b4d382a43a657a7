// SPDX-License-Identifier: GPL-2.0-only
//! The instances there are, by name.

use crate::{instance::Instance, sockfs::SocketMount};
use core::{ptr, sync::atomic::{AtomicPtr, Ordering}};
use kernel::{error::code::*, new_mutex, prelude::*, sync::{Arc, Mutex, MutexGuard}};

/// Instances at a time: one per NIC; a bound on what a privileged process can pin.
const INSTANCES_MAX: usize = 64;

/// List of instances.
pub(crate) type Instances = KVec<Arc<Instance>>;

/// The list and its lock.
#[pin_data]
pub(crate) struct Registry {
    #[pin]
    instances: Mutex<Instances>,
    /// Where sockets' files live.
    pub(crate) sockets: SocketMount,
}

/// The module owns the registry; statics are never dropped, so this is a plain pointer. Whoever
/// uses it runs on behalf of an open file, which pins the module.
static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(ptr::null_mut());

impl Registry {
    /// Made by the module's init, before the device exists.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let registry = Arc::pin_init(
            try_pin_init!(Self {
                instances <- new_mutex!(KVec::new(), "tas::registry"),
                sockets: SocketMount::new()?,
            }),
            GFP_KERNEL,
        )?;
        REGISTRY.store(Arc::as_ptr(&registry).cast_mut(), Ordering::Release);
        Ok(registry)
    }

    /// The module's registry.
    pub(crate) fn get() -> Result<&'static Self> {
        // SAFETY: null, or valid as long as the module is there.
        unsafe { REGISTRY.load(Ordering::Acquire).as_ref() }.ok_or(ENODEV)
    }

    /// The lock under which instances come and go.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Instances> {
        self.instances.lock()
    }

    /// A user of `instance` is gone; with the last one the instance goes.
    pub(crate) fn leave(&self, instance: &Arc<Instance>) {
        let removed = {
            let mut instances = self.lock();
            if instance.users.fetch_sub(1, Ordering::Relaxed) > 1 {
                return;
            }
            let index = instances.iter().position(|other| Arc::ptr_eq(other, instance));
            index.and_then(|index| instances.remove(index).ok())
        };
        instance.shut_down();
        drop(removed);
    }
}

/// The instance called `name`. ENODEV: there is none.
pub(crate) fn find(instances: &Instances, name: &[u8; 16]) -> Result<Arc<Instance>> {
    instances.iter().find(|instance| instance.name == *name).cloned().ok_or(ENODEV)
}

/// Adds an instance. ENOSPC: too many.
pub(crate) fn add(instances: &mut Instances, instance: Arc<Instance>) -> Result {
    if instances.len() >= INSTANCES_MAX {
        return Err(ENOSPC);
    }
    Ok(instances.push(instance, GFP_KERNEL)?)
}
