// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the slow path wants done. A shell polls actions after every call and carries them out.

use abi::{event::KernelEvent, kernel_ring::KernelEntry};

/// One thing for the shell to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Push `entry` on the ring to fast-path core `core` and wake the core if it waits. For
    /// TRANSMIT, INJECT and SYN_DATA the first `entry.value` bytes of the frame buffer go into the entry's
    /// packet slot first.
    ToFast {
        /// Fast-path core.
        core: u32,
        /// The entry.
        entry: KernelEntry,
    },
    /// Push `event` on the kernel ring of context `context` and wake the context if it waits.
    Notify {
        /// Context id.
        context: u32,
        /// The event.
        event: KernelEvent,
    },
    /// A dead application's last flow is gone: its pool and maps may go (notice
    /// APPLICATION_REMOVED), then call `Stack::remove_application`.
    ApplicationDrained {
        /// Application id.
        application: u32,
    },
}

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The reply stands in the message.
    Done,
    /// The reply stands in the message, and socket `socket` was created: give the caller a descriptor
    /// for it, put its number into the body where the operation says, and call
    /// `Stack::release_socket` if that fails or when the last holder is gone.
    NewSocket {
        /// Socket id.
        socket: u32,
    },
    /// The operation belongs to the shell; the message was not touched.
    NotForStack,
}

/// On whose behalf a request is made; established by the shell, never by the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Application id of the open file, or `Caller::NO_APPLICATION` (control client).
    pub application: u32,
    /// May bind below port 1024 (CAP_NET_BIND_SERVICE).
    pub net_bind_service: bool,
    /// May change what belongs to others (CAP_NET_ADMIN).
    pub net_admin: bool,
}

impl Caller {
    /// No application: a control client.
    pub const NO_APPLICATION: u32 = u32::MAX;
    /// An application without capabilities.
    pub const fn application(id: u32) -> Self {
        Self { application: id, net_bind_service: false, net_admin: false }
    }
}
