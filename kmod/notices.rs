// SPDX-License-Identifier: GPL-2.0-only
//! NEXT_NOTICE and NOTICE_DONE: what the fast path's control thread must map or forget.

use crate::{
    objects::{Life, Phase, Told},
    state::State,
};
use abi::{
    message::{notice, Notice},
    pool::SEGMENT_RECORDS,
    region::RegionKind,
};

impl State {
    /// The next notice, marked as taken. Segments come before contexts, so that a context's flows
    /// find their memory; removals last.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        let sequence = self.notice_sequence.wrapping_add(1).max(1);
        let taken = Told::Taken(sequence);
        let found = self.next_segment(taken).or_else(|| self.next_context(taken)).or_else(|| self.next_removal(taken));
        let (kind, application, index) = found?;
        self.notice_sequence = sequence;
        Some(Notice { kind, sequence, application, index, ..Notice::default() })
    }

    fn next_segment(&mut self, taken: Told) -> Option<(u32, u32, u32)> {
        for (id, application) in self.applications.iter_mut() {
            if !matches!(application.life, Life::Alive | Life::Dying) {
                continue;
            }
            for (kind, say) in [(RegionKind::Pool, notice::POOL_SEGMENT), (RegionKind::Maps, notice::MAP_SEGMENT)] {
                let segments = application.segments_mut(kind).iter_mut().enumerate();
                if let Some((index, segment)) = segments.into_iter().find(|(_, s)| s.told == Told::Not) {
                    segment.told = taken;
                    return Some((say, id, index as u32));
                }
            }
        }
        None
    }

    fn next_context(&mut self, taken: Told) -> Option<(u32, u32, u32)> {
        for (id, context) in self.contexts.iter_mut() {
            let (phase, kind) = match context.phase {
                Phase::Added(Told::Not) => (Phase::Added(taken), notice::CONTEXT_ADDED),
                Phase::Removed(Told::Not) => (Phase::Removed(taken), notice::CONTEXT_REMOVED),
                _ => continue,
            };
            context.phase = phase;
            return Some((kind, context.application, id));
        }
        None
    }

    fn next_removal(&mut self, taken: Told) -> Option<(u32, u32, u32)> {
        for (id, application) in self.applications.iter_mut() {
            // Its contexts use its memory: they go first.
            if application.life == Life::Drained(Told::Not) && application.contexts == 0 {
                application.life = Life::Drained(taken);
                return Some((notice::APPLICATION_REMOVED, id, 0));
            }
        }
        None
    }

    /// The fast path carried out the notice it took. False if it took no such notice.
    pub(crate) fn notice_done(&mut self, answer: &Notice) -> bool {
        let taken = Told::Taken(answer.sequence);
        match answer.kind {
            notice::CONTEXT_ADDED => match self.contexts.get_mut(answer.index) {
                Some(context) if context.phase == Phase::Added(taken) => context.phase = Phase::Added(Told::Done),
                _ => return false,
            },
            notice::CONTEXT_REMOVED => match self.contexts.get(answer.index) {
                Some(context) if context.phase == Phase::Removed(taken) => self.free_context(answer.index),
                _ => return false,
            },
            notice::POOL_SEGMENT | notice::MAP_SEGMENT => {
                let kind = if answer.kind == notice::POOL_SEGMENT { RegionKind::Pool } else { RegionKind::Maps };
                let application = self.applications.get_mut(answer.application);
                match application.and_then(|a| a.segments_mut(kind).get_mut(answer.index as usize)) {
                    Some(segment) if segment.told == taken => segment.told = Told::Done,
                    _ => return false,
                }
                self.update_map_records(answer.application);
            }
            notice::APPLICATION_REMOVED => match self.applications.get(answer.application) {
                Some(application) if application.life == Life::Drained(taken) => {
                    self.application_unmapped(answer.application);
                }
                _ => return false,
            },
            _ => return false,
        }
        true
    }

    /// Lets flows use the map records that the fast path has mapped.
    fn update_map_records(&mut self, id: u32) {
        let Some(application) = self.applications.get(id) else { return };
        let mapped = application.maps.iter().take_while(|segment| segment.told == Told::Done).count() as u32;
        // It keeps track of fewer when it has no room for more; flows then get ENOBUFS.
        let _ = self.stack.set_map_records(id, mapped.saturating_mul(SEGMENT_RECORDS));
    }

    /// The fast path is gone, and its mappings with it: removals are done, everything else will be
    /// told to the next one.
    pub(crate) fn forget_notices(&mut self) {
        for (_, application) in self.applications.iter_mut() {
            for kind in [RegionKind::Pool, RegionKind::Maps] {
                for segment in application.segments_mut(kind) {
                    segment.told = Told::Not;
                }
            }
        }
        for id in 0..self.contexts.limit() {
            match self.contexts.get_mut(id).map(|context| &mut context.phase) {
                Some(phase @ Phase::Added(_)) => *phase = Phase::Added(Told::Not),
                Some(Phase::Removed(_)) => self.free_context(id),
                None => {}
            }
        }
        for id in 0..self.applications.limit() {
            if matches!(self.applications.get(id), Some(a) if matches!(a.life, Life::Drained(_))) {
                self.application_unmapped(id);
            }
        }
    }
}
