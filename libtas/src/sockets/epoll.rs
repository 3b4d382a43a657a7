// SPDX-License-Identifier: MIT OR Apache-2.0
//! An epoll instance's share of TAS sockets: interests and the ready list, by the rules of
//! fs/eventpoll.c. Kernel descriptors stay in the kernel's epoll file underneath.
//!
//! Pure: readiness is asked through a closure, waking is the caller's.

use super::{bell::Bell, table::Token};
use std::{collections::VecDeque, os::fd::RawFd, sync::Arc};

/// EPOLLERR and EPOLLHUP are reported whether asked for or not.
pub(crate) const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
/// The bits of `events` that are no events.
const CONTROL: u32 = ONESHOT | EDGE | EXCLUSIVE | libc::EPOLLWAKEUP as u32;
/// What may stand beside EPOLLEXCLUSIVE (EPOLLEXCLUSIVE_OK_BITS).
const EXCLUSIVE_OK: u32 = (libc::EPOLLIN | libc::EPOLLOUT) as u32 | ALWAYS | CONTROL & !ONESHOT;

/// What an interest watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A stream socket.
    Stream(Token),
    /// The TAS sockets of another epoll instance.
    Epoll(Token),
}

/// An object's note of who watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The epoll instance.
    pub(crate) epoll: Token,
    /// Index of the interest.
    pub(crate) interest: u32,
    /// Descriptor it was added under.
    pub(crate) fd: RawFd,
}

#[derive(Debug)]
struct Interest {
    watched: Watched,
    events: u32,
    data: u64,
    queued: bool,
}

/// An epoll instance.
#[derive(Debug, Default)]
pub(crate) struct Epoll {
    /// Descriptors of it in this process.
    pub(crate) descriptors: Vec<RawFd>,
    /// Threads that wait on it.
    pub(crate) waiters: Vec<Arc<Bell>>,
    /// Epoll instances that watch it.
    pub(crate) watches: Vec<Watch>,
    /// Kernel descriptors were added: the kernel's file must be looked at.
    pub(crate) has_kernel: bool,
    /// Threads inside the kernel's epoll_wait, from before TAS was attached.
    pub(crate) kernel_waiters: u32,
    /// The kick is in the kernel's set (see `epoll_calls`).
    pub(crate) kicked: bool,
    /// Interests in other epoll instances.
    nested: u32,
    interests: Vec<Option<Interest>>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    /// Calls since the kernel's file was looked at.
    pub(crate) since_kernel: u32,
}

impl Epoll {
    /// Under one descriptor.
    pub(crate) fn new(fd: RawFd) -> Self {
        Self { descriptors: vec![fd], ..Self::default() }
    }

    /// Whether it watches anything of ours.
    pub(crate) fn has_interests(&self) -> bool {
        self.interests.len() > self.free.len()
    }

    /// Whether it watches other epoll instances.
    #[inline]
    pub(crate) fn has_nested(&self) -> bool {
        self.nested != 0
    }

    /// Adds an interest; its index. The caller checks that there is none for the descriptor yet.
    /// None for flags that Linux refuses (EINVAL).
    pub(crate) fn add(&mut self, watched: Watched, events: u32, data: u64) -> Option<u32> {
        let refused = match watched {
            Watched::Stream(_) => events & !EXCLUSIVE_OK != 0,
            Watched::Epoll(_) => true,
        };
        if events & EXCLUSIVE != 0 && refused {
            return None;
        }
        self.nested += u32::from(matches!(watched, Watched::Epoll(_)));
        let interest = Some(Interest { watched, events: events | ALWAYS, data, queued: false });
        Some(match self.free.pop() {
            Some(index) => {
                self.interests[index as usize] = interest;
                index
            }
            None => {
                self.interests.push(interest);
                self.interests.len() as u32 - 1
            }
        })
    }

    /// Changes an interest. False for what Linux refuses: EPOLLEXCLUSIVE before or after.
    pub(crate) fn modify(&mut self, index: u32, events: u32, data: u64) -> bool {
        let Some(Some(interest)) = self.interests.get_mut(index as usize) else {
            return false;
        };
        if (events | interest.events) & EXCLUSIVE != 0 {
            return false;
        }
        interest.events = events | ALWAYS;
        interest.data = data;
        true
    }

    /// Removes an interest.
    pub(crate) fn remove(&mut self, index: u32) {
        if let Some(place) = self.interests.get_mut(index as usize) {
            let Some(interest) = place.take() else { return };
            self.nested -= u32::from(matches!(interest.watched, Watched::Epoll(_)));
            if interest.queued {
                self.ready.retain(|queued| *queued != index);
            }
            self.free.push(index);
        }
    }

    /// What interest `index` watches, and with what: for moving it to the kernel's file.
    pub(crate) fn interest(&self, index: u32) -> Option<(Watched, u32, u64)> {
        let interest = self.interests.get(index as usize)?.as_ref()?;
        Some((interest.watched, interest.events, interest.data))
    }

