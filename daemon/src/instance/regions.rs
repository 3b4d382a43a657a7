// SPDX-License-Identifier: MIT OR Apache-2.0
//! MAP: who may map what.

use super::{Client, Give, Instance, Reply, Role};
use abi::{
    message::{MapRequest, Message},
    pool::SEGMENT_BYTES,
    region::{Region, RegionKind},
};

/// A positive errno.
pub(super) type Errno = i32;

impl Instance {
    /// MAP. EINVAL: no such kind; EACCES: not for this role; ENOENT: no such region.
    pub(super) fn map(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let request: MapRequest = message.get();
        let kind = RegionKind::from_u32(request.kind).ok_or(libc::EINVAL)?;
        let region = Region { kind, index: request.index, byte_offset: request.byte_offset };
        let writable = self.may_map(client, region)?;
        let memory = self.region(region).ok_or(libc::ENOENT)?;
        let bytes = match kind {
            RegionKind::Maps | RegionKind::Pool => u64::from(SEGMENT_BYTES),
            _ => memory.len() as u64,
        };
        message.set(&MapRequest { writable: u32::from(writable), bytes, reserved: 0, ..request });
        Ok(Reply { give: vec![Give::Region { region, writable }], ..Reply::default() })
    }

    /// Whether the client may map the region, and if so, whether it may write it.
    fn may_map(&self, client: Client, region: Region) -> Result<bool, Errno> {
        let role = self.role(client);
        let fast = role == Role::FastPath;
        let owns = |application| role == Role::Application(application);
        match region.kind {
            RegionKind::Clock if role != Role::None => Ok(false),
            RegionKind::CoreStatus if role != Role::None => Ok(fast),
            RegionKind::FlowHot | RegionKind::Recovery | RegionKind::KernelRings if fast => Ok(true),
            RegionKind::FlowCold | RegionKind::Adjacencies if fast => Ok(false),
            RegionKind::Context => {
                let context = self.contexts.get(region.index).ok_or(libc::ENOENT)?;
                if fast || owns(context.application) {
                    Ok(true)
                } else {
                    Err(libc::EACCES)
                }
            }
            RegionKind::Maps | RegionKind::Pool if fast || owns(region.index) => Ok(true),
            _ => Err(libc::EACCES),
        }
    }
}
