// SPDX-License-Identifier: GPL-2.0-only
//! `tas.ko`: the slow path's kernel shell. `/dev/tas`, memory and its mappings, one worker thread per
//! instance, sockets as files, wake-ups, capability checks. All of TCP is in the crate `slowpath`.
//!
//! `device` (open files, calls) → `roles` (what a file becomes) → `instance` (a lock around `state`,
//! and what is reached without it) → `applications`, `notices`, `actions`, `worker`; `socket`, `sockfs` (a socket
//! is a file); `memory`, `mapping`, `regions` (who may map what).

mod actions;
mod applications;
mod call;
mod clock;
mod control;
mod cores;
mod device;
mod errors;
mod eventfd;
mod instance;
mod mapping;
mod memory;
mod notices;
mod objects;
mod process;
mod regions;
mod registry;
mod roles;
mod shim;
mod socket;
mod sockfs;
mod state;
mod table;
mod tables;
mod wait;
mod wakers;
mod worker;

use kernel::{prelude::*, sync::Arc};

module! {
    type: Tas,
    name: "tas",
    authors: ["The TAS authors"],
    description: "TCP as an operating-system service: the slow path",
    license: "GPL v2",
}

/// The loaded module.
#[pin_data]
struct Tas {
    #[pin]
    _device: device::Device,
    /// After the device: nobody can open it any more. It is empty by then, as every instance has an
    /// open file, which pins the module.
    _registry: Arc<registry::Registry>,
}

impl kernel::InPlaceModule for Tas {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let registry = registry::Registry::new()?;
            Ok(try_pin_init!(Self {
                _device <- device::Device::register(),
                _registry: registry,
            }))
        })
    }
}
