// SPDX-License-Identifier: GPL-2.0-only
//! Calls of control clients: status for everybody in group `tas`, changes for CAP_NET_ADMIN.

use crate::{instance::Instance, objects::Life, process, socket::reply_error};
use abi::message::{ApplicationEntry, Message, Op};
use core::sync::atomic::Ordering;
use kernel::{error::code::*, prelude::*};
use slowpath::{Caller, Outcome};

/// Carries out a control call. EPERM: not one, or CAP_NET_ADMIN is missing; ENODEV: the instance is
/// gone; ENOENT: no more entries.
pub(crate) fn call(instance: &Instance, op: Op, message: &mut Message) -> Result {
    match op {
        Op::Status | Op::FlowEntry | Op::ListenEntry | Op::ApplicationEntry | Op::SlowCounters => {}
        Op::ResetFlow if process::is_net_admin() => {}
        _ => return Err(EPERM),
    }
    if instance.dead.load(Ordering::Acquire) {
        return Err(ENODEV);
    }
    let caller = Caller {
        application: Caller::NO_APPLICATION,
        net_bind_service: false,
        net_admin: op == Op::ResetFlow,
    };
    let mut state = instance.lock();
    let now_us = state.now_us(&instance.clock);
    let outcome = state.stack.handle_request(now_us, &caller, None, message);
    instance.settle(&mut state);
    match (outcome, reply_error(message)) {
        (Outcome::Done, None) => {}
        (_, Some(error)) => return Err(error),
        _ => return Err(EPERM),
    }
    if op == Op::ApplicationEntry {
        // The stack does not know of segments.
        let mut entry: ApplicationEntry = message.get();
        if let Some(application) = state.applications.get(entry.id).filter(|a| a.life == Life::Alive) {
            entry.pool_segments = application.pool.len() as u32;
            entry.map_segments = application.maps.len() as u32;
            message.set(&entry);
        }
    }
    Ok(())
}
