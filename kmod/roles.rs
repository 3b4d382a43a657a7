// SPDX-License-Identifier: GPL-2.0-only
//! ATTACH_*: what an open file becomes with its first call, for good.

use crate::{
    errors::from_stack,
    instance::Instance,
    process,
    registry::{self, Registry},
    state::FastPath,
    wait::WaitQueue,
};
use abi::{
    message::{AttachApplication, AttachControl, AttachFast, Message},
    region::KernelRingLayout,
    version as v,
};
use core::sync::atomic::Ordering;
use kernel::{bindings, error::code::*, prelude::*, sync::Arc};
use slowpath::Config;

/// The name that an empty one stands for.
const DEFAULT_NAME: [u8; 16] = *b"tas0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What an open file is.
pub(crate) enum Role {
    /// The fast path of an instance.
    Fast(Arc<Instance>),
    /// Application with this id.
    Application(Arc<Instance>, u32),
    /// A control client.
    Control(Arc<Instance>),
}

impl Role {
    /// The instance attached to.
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        match self {
            Self::Fast(instance) | Self::Application(instance, _) | Self::Control(instance) => instance,
        }
    }
}

impl Drop for Role {
    /// The file is closed, by its process or by its death.
    fn drop(&mut self) {
        match self {
            Self::Fast(instance) => instance.fast_path_detached(),
            Self::Application(instance, id) => instance.application_died(*id),
            Self::Control(_) => return,
        }
        if let Ok(registry) = Registry::get() {
            registry.leave(self.instance());
        }
    }
}

/// Letters, digits, `-` and `_`, zero-padded; empty is the default. EINVAL.
fn checked_name(name: [u8; 16]) -> Result<[u8; 16]> {
    if name == [0; 16] {
        return Ok(DEFAULT_NAME);
    }
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (text, padding) = name.split_at(length);
    let is_text = text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_text && padding.iter().all(|byte| *byte == 0) { Ok(name) } else { Err(EINVAL) }
}

/// For messages to the operator.
fn printable(name: &[u8; 16]) -> &str {
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.get(..length).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("?")
}

/// ATTACH_CONTROL. EPROTO: ABI differs; ENODEV: no such instance.
pub(crate) fn attach_control(message: &mut Message) -> Result<Role> {
    let request: AttachControl = message.get();
    if request.abi_hash != v::CONTROL_HASH || request.version != v::CONTROL_VERSION {
        message.set(&AttachControl { abi_hash: v::CONTROL_HASH, version: v::CONTROL_VERSION, ..request });
        return Err(EPROTO);
    }
    let name = checked_name(request.instance)?;
    let instance = registry::find(&Registry::get()?.lock(), &name)?;
    message.set(&AttachControl {
        abi_hash: v::CONTROL_HASH,
        version: v::CONTROL_VERSION,
        cores: instance.lock().config.cores,
        instance: name,
        reserved: [0; 4],
    });
    Ok(Role::Control(instance))
}

/// ATTACH_APPLICATION. Errors as [`attach_control`] and [`Instance::attach_application`].
pub(crate) fn attach_application(message: &mut Message) -> Result<Role> {
    let request: AttachApplication = message.get();
    if request.abi_hash != v::APPLICATION_HASH || request.version != v::APPLICATION_VERSION {
        let (abi_hash, version) = (v::APPLICATION_HASH, v::APPLICATION_VERSION);
        message.set(&AttachApplication { abi_hash, version, ..request });
        return Err(EPROTO);
    }
    let name = checked_name(request.instance)?;
    let registry = Registry::get()?;
    let instance = {
        let instances = registry.lock();
        let instance = registry::find(&instances, &name)?;
        instance.users.fetch_add(1, Ordering::Relaxed);
        instance
    };
    match instance.attach_application(message) {
        Ok(id) => Ok(Role::Application(instance, id)),
        Err(error) => {
            registry.leave(&instance);
            Err(error)
        }
    }
}

