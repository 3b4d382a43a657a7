// SPDX-License-Identifier: MIT OR Apache-2.0
//! Applications: their pools and maps, and what is left to do when one dies.

use super::{regions::Errno, Client, Give, Instance, Reply, Role};
use crate::memory::{Memory, MemoryKind, Writers};
use abi::{
    message::{notice, AttachApplication, Grow, Message},
    pool::{SEGMENT_BYTES, SEGMENT_RECORDS},
    region::RegionKind,
    version::{APPLICATION_HASH, APPLICATION_VERSION},
};
use std::{io, sync::Arc};

/// Segments of 2 MiB, all of one kind.
type Segments = Vec<Arc<Memory>>;

/// An application, alive or dying.
pub(super) struct Application {
    /// Contexts that exist, those being removed included.
    pub(super) contexts: u32,
    pub(super) pool: Segments,
    pub(super) maps: Segments,
    /// Buffer map records that the fast path has mapped.
    records: u32,
    pub(super) life: Life,
}

/// How far the end of an application has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Its process is there.
    Alive,
    /// Its process is gone; some of its flows still send what it had written.
    Dying,
    /// No flow is left; the fast path is to unmap its pool and maps.
    Drained,
    /// Nobody has its memory mapped.
    Unmapped,
}

impl Application {
    fn segments(&self, kind: RegionKind) -> &Segments {
        if kind == RegionKind::Maps {
            &self.maps
        } else {
            &self.pool
        }
    }

    /// Segments of pool and maps.
    pub(super) fn segment_counts(&self) -> (u32, u32) {
        (self.pool.len() as u32, self.maps.len() as u32)
    }

    /// The segment at a byte offset.
    pub(super) fn segment(&self, kind: RegionKind, byte_offset: u32) -> Option<Arc<Memory>> {
        if byte_offset % SEGMENT_BYTES != 0 {
            return None;
        }
        self.segments(kind).get((byte_offset / SEGMENT_BYTES) as usize).cloned()
    }
}

fn new_segment(memory: MemoryKind, name: &str) -> io::Result<Arc<Memory>> {
    Memory::new(memory, name, SEGMENT_BYTES as usize, Writers::Shared, true).map(Arc::new)
}

impl Instance {
    /// ATTACH_APPLICATION. ENODEV: another instance's name, or no fast path has been set up yet;
    /// EPROTO: ABI differs; EMFILE: all application slots are taken; ENOMEM.
    pub(super) fn attach_application(
        &mut self,
        client: Client,
        message: &mut Message,
    ) -> Result<Reply, Errno> {
        let request: AttachApplication = message.get();
        if request.abi_hash != APPLICATION_HASH || request.version != APPLICATION_VERSION {
            let ours =
                AttachApplication { abi_hash: APPLICATION_HASH, version: APPLICATION_VERSION, ..request };
            message.set(&ours);
            return Err(libc::EPROTO);
        }
        self.check_name(&request.instance)?;
        let config = self.plane.as_ref().filter(|_| self.was_ready).ok_or(libc::ENODEV)?.config;
        let id = self.new_application(client, request.command)?;
        let counts = self.applications.get(id).map(Application::segment_counts);
        let (pool_segments, map_segments) = counts.ok_or(libc::ENOMEM)?;
        message.set(&AttachApplication {
            abi_hash: APPLICATION_HASH,
            version: APPLICATION_VERSION,
            application: id,
            instance: self.settings.name,
            cores: config.cores,
            flows: config.flows,
            ipv4: config.ipv4,
            prefix: config.prefix,
            ipv6: config.ipv6,
            ipv6_prefix: config.ipv6_prefix,
            ipv6_link_local: config.ipv6_link_local,
            mtu_bytes: config.mtu_bytes,
            pool_segments,
            map_segments,
            tx_buffer_bytes: config.tx_buffer_bytes,
            rx_buffer_bytes: config.rx_buffer_bytes,
            poll_interval_us: self.settings.poll_interval_us,
            command: request.command,
            ..AttachApplication::default()
        });
        let after_notice = self.announce_segments(id);
        let give = (0..config.cores).map(Give::CoreWake).collect();
        Ok(Reply { give, after_notice, take: None })
    }

