// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! ABI versions and hashes, checked at attach. The three interfaces are versioned apart; the
//! application's only grows.

use crate::{
    adjacency::Adjacency,
    clock::ClockPage,
    context::ContextHeader,
    core_status::CoreStatus,
    flow::{ColdFlow, HotFlow},
    message as m,
    recovery::RecoveryBlock,
};

/// Version of the fast path's interface: the flow layout.
pub const FAST_VERSION: u32 = 2;
/// Version of the application's interface.
pub const APPLICATION_VERSION: u32 = 2;
/// Version of the control interface.
pub const CONTROL_VERSION: u32 = 2;

const fn mix(layouts: &[u64]) -> u64 {
    let mut hash = 0u64;
    let mut rest = layouts;
    while let [first, tail @ ..] = rest {
        hash = (hash.rotate_left(7) ^ *first).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}

/// Hash of what the fast path shares with the slow path.
pub const FAST_HASH: u64 = mix(&[
    HotFlow::LAYOUT,
    ColdFlow::LAYOUT,
    Adjacency::LAYOUT,
    RecoveryBlock::LAYOUT,
    ClockPage::LAYOUT,
    CoreStatus::LAYOUT,
    ContextHeader::LAYOUT,
    m::AttachFast::LAYOUT,
    m::Notice::LAYOUT,
    m::Route::LAYOUT,
    m::MapRequest::LAYOUT,
]);
/// Hash of what an application shares with the slow path and the fast path.
pub const APPLICATION_HASH: u64 = mix(&[
    ClockPage::LAYOUT,
    CoreStatus::LAYOUT,
    ContextHeader::LAYOUT,
    m::AttachApplication::LAYOUT,
    m::Context::LAYOUT,
    m::Socket::LAYOUT,
    m::FlowInfo::LAYOUT,
    m::Connect::LAYOUT,
    m::Accept::LAYOUT,
    m::Names::LAYOUT,
    m::Option_::LAYOUT,
    m::Shutdown::LAYOUT,
    m::Grow::LAYOUT,
]);
/// Hash of what a control client shares with the slow path.
pub const CONTROL_HASH: u64 = mix(&[
    m::AttachControl::LAYOUT,
    m::Status::LAYOUT,
    m::FlowEntry::LAYOUT,
    m::ApplicationEntry::LAYOUT,
    m::SlowCounters::LAYOUT,
    CoreStatus::LAYOUT,
]);
