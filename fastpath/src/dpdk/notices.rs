// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices of the slow path: contexts and memory of applications come and go.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::Arc;

use abi::limits::{APPLICATIONS_MAX, CONTEXTS_MAX, CORES_MAX};
use abi::message::{notice, Message, Notice, Op};
use abi::pool::{MAP_SEGMENTS_MAX, POOL_SEGMENTS_MAX};
use anyhow::{ensure, Result};
use tas::control::{errno, ControlChannel, Target};

use super::core_thread::CoreHandle;
use super::regions::TenantMemory;
use crate::{Adopted, Command, Shared};

/// Notices taken in one go before the control thread looks at its signals again.
const NOTICES_MAX: usize = 4096;

/// The next notice; `None` if there is none.
///
/// # Errors
/// The slow path is gone.
pub(super) fn next(channel: &dyn ControlChannel) -> io::Result<Option<Notice>> {
    let mut message = Message::new(Op::NextNotice, 0);
    match channel.call(Target::Instance, &mut message, None) {
        Ok(_) => Ok(Some(message.get::<Notice>())),
        Err(error) if errno(&error) == libc::EAGAIN => Ok(None),
        Err(error) => Err(error),
    }
}

/// Answers a notice.
///
/// # Errors
/// The slow path is gone.
pub(super) fn done(channel: &dyn ControlChannel, taken: &Notice) -> io::Result<()> {
    let mut message = Message::with(Op::NoticeDone, 0, taken);
    channel.call(Target::Instance, &mut message, None).map(drop)
}

/// What one notice asks for, its numbers checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    AddContext(u16, u16),
    RemoveContext(u16),
    AddPoolSegment(u16, u32),
    AddMapSegment(u16, u32),
    RemoveApplication(u16),
}

impl Change {
    fn from_notice(taken: &Notice) -> Result<Self> {
        let below = |value: u32, limit: u32, what: &str| -> Result<u16> {
            ensure!(value < limit, "{what} {value} in a notice is above {limit}");
            Ok(value as u16)
        };
        let application = || below(taken.application, APPLICATIONS_MAX, "application");
        let context = || below(taken.index, CONTEXTS_MAX, "context");
        let segment = |limit| below(taken.index, limit, "segment").map(u32::from);
        Ok(match taken.kind {
            notice::CONTEXT_ADDED => Self::AddContext(context()?, application()?),
            notice::CONTEXT_REMOVED => Self::RemoveContext(context()?),
            notice::POOL_SEGMENT => Self::AddPoolSegment(application()?, segment(POOL_SEGMENTS_MAX)?),
            notice::MAP_SEGMENT => Self::AddMapSegment(application()?, segment(MAP_SEGMENTS_MAX)?),
            notice::APPLICATION_REMOVED => Self::RemoveApplication(application()?),
            kind => anyhow::bail!("notice of unknown kind {kind}"),
        })
    }
}

/// Commands for every core, one list each.
type PerCore = Vec<Vec<Command<'static>>>;

fn for_each_core(cores: usize, command: impl Fn() -> Command<'static>) -> PerCore {
    (0..cores).map(|_| vec![command()]).collect()
}

/// What the slow path said before the cores started.
pub(super) struct FirstNotices {
    /// Commands for each core.
    pub(super) commands: PerCore,
    /// What applications brought.
    pub(super) tenants: TenantMemory,
    notices: Vec<Notice>,
    applications: BTreeMap<u16, Adopted<'static>>,
}

impl FirstNotices {
    /// Takes every notice that waits and maps what it names.
    ///
    /// # Errors
    /// The slow path is gone, or names what cannot be mapped.
    pub(super) fn collect(channel: &dyn ControlChannel, cores: u32) -> Result<Self> {
        debug_assert!(cores <= CORES_MAX);
        let mut first = Self {
            commands: (0..cores).map(|_| Vec::new()).collect(),
            tenants: TenantMemory::default(),
            notices: Vec::new(),
            applications: BTreeMap::new(),
        };
        while let Some(taken) = next(channel)? {
            let change = Change::from_notice(&taken)?;
            // An application that is ending already: its memory may be gone, and its removal follows.
            if let Err(error) = first.take(channel, change) {
                eprintln!("tas-fastpath: {error:#}");
            }
            first.notices.push(taken);
        }
        Ok(first)
    }

    fn take(&mut self, channel: &dyn ControlChannel, change: Change) -> Result<()> {
        let cores = self.commands.len();
        let commands = add(&mut self.tenants, channel, change, cores)?;
        match change {
            Change::AddPoolSegment(application, segment) => {
                let adopted = self.application(application);
                adopted.pool_segments = adopted.pool_segments.max(segment + 1);
            }
            Change::AddMapSegment(application, _) => {
                if let Some(Command::AddMapSegment { words, .. }) =
                    commands.first().and_then(|list| list.first())
                {
                    let words: &'static [AtomicU32] = words;
                    self.application(application).maps.push(words);
                }
            }
            Change::RemoveApplication(application) => {
                self.applications.remove(&application);
            }
            Change::AddContext(..) | Change::RemoveContext(_) => {}
        }
        for (all, new) in self.commands.iter_mut().zip(commands) {
            all.extend(new);
        }
        Ok(())
    }