    /// Everything watched.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (u32, Watched)> + '_ {
        self.interests
            .iter()
            .enumerate()
            .filter_map(|(index, place)| Some((index as u32, place.as_ref()?.watched)))
    }

    /// `events` happened to what `index` watches. True: it was put on the ready list.
    #[inline]
    pub(crate) fn signal(&mut self, index: u32, events: u32) -> bool {
        let Some(Some(interest)) = self.interests.get_mut(index as usize) else {
            return false;
        };
        let mask = interest.events & !CONTROL;
        // A one-shot that fired has nothing left in its mask, not even ALWAYS.
        if mask & events == 0 || interest.queued {
            return false;
        }
        interest.queued = true;
        self.ready.push_back(index);
        true
    }

    /// Takes ready interests, at most `room`, asking `readiness` for each; hands (events, data) to
    /// `report`. Level-triggered ones go back to the end of the list. Returns how many.
    #[inline]
    pub(crate) fn collect(
        &mut self,
        room: usize,
        mut readiness: impl FnMut(Watched, u32) -> u32,
        mut report: impl FnMut(u32, u64),
    ) -> usize {
        let mut reported = 0;
        // Every entry is looked at once: those put back wait for the next call.
        for _ in 0..self.ready.len() {
            if reported == room {
                break;
            }
            let Some(index) = self.ready.pop_front() else {
                break;
            };
            let Some(Some(interest)) = self.interests.get_mut(index as usize) else {
                continue;
            };
            interest.queued = false;
            let asked = interest.events & !CONTROL;
            let events = readiness(interest.watched, asked) & asked;
            if events == 0 {
                continue;
            }
            report(events, interest.data);
            reported += 1;
            if interest.events & ONESHOT != 0 {
                interest.events &= CONTROL;
            } else if interest.events & EDGE == 0 {
                interest.queued = true;
                self.ready.push_back(index);
            }
        }
        reported
    }

    /// Whether something is ready, without taking it: what polling the epoll descriptor asks.
    pub(crate) fn is_ready(&mut self, mut readiness: impl FnMut(Watched, u32) -> u32) -> bool {
        while let Some(index) = self.ready.front().copied() {
            let Some(Some(interest)) = self.interests.get_mut(index as usize) else {
                self.ready.pop_front();
                continue;
            };
            let asked = interest.events & !CONTROL;
            if readiness(interest.watched, asked) & asked != 0 {
                return true;
            }
            interest.queued = false;
            self.ready.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: u32 = libc::EPOLLIN as u32;
    const OUT: u32 = libc::EPOLLOUT as u32;
    const HUP: u32 = libc::EPOLLHUP as u32;

    fn stream(index: u32) -> Watched {
        Watched::Stream(Token { index, generation: 0 })
    }

    fn wait(epoll: &mut Epoll, ready: u32) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        epoll.collect(16, |_, _| ready, |events, data| seen.push((events, data)));
        seen
    }

    #[test]
    fn level_triggered_repeats_until_it_is_not_ready() {
        let mut epoll = Epoll::default();
        let index = epoll.add(stream(1), IN, 7).unwrap();
        assert!(epoll.signal(index, IN) && !epoll.signal(index, IN));
        assert_eq!(wait(&mut epoll, IN | OUT), [(IN, 7)]);
        assert_eq!(wait(&mut epoll, IN), [(IN, 7)]);
        assert_eq!(wait(&mut epoll, OUT), []);
        assert_eq!(wait(&mut epoll, IN), [], "it left the list");
    }

    #[test]
    fn edge_triggered_needs_a_new_edge() {
        let mut epoll = Epoll::default();
        let index = epoll.add(stream(1), IN | EDGE, 7).unwrap();
        epoll.signal(index, IN);
        assert_eq!(wait(&mut epoll, IN), [(IN, 7)]);
        assert_eq!(wait(&mut epoll, IN), []);
        epoll.signal(index, IN);
        assert_eq!(wait(&mut epoll, IN), [(IN, 7)]);
    }

    #[test]
    fn one_shot_sleeps_until_modified() {
        let mut epoll = Epoll::default();
        let index = epoll.add(stream(1), IN | ONESHOT, 7).unwrap();
        epoll.signal(index, IN);
        assert_eq!(wait(&mut epoll, IN), [(IN, 7)]);
        assert!(!epoll.signal(index, IN) && !epoll.signal(index, HUP), "disarmed, even for HUP");
        assert!(epoll.modify(index, IN | ONESHOT, 8));
        assert!(epoll.signal(index, IN));
        assert_eq!(wait(&mut epoll, IN | HUP), [(IN | HUP, 8)]);
    }

    #[test]
    fn hup_is_reported_unasked() {
        let mut epoll = Epoll::default();
        let index = epoll.add(stream(1), 0, 7).unwrap();
        assert!(!epoll.signal(index, IN));
        assert!(epoll.signal(index, HUP));
        assert_eq!(wait(&mut epoll, IN | HUP), [(HUP, 7)]);
    }

    #[test]
    fn exclusive_takes_few_companions() {
        let mut epoll = Epoll::default();
        assert!(epoll.add(stream(1), EXCLUSIVE | IN | EDGE, 0).is_some());
        assert!(epoll.add(stream(1), EXCLUSIVE | IN | ONESHOT, 0).is_none());
        assert!(epoll.add(Watched::Epoll(Token { index: 0, generation: 0 }), EXCLUSIVE | IN, 0).is_none());
        assert!(!epoll.modify(0, IN, 0), "an exclusive interest cannot be changed");
    }

    #[test]
    fn room_is_shared_fairly() {
        let mut epoll = Epoll::default();
        for data in 0..3 {
            let index = epoll.add(stream(data), IN, u64::from(data)).unwrap();
            epoll.signal(index, IN);
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            epoll.collect(1, |_, _| IN, |_, data| seen.push(data));
        }
        assert_eq!(seen, [0, 1, 2], "served in turn");
        epoll.remove(1);
        assert_eq!(wait(&mut epoll, IN), [(IN, 0), (IN, 2)]);
        assert!(epoll.has_interests());
    }
}
