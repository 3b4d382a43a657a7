// SPDX-License-Identifier: GPL-2.0-only
//! Who may map what.

use crate::{memory::Region, roles::Role};
use abi::region::{Region as Name, RegionKind};
use kernel::{error::code::*, prelude::*, sync::Arc};

/// The region called `name`, and whether a file of this role may write it. EACCES: not for this
/// role; ENOENT: no such region.
pub(crate) fn find(role: &Role, name: Name) -> Result<(Arc<Region>, bool)> {
    let instance = role.instance();
    let tables = &instance.tables;
    let fast = matches!(role, Role::Fast(_));
    let own = |application: u32| matches!(role, Role::Application(_, id) if *id == application);
    let segmented = matches!(name.kind, RegionKind::Maps | RegionKind::Pool);
    if !segmented && name.byte_offset != 0 {
        return Err(ENOENT);
    }
    let single = |region: &Arc<Region>| if name.index == 0 { Ok(region.clone()) } else { Err(ENOENT) };
    match name.kind {
        RegionKind::Clock => Ok((single(&tables.clock)?, false)),
        RegionKind::CoreStatus => Ok((single(&tables.status)?, fast)),
        RegionKind::Context => {
            let state = instance.lock();
            let context = state.contexts.get(name.index).ok_or(ENOENT)?;
            if fast || (own(context.application) && context.is_live()) {
                Ok((context.memory.clone(), true))
            } else {
                Err(EACCES)
            }
        }
        RegionKind::Maps | RegionKind::Pool if fast || own(name.index) => {
            let state = instance.lock();
            let application = state.applications.get(name.index).ok_or(ENOENT)?;
            Ok((application.segment_at(name.kind, name.byte_offset).ok_or(ENOENT)?, true))
        }
        _ if !fast => Err(EACCES),
        RegionKind::FlowHot => Ok((single(&tables.hot)?, true)),
        RegionKind::FlowCold => Ok((single(&tables.cold)?, false)),
        RegionKind::Adjacencies => Ok((single(&tables.adjacencies)?, false)),
        RegionKind::Recovery => Ok((single(&tables.recovery)?, true)),
        RegionKind::KernelRings => {
            Ok((tables.rings.get(name.index as usize).ok_or(ENOENT)?.clone(), true))
        }
        RegionKind::Maps | RegionKind::Pool => Err(EACCES),
    }
}