    fn application(&mut self, application: u16) -> &mut Adopted<'static> {
        self.applications.entry(application).or_insert_with(|| Adopted {
            application,
            pool_segments: 0,
            maps: Vec::new(),
        })
    }

    /// The applications, for [`Shared::adopt`].
    pub(super) fn adopted(&self) -> Vec<Adopted<'static>> {
        self.applications.values().cloned().collect()
    }

    /// Answers every notice, after the cores carried out the commands; what is left is the
    /// applications' memory.
    ///
    /// # Errors
    /// The slow path is gone.
    pub(super) fn answer(self, channel: &dyn ControlChannel) -> Result<TenantMemory> {
        for taken in &self.notices {
            done(channel, taken)?;
        }
        Ok(self.tenants)
    }
}

/// Maps what a change adds; the commands for each core.
fn add(
    tenants: &mut TenantMemory,
    channel: &dyn ControlChannel,
    change: Change,
    cores: usize,
) -> Result<PerCore> {
    Ok(match change {
        Change::AddContext(context, application) => {
            let commands = tenants.add_context(channel, context, application, cores as u32)?;
            commands.into_iter().map(|command| vec![command]).collect()
        }
        Change::RemoveContext(context) => for_each_core(cores, || Command::RemoveContext { context }),
        Change::AddPoolSegment(application, segment) => {
            let bytes = tenants.add_pool_segment(channel, application, segment)?;
            for_each_core(cores, || Command::AddPoolSegment { application, segment, bytes })
        }
        Change::AddMapSegment(application, segment) => {
            let words = tenants.add_map_segment(channel, application, segment)?;
            for_each_core(cores, || Command::AddMapSegment { application, segment, words })
        }
        Change::RemoveApplication(application) => {
            for_each_core(cores, || Command::RemoveApplication { application })
        }
    })
}

/// Carries out the notices that wait.
///
/// # Errors
/// The slow path or a core is gone.
pub(super) fn serve(
    channel: &dyn ControlChannel,
    cores: &[CoreHandle],
    tenants: &mut TenantMemory,
    shared: &Arc<Shared>,
) -> Result<()> {
    for _ in 0..NOTICES_MAX {
        let Some(taken) = next(channel)? else { break };
        let change = Change::from_notice(&taken)?;
        match add(tenants, channel, change, cores.len()) {
            Ok(commands) => {
                send_to_all(cores, commands)?;
                finish(tenants, shared, change);
            }
            // The application ended meanwhile; its removal is the next notice.
            Err(error) => eprintln!("tas-fastpath: {error:#}"),
        }
        done(channel, &taken)?;
    }
    Ok(())
}

/// Returns when every core has carried out its commands.
fn send_to_all(cores: &[CoreHandle], commands: PerCore) -> Result<()> {
    let pending: Vec<_> = cores.iter().zip(commands).map(|(core, commands)| core.send(commands)).collect();
    for answer in pending {
        answer.wait()?;
    }
    Ok(())
}

/// What follows once no core holds a reference any more, or every core has one.
fn finish(tenants: &mut TenantMemory, shared: &Arc<Shared>, change: Change) {
    match change {
        Change::AddPoolSegment(application, segment) => shared.add_pool_segment(application, segment),
        Change::RemoveContext(context) => tenants.remove_context(context),
        Change::RemoveApplication(application) => {
            shared.remove_application(application);
            tenants.remove_application(application);
        }
        Change::AddContext(..) | Change::AddMapSegment(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kind: u32, application: u32, index: u32) -> Notice {
        Notice { kind, application, index, ..Notice::default() }
    }

    #[test]
    fn numbers_in_notices_are_checked() {
        let ok = |kind, application, index| Change::from_notice(&taken(kind, application, index)).ok();
        assert_eq!(ok(notice::CONTEXT_ADDED, 3, 4), Some(Change::AddContext(4, 3)));
        assert_eq!(ok(notice::POOL_SEGMENT, 1, POOL_SEGMENTS_MAX - 1), Some(Change::AddPoolSegment(1, 511)));
        assert_eq!(ok(notice::CONTEXT_ADDED, 3, CONTEXTS_MAX), None);
        assert_eq!(ok(notice::CONTEXT_ADDED, APPLICATIONS_MAX, 0), None);
        assert_eq!(ok(notice::POOL_SEGMENT, 1, POOL_SEGMENTS_MAX), None);
        assert_eq!(ok(notice::MAP_SEGMENT, 1, u32::MAX), None);
        assert_eq!(ok(99, 0, 0), None);
    }
}
