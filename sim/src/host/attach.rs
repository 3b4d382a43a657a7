// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path attaches, carries out notices, dies, and attaches again.

use super::{
    regions::{bytes_forever, context_memory, forever, gone, map_tables, Regions},
    request, Host, FAST_PATH,
};
use abi::{
    message::{notice, AttachFast, Message, Notice, Op},
    pool::SEGMENT_BYTES,
    region::{Region, RegionKind},
};
use daemon::Memory;
use fastpath::{Adopted, Command, Config, ContextMemory, Core, Port, Shared, Steer};
use ring::SharedBytes;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        atomic::{AtomicU32, Ordering::Relaxed},
        Arc,
    },
};

/// What one notice asks for, with its memory.
enum Change {
    /// With what each core has of it.
    Context(u16, u16, Vec<ContextMemory<'static>>),
    ContextRemoved(u16),
    PoolSegment(u16, u32, SharedBytes<'static>),
    MapSegment(u16, u32, &'static [AtomicU32]),
    ApplicationRemoved(u16),
}

impl Change {
    /// The command for a core.
    fn command(&self, core: usize) -> Command<'static> {
        match self {
            Self::Context(context, application, memories) => {
                Command::AddContext { context: *context, application: *application, memory: memories[core] }
            }
            Self::ContextRemoved(context) => Command::RemoveContext { context: *context },
            Self::PoolSegment(application, segment, bytes) => {
                Command::AddPoolSegment { application: *application, segment: *segment, bytes: *bytes }
            }
            Self::MapSegment(application, segment, words) => {
                Command::AddMapSegment { application: *application, segment: *segment, words }
            }
            Self::ApplicationRemoved(application) => Command::RemoveApplication { application: *application },
        }
    }
}

impl<P: Port, S: Steer<P::Packet>> Host<P, S> {
    /// Attaches a fast path with a core over each of `lanes`, as the real program does it: first notices, lists,
    /// cores, commands, answers.
    pub(super) fn attach(&mut self, lanes: Vec<(P, S)>) -> io::Result<()> {
        let now = self.now_us.load(Relaxed);
        let mut attach = Message::with(Op::AttachFast, 0, &self.body);
        self.control(&mut attach)?;
        let mtu_bytes = attach.get::<AttachFast>().mtu_bytes;
        let mut regions = Regions { instance: &self.instance, held: &mut self.held };
        let (tables, memories) = map_tables(&mut regions, self.config.flows, self.config.cores, mtu_bytes)?;
        self.status = memories.iter().map(|memory| memory.status).collect();
        let mut taken = Vec::new();
        let mut changes = Vec::new();
        let mut adopted: BTreeMap<u16, Adopted<'static>> = BTreeMap::new();
        while let Some(asked) = self.next_notice()? {
            // An application that is ending: its memory may be gone, and its removal follows.
            if let Ok(change) = self.change(&asked) {
                adopt(&change, &mut adopted);
                changes.push(change);
            }
            taken.push(asked);
        }
        let shared = Arc::new(Shared::new(&tables));
        let applications: Vec<_> = adopted.into_values().collect();
        shared.adopt(&tables, &applications);
        for (number, ((port, steer), memory)) in lanes.into_iter().zip(memories).enumerate() {
            let config = Config {
                core: number as u32,
                cores: self.config.cores,
                mac: self.config.mac,
                hash_key: self.config.seed | 1,
                mtu_bytes,
                ..Config::default()
            };
            let mut core = Core::new(config, tables, memory, shared.clone(), port, steer, now)
                .map_err(io::Error::other)?;
            for change in &changes {
                core.command(change.command(number)).map_err(io::Error::other)?;
            }
            self.cores.push(core);
        }
        self.shared = Some(shared);
        for asked in taken {
            self.control(&mut Message::with(Op::NoticeDone, 0, &asked))?;
        }
        self.carry_out_notices()?;
        self.control(&mut Message::new(Op::Ready, 0))
    }

    /// A new fast path comes after [`Self::kill_fastpath`], with what each core has of the port.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn attach_fastpath(&mut self, lanes: Vec<(P, S)>) -> io::Result<()> {
        let fast = self.instance().connect(FAST_PATH);
        self.fast = fast;
        self.attach(lanes)?;
        self.drive.attached();
        Ok(())
    }

    /// The fast path dies without a word, as of SIGKILL.
    pub fn kill_fastpath(&mut self) {
        self.cores.clear();
        self.shared = None;
        let now = self.now_us.load(Relaxed);
        self.instance().disconnect(now, self.fast);
        self.slow_path_was_called();
    }

    /// Whether there is a fast path.
    pub fn has_fastpath(&self) -> bool {
        !self.cores.is_empty()
    }

    fn next_notice(&self) -> io::Result<Option<Notice>> {
        let mut message = Message::new(Op::NextNotice, 0);
        let now = self.now_us.load(Relaxed);
        match request(&mut self.instance(), now, self.fast, &mut message) {
            Ok(()) => Ok(Some(message.get())),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does what the slow path asks of the fast path's control thread.
    ///
    /// # Errors
    /// A region that is not there or too short.
    pub fn carry_out_notices(&mut self) -> io::Result<()> {
        while self.has_fastpath() {
            let Some(asked) = self.next_notice()? else {
                break;
            };
            // Memory of an application that ends meanwhile may be gone: its removal follows.
            if let Ok(change) = self.change(&asked) {
                self.carry_out(change)?;
            }
            self.control(&mut Message::with(Op::NoticeDone, 0, &asked))?;
        }
        Ok(())
    }

    fn carry_out(&mut self, change: Change) -> io::Result<()> {
        for (number, core) in self.cores.iter_mut().enumerate() {
            core.command(change.command(number)).map_err(io::Error::other)?;
        }
        match (change, &self.shared) {
            (Change::PoolSegment(application, segment, _), Some(shared)) => {
                shared.add_pool_segment(application, segment);
            }
            (Change::ApplicationRemoved(application), Some(shared)) => shared.remove_application(application),
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, asked: &Notice) -> io::Result<Change> {
        let (application, index) = (asked.application as u16, asked.index);
        Ok(match asked.kind {
            notice::CONTEXT_ADDED => {
                let memory = self.region(Region::whole(RegionKind::Context, index))?;
                let memories = context_memory(memory, self.config.cores)?;
                Change::Context(index as u16, application, memories)
            }
            notice::CONTEXT_REMOVED => Change::ContextRemoved(index as u16),
            notice::POOL_SEGMENT => {
                let memory = self.segment(RegionKind::Pool, asked)?;
                // SAFETY: the memory is held by the host.
                let bytes = unsafe { bytes_forever(memory.bytes()) };
                Change::PoolSegment(application, index, bytes)
            }
            notice::MAP_SEGMENT => {
                let memory = self.segment(RegionKind::Maps, asked)?;
                let words = memory
                    .bytes()
                    .atomics_u32(0, SEGMENT_BYTES as usize / 4)
                    .ok_or_else(|| gone("map words"))?;
                // SAFETY: the memory is held by the host.
                let words = unsafe { forever(words) };
                Change::MapSegment(application, index, words)
            }
            notice::APPLICATION_REMOVED => Change::ApplicationRemoved(application),
            kind => return Err(io::Error::other(format!("notice of unknown kind {kind}"))),
        })
    }

    fn segment(&mut self, kind: RegionKind, asked: &Notice) -> io::Result<&'static Memory> {
        self.region(Region { kind, index: asked.application, byte_offset: asked.index * SEGMENT_BYTES })
    }

    fn region(&mut self, region: Region) -> io::Result<&'static Memory> {
        Regions { instance: &self.instance, held: &mut self.held }.get(region)
    }
}

/// A notice from before the cores started: what the application brought.
fn adopt(change: &Change, adopted: &mut BTreeMap<u16, Adopted<'static>>) {
    let mut entry = |application: u16, add: &dyn Fn(&mut Adopted<'static>)| {
        let empty = || Adopted { application, pool_segments: 0, maps: Vec::new() };
        add(adopted.entry(application).or_insert_with(empty));
    };
    match change {
        Change::Context(..) | Change::ContextRemoved(_) => {}
        Change::PoolSegment(application, segment, _) => {
            entry(*application, &|adopted| adopted.pool_segments = adopted.pool_segments.max(segment + 1));
        }
        Change::MapSegment(application, _, words) => entry(*application, &|adopted| adopted.maps.push(words)),
        Change::ApplicationRemoved(application) => drop(adopted.remove(application)),
    }
}
