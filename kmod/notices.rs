// SPDX-License-Identifier: GPL-2.0-only
//! NEXT_NOTICE and NOTICE_DONE: what the fast path's control thread must map or forget.

use crate::{
    objects::{Application, Life, Phase, Told},
    state::State,
};
use abi::{
    message::{notice, Notice},
    pool::SEGMENT_RECORDS,
    region::RegionKind,
};

/// Kind, application, index.
type Found = (u32, u32, u32);

impl State {
    /// True if [`Self::next_notice`] would return one.
    pub(crate) fn has_notice(&self) -> bool {
        self.find_notice().is_some()
    }

    /// The next notice, marked as taken. Segments come before contexts, so that a context's flows
    /// find their memory; removals last.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        let (kind, application, index) = self.find_notice()?;
        self.notice_sequence = self.notice_sequence.wrapping_add(1).max(1);
        let sequence = self.notice_sequence;
        self.mark_taken(kind, application, index, Told::Taken(sequence));
        Some(Notice { kind, sequence, application, index, ..Notice::default() })
    }

    fn find_notice(&self) -> Option<Found> {
        self.find_segment().or_else(|| self.find_context()).or_else(|| self.find_removal())
    }

    fn find_segment(&self) -> Option<Found> {
        self.applications.iter().filter(|(_, a)| matches!(a.life, Life::Alive | Life::Dying)).find_map(|(id, a)| {
            let untold = |kind| a.segments(kind).iter().position(|segment| segment.told == Told::Not);
            let pool = untold(RegionKind::Pool).map(|index| (notice::POOL_SEGMENT, id, index as u32));
            pool.or_else(|| untold(RegionKind::Maps).map(|index| (notice::MAP_SEGMENT, id, index as u32)))
        })
    }

    fn find_context(&self) -> Option<Found> {
        self.contexts.iter().find_map(|(id, context)| match context.phase {
            Phase::Added(Told::Not) => Some((notice::CONTEXT_ADDED, context.application, id)),
            Phase::Removed(Told::Not) => Some((notice::CONTEXT_REMOVED, context.application, id)),
            _ => None,
        })
    }

    fn find_removal(&self) -> Option<Found> {
        // Its contexts use its memory: they go first.
        let ready = |a: &Application| a.life == Life::Drained(Told::Not) && a.contexts == 0;
        self.applications.iter().find(|(_, a)| ready(a)).map(|(id, _)| (notice::APPLICATION_REMOVED, id, 0))
    }

    fn mark_taken(&mut self, kind: u32, application: u32, index: u32, taken: Told) {
        let (context, application) = (self.contexts.get_mut(index), self.applications.get_mut(application));
        match (kind, context, application) {
            (notice::CONTEXT_ADDED, Some(context), _) => context.phase = Phase::Added(taken),
            (notice::CONTEXT_REMOVED, Some(context), _) => context.phase = Phase::Removed(taken),
            (notice::APPLICATION_REMOVED, _, Some(application)) => application.life = Life::Drained(taken),
            (_, _, Some(application)) => {
                let kind = if kind == notice::POOL_SEGMENT { RegionKind::Pool } else { RegionKind::Maps };
                if let Some(segment) = application.segments_mut(kind).get_mut(index as usize) {
                    segment.told = taken;
                }
            }
            _ => {}
        }
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