    fn new_application(&mut self, client: Client, command: [u8; 16]) -> Result<u32, Errno> {
        let credentials = self.clients.get(&client.0).ok_or(libc::EBADF)?.credentials;
        let kind = self.settings.memory;
        let pool = (0..self.settings.pool_segments.max(1)).map(|_| new_segment(kind, "tas-pool"));
        let pool = pool.collect::<io::Result<Segments>>().map_err(|_| libc::ENOMEM)?;
        let maps = vec![new_segment(kind, "tas-maps").map_err(|_| libc::ENOMEM)?];
        let application = Application { contexts: 0, pool, maps, records: 0, life: Life::Alive };
        let id = self.applications.insert(application).map_err(|_| libc::EMFILE)?;
        let plane = self.plane.as_mut().ok_or(libc::ENODEV)?;
        if let Err(error) = plane.stack.add_application(id, credentials.uid, credentials.pid, command) {
            self.applications.remove(id);
            return Err(error.0 as Errno);
        }
        self.set_role(client, Role::Application(id));
        Ok(id)
    }

    /// Has the fast path map all segments of an application; the last notice.
    pub(super) fn announce_segments(&mut self, id: u32) -> Option<u32> {
        let application = self.applications.get(id)?;
        let (pool, maps) = application.segment_counts();
        for index in 0..pool {
            self.tell_fast(notice::POOL_SEGMENT, id, index);
        }
        (0..maps).filter_map(|index| self.tell_fast(notice::MAP_SEGMENT, id, index)).last()
    }

    /// GROW. ENOBUFS: at the limit; ENOMEM.
    pub(super) fn grow(&mut self, client: Client, message: &mut Message) -> Result<Reply, Errno> {
        let id = self.application_of(client)?;
        let request: Grow = message.get();
        let (limit, notice, name) = match RegionKind::from_u32(request.kind) {
            Some(RegionKind::Pool) => (self.settings.pool_segments_max, notice::POOL_SEGMENT, "tas-pool"),
            Some(RegionKind::Maps) => (self.settings.map_segments_max, notice::MAP_SEGMENT, "tas-maps"),
            _ => return Err(libc::EINVAL),
        };
        let is_maps = notice == notice::MAP_SEGMENT;
        let application = self.applications.get_mut(id).ok_or(libc::EBADF)?;
        let segments = if is_maps { &mut application.maps } else { &mut application.pool };
        if segments.len() as u32 >= limit {
            return Err(libc::ENOBUFS);
        }
        segments.push(new_segment(self.settings.memory, name).map_err(|_| libc::ENOMEM)?);
        let count = segments.len() as u32;
        message.set(&Grow { kind: request.kind, segments: count, reserved: [0; 2] });
        let after_notice = self.tell_fast(notice, id, count - 1);
        Ok(Reply { after_notice, ..Reply::default() })
    }

    /// The fast path has mapped a segment of an application's maps: its records may be used.
    pub(super) fn maps_mapped(&mut self, id: u32, segment: u32) {
        let Some(application) = self.applications.get_mut(id).filter(|a| a.life == Life::Alive) else {
            return;
        };
        let usable = segment.saturating_add(1).saturating_mul(SEGMENT_RECORDS);
        if usable <= application.records {
            return;
        }
        application.records = usable;
        if let Some(plane) = &mut self.plane {
            // Refused only if there is no room to keep track of more: the application then has fewer.
            let _ = plane.stack.set_map_records(id, usable);
        }
    }

    /// The process of an application is gone: its contexts go, its flows end as Linux would end them.
    pub(super) fn application_died(&mut self, now_us: u64, id: u32) {
        let Some(application) = self.applications.get_mut(id) else {
            return;
        };
        application.life = Life::Dying;
        let contexts: Vec<u32> = self
            .contexts
            .iter()
            .filter(|(_, context)| context.application == id)
            .map(|(context, _)| context)
            .collect();
        // Before its contexts go: the flows keep their owner until the core has drained the rings.
        if let Some(plane) = &mut self.plane {
            plane.stack.application_died(now_us, id);
        }
        for context in contexts {
            self.remove_context(now_us, context);
        }
    }

    /// The last flow of a dead application is gone.
    pub(super) fn application_drained(&mut self, id: u32) {
        let Some(application) = self.applications.get_mut(id) else {
            return;
        };
        if application.life != Life::Dying {
            return;
        }
        application.life = Life::Drained;
        if self.tell_fast(notice::APPLICATION_REMOVED, id, 0).is_none() {
            self.application_unmapped(id);
        }
    }

    /// The fast path has unmapped a dead application's memory.
    pub(super) fn application_unmapped(&mut self, id: u32) {
        if let Some(application) = self.applications.get_mut(id) {
            application.life = Life::Unmapped;
            self.try_free_application(id);
        }
    }

    /// Frees an application of which nothing is left.
    pub(super) fn try_free_application(&mut self, id: u32) {
        let gone =
            |application: &Application| application.life == Life::Unmapped && application.contexts == 0;
        if !self.applications.get(id).is_some_and(gone) {
            return;
        }
        self.applications.remove(id);
        if let Some(plane) = &mut self.plane {
            plane.stack.remove_application(id);
        }
    }
}
