// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fast path attaches, carries out notices, dies, and attaches again.

use super::{
    regions::{bytes_forever, context_memory, forever, gone, map_tables, Regions},
    request, Host, FAST_PATH,
};
use abi::{
    message::{notice, Message, Notice, Op},
    pool::SEGMENT_BYTES,
    region::{Region, RegionKind},
};
use daemon::Memory;
use fastpath::{Adopted, Command, Config, Core, NoSteer, Port, Shared};
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
    Command(Command<'static>),
    PoolSegment(u16, u32, Command<'static>),
    MapSegment(u16, &'static [AtomicU32], Command<'static>),
    ApplicationRemoved(u16),
}

impl<P: Port> Host<P> {
    /// Attaches a fast path over `port`, as the real program does it: first notices, lists, core,
    /// commands, answers.
    pub(super) fn attach(&mut self, port: P) -> io::Result<()> {
        let now = self.now_us.load(Relaxed);
        self.control(&mut Message::with(Op::AttachFast, 0, &self.body))?;
        let mut regions = Regions { instance: &self.instance, held: &mut self.held };
        let (tables, memory) = map_tables(&mut regions, self.config.flows)?;
        self.status = Some(memory.status);
        let mut taken = Vec::new();
        let mut commands = Vec::new();
        let mut adopted: BTreeMap<u16, Adopted<'static>> = BTreeMap::new();
        while let Some(asked) = self.next_notice()? {
            // An application that is ending: its memory may be gone, and its removal follows.
            if let Ok(change) = self.change(&asked) {
                first_change(change, &mut adopted, &mut commands);
            }
            taken.push(asked);
        }
        let shared = Arc::new(Shared::new(&tables));
        let applications: Vec<_> = adopted.into_values().collect();
        shared.adopt(&tables, &applications);
        let config = Config { mac: self.config.mac, hash_key: self.config.seed | 1, ..Config::default() };
        let mut core = Core::new(config, tables, memory, shared.clone(), port, NoSteer, now)
            .map_err(io::Error::other)?;
        for command in commands {
            core.command(command).map_err(io::Error::other)?;
        }
        self.core = Some(core);
        self.shared = Some(shared);
        for asked in taken {
            self.control(&mut Message::with(Op::NoticeDone, 0, &asked))?;
        }
        self.carry_out_notices()?;
        self.control(&mut Message::new(Op::Ready, 0))
    }

    /// A new fast path comes after [`Self::kill_fastpath`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn attach_fastpath(&mut self, port: P) -> io::Result<()> {
        let fast = self.instance().connect(FAST_PATH);
        self.fast = fast;
        self.attach(port)?;
        self.drive.attached();
        Ok(())
    }

    /// The fast path dies without a word, as of SIGKILL.
    pub fn kill_fastpath(&mut self) {
        self.core = None;
        self.shared = None;
        let now = self.now_us.load(Relaxed);
        self.instance().disconnect(now, self.fast);
        self.slow_path_was_called();
    }

    /// Whether there is a fast path.
    pub fn has_fastpath(&self) -> bool {
        self.core.is_some()
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
        while self.core.is_some() {
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
        let (Some(core), Some(shared)) = (self.core.as_mut(), self.shared.as_ref()) else {
            return Ok(());
        };
        match change {
            Change::Command(command) | Change::MapSegment(_, _, command) => core.command(command),
            Change::PoolSegment(application, segment, command) => core.command(command).map(|()| {
                shared.add_pool_segment(application, segment);
            }),
            Change::ApplicationRemoved(application) => {
                core.command(Command::RemoveApplication { application }).map(|()| {
                    shared.remove_application(application);
                })
            }
        }
        .map_err(io::Error::other)
    }

    fn change(&mut self, asked: &Notice) -> io::Result<Change> {
        let application = asked.application as u16;
        Ok(match asked.kind {
            notice::CONTEXT_ADDED => {
                let memory = self.region(Region::whole(RegionKind::Context, asked.index))?;
                let memory = context_memory(memory)?;
                Change::Command(Command::AddContext { context: asked.index as u16, application, memory })
            }
            notice::CONTEXT_REMOVED => {
                Change::Command(Command::RemoveContext { context: asked.index as u16 })
            }
            notice::POOL_SEGMENT => {
                let memory = self.segment(RegionKind::Pool, asked)?;
                // SAFETY: the memory is held by the host.
                let bytes = unsafe { bytes_forever(memory.bytes()) };
                let command = Command::AddPoolSegment { application, segment: asked.index, bytes };
                Change::PoolSegment(application, asked.index, command)
            }
            notice::MAP_SEGMENT => {
                let memory = self.segment(RegionKind::Maps, asked)?;
                let words = memory
                    .bytes()
                    .atomics_u32(0, SEGMENT_BYTES as usize / 4)
                    .ok_or_else(|| gone("map words"))?;
                // SAFETY: the memory is held by the host.
                let words = unsafe { forever(words) };
                let command = Command::AddMapSegment { application, segment: asked.index, words };
                Change::MapSegment(application, words, command)
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

/// A notice from before the core started: a command for it, and what the application brought.
fn first_change(
    change: Change,
    adopted: &mut BTreeMap<u16, Adopted<'static>>,
    commands: &mut Vec<Command<'static>>,
) {
    let mut entry = |application: u16, add: &dyn Fn(&mut Adopted<'static>)| {
        let empty = || Adopted { application, pool_segments: 0, maps: Vec::new() };
        add(adopted.entry(application).or_insert_with(empty));
    };
    match change {
        Change::Command(command) => commands.push(command),
        Change::PoolSegment(application, segment, command) => {
            entry(application, &|adopted| adopted.pool_segments = adopted.pool_segments.max(segment + 1));
            commands.push(command);
        }
        Change::MapSegment(application, words, command) => {
            entry(application, &|adopted| adopted.maps.push(words));
            commands.push(command);
        }
        Change::ApplicationRemoved(application) => {
            adopted.remove(&application);
            commands.push(Command::RemoveApplication { application });
        }
    }
}