/// ATTACH_FAST. `pollers` are those of the file. EPERM: no CAP_NET_ADMIN; EPROTO: ABI differs; EBUSY:
/// the instance has a fast path; EADDRINUSE: another instance serves the address; EINVAL: a value is
/// out of its limits, or not that of the flows to be picked up; ENOSPC, ENOMEM.
pub(crate) fn attach_fast(message: &mut Message, pollers: Arc<WaitQueue>) -> Result<Role> {
    if !process::is_net_admin() {
        return Err(EPERM);
    }
    let request: AttachFast = message.get();
    if request.abi_hash != v::FAST_HASH || request.version != v::FAST_VERSION {
        message.set(&AttachFast { abi_hash: v::FAST_HASH, version: v::FAST_VERSION, ..request });
        return Err(EPROTO);
    }
    let name = checked_name(request.instance)?;
    let request = AttachFast { instance: name, ..request };
    // SAFETY: FFI without preconditions.
    let random = || unsafe { bindings::get_random_u64() };
    let config = Config::from_attach(&request, [random(), random(), random(), random()]).map_err(from_stack)?;

    let mut instances = Registry::get()?.lock();
    if let Ok(instance) = registry::find(&instances, &name) {
        instance.resume_fast_path(&config, pollers)?;
        instance.users.fetch_add(1, Ordering::Relaxed);
        reply_fast(message, &request, &instance, true);
        return Ok(Role::Fast(instance));
    }
    let same_v6 = |other: &[u32; 4]| *other != [0; 4] && *other == config.ipv6;
    if instances.iter().any(|other| other.ipv4 == config.ipv4 || same_v6(&other.ipv6)) {
        return Err(EADDRINUSE);
    }
    let instance = Instance::new(&config, [random(), random()])?;
    if let Err(error) = registry::add(&mut instances, instance.clone()) {
        instance.shut_down();
        return Err(error);
    }
    if let Err(error) = instance.fast_path_attached(pollers) {
        instances.pop();
        instance.shut_down();
        return Err(error);
    }
    instance.users.fetch_add(1, Ordering::Relaxed);
    reply_fast(message, &request, &instance, false);
    Ok(Role::Fast(instance))
}

fn reply_fast(message: &mut Message, request: &AttachFast, instance: &Instance, resumed: bool) {
    let state = instance.lock();
    let config = &state.config;
    message.set(&AttachFast {
        cores: config.cores,
        flows: config.flows,
        mtu_bytes: config.mtu_bytes,
        ipv6_link_local: config.ipv6_link_local,
        epoch: state.epoch,
        resumed: u32::from(resumed),
        hash_key: instance.hash_key,
        reserved: [0; 3],
        ..*request
    });
}

/// What must be equal for the flows in the tables to be picked up.
fn same_layout(old: &Config, new: &Config) -> bool {
    let v6 = |c: &Config| (c.ipv6, c.ipv6_prefix, c.ipv6_link_local);
    let rings = |c: &Config| KernelRingLayout::of(c.mtu_bytes);
    let of = |c: &Config| (c.cores, c.flows, c.ipv4, c.prefix, v6(c), c.rx_buffer_bytes, c.tx_buffer_bytes, rings(c));
    of(old) == of(new)
}

impl Instance {
    fn resume_fast_path(&self, config: &Config, pollers: Arc<WaitQueue>) -> Result {
        let mut state = self.lock();
        if state.fast.is_some() {
            return Err(EBUSY);
        }
        if !same_layout(&state.config, config) {
            let old = &state.config;
            let [a, b, c, d] = old.ipv4.to_be_bytes();
            pr_err!(
                "{}: refused a fast path with other cores, flows, address, buffers or MTU (up to 1500, or more) than the connections it is to \
                 pick up: they have {} cores, {} flows, address {}.{}.{}.{}/{}. Start it as before, or end their applications first\n",
                printable(&self.name), old.cores, old.flows, a, b, c, d, old.prefix
            );
            return Err(EINVAL);
        }
        for rings in state.cores.iter_mut() {
            rings.empty()?;
        }
        state.config = Config { secret: state.config.secret, ..*config };
        drop(state);
        self.fast_path_attached(pollers)
    }

    /// Its routes and its READY come later; until then its cores stand still, and what is put into
    /// their rings waits.
    fn fast_path_attached(&self, pollers: Arc<WaitQueue>) -> Result {
        let mut state = self.lock();
        let now_us = state.now_us(&self.clock);
        let config = state.config;
        state.stack.fast_path_attached(now_us, &config, process::id()).map_err(from_stack)?;
        state.epoch = state.epoch.wrapping_add(1);
        state.fast = Some(FastPath { pollers });
        self.publish_epoch(state.epoch, true);
        self.announce(&state);
        self.settle(&mut state);
        Ok(())
    }

    /// READY: applications may attach.
    pub(crate) fn fast_path_ready(&self) {
        let mut state = self.lock();
        state.ready = true;
        self.settle(&mut state);
        drop(state);
        self.call_worker();
    }

    /// The fast path's file is closed: its flows freeze until another one comes.
    fn fast_path_detached(&self) {
        let mut state = self.lock();
        let now_us = state.now_us(&self.clock);
        state.fast = None;
        self.publish_epoch(state.epoch, false);
        state.forget_notices();
        state.stack.fast_path_detached(now_us);
        self.settle(&mut state);
        drop(state);
        self.core_wakers.clear();
        self.notices_answered();
    }
}
