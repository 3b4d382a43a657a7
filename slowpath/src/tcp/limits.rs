// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Limits on what a stranger can make us send: RFC 5961 §7, RFC 4987, and Linux's
//! `tcp_invalid_ratelimit`, which keeps two confused ends from acknowledging each other for ever.

use crate::{connection::pending, counters::Counter, random::Random, stack::Stack};

/// RSTs, echo replies and answers to repeated SYNs per second: answers must not amplify a flood.
const ANSWERS_PER_SECOND: u32 = 20_000;
/// Challenge ACKs per second of an instance (RFC 5961 §7; Linux's limit of old), on average.
const CHALLENGES_PER_SECOND: u32 = 1000;
/// One connection answers unacceptable segments this often, microseconds: Linux's default of
/// `tcp_invalid_ratelimit`. Longer than an RTT, so that an ACK that answers an ACK is the last.
pub(crate) const ANSWER_INTERVAL_US: u64 = 500_000;

/// So many per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limiter {
    second: u64,
    count: u32,
    limit: u32,
}

impl Limiter {
    pub(crate) const fn answers() -> Self {
        Self { second: 0, count: 0, limit: ANSWERS_PER_SECOND }
    }
    pub(crate) const fn challenges() -> Self {
        Self { second: 0, count: 0, limit: CHALLENGES_PER_SECOND }
    }
    /// Whether one more may go now.
    pub(crate) fn allow(&mut self, now_us: u64) -> bool {
        let second = now_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.limit
    }
    /// The same with another limit every second, from half to one and a half of the usual. A known
    /// limit shared by all connections tells a stranger, who counts what is left of it, whether his
    /// guess at somebody else's numbers was answered (CVE-2016-5696).
    fn allow_guarded(&mut self, now_us: u64, random: &mut Random) -> bool {
        if now_us / 1_000_000 != self.second {
            let spread = random.below(CHALLENGES_PER_SECOND);
            self.limit = (CHALLENGES_PER_SECOND / 2).saturating_add(spread);
        }
        self.allow(now_us)
    }
}

/// When one connection last answered a segment that was not acceptable.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastAnswer {
    /// Microseconds, plus one; zero is never.
    at_us: u64,
}

impl LastAnswer {
    /// No answer yet.
    pub(crate) const NEVER: Self = Self { at_us: 0 };
    /// Whether another answer may go now, `interval_us` after the last; if so it counts as gone.
    pub(crate) fn allow(&mut self, now_us: u64, interval_us: u64) -> bool {
        let now = now_us.saturating_add(1);
        let allowed = self.at_us == 0 || now.saturating_sub(self.at_us) >= interval_us;
        if allowed {
            self.at_us = now;
        }
        allowed
    }
}

impl Stack<'_> {
    /// Whether the instance may send one more challenge ACK; counts either way.
    pub(crate) fn may_challenge(&mut self) -> bool {
        let allowed = self.challenge_limit.allow_guarded(self.now_us, &mut self.random);
        self.count_answer(allowed)
    }

    /// Counts an answer that was sent, or suppressed.
    pub(crate) fn count_answer(&mut self, sent: bool) -> bool {
        self.counters.add(if sent { Counter::ChallengeAcks } else { Counter::RateLimited });
        sent
    }

    /// Whether `flow` may answer an unacceptable segment now; a refusal is counted.
    pub(crate) fn may_answer(&mut self, flow: u32) -> bool {
        let now_us = self.now_us;
        let allowed = self.connections.at_mut(flow).answered.allow(now_us, ANSWER_INTERVAL_US);
        if !allowed {
            self.counters.add(Counter::RateLimited);
        }
        allowed
    }

    /// Has the core of an installed flow send a challenge ACK, unless too many were (RFC 5961 §7).
    pub(crate) fn challenge(&mut self, flow: u32) {
        if self.may_answer(flow) && self.may_challenge() {
            self.command(flow, pending::ACKNOWLEDGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SipKey;

    #[test]
    fn the_guarded_limit_varies_around_the_usual_one() {
        let mut random = Random::new(SipKey(1, 2));
        let mut limiter = Limiter::challenges();
        let mut limits = std::vec![];
        for second in 1..50u64 {
            let allowed =
                (0..3000).filter(|_| limiter.allow_guarded(second * 1_000_000, &mut random)).count();
            assert!((500..1500).contains(&allowed), "{allowed}");
            limits.push(allowed);
        }
        limits.sort_unstable();
        limits.dedup();
        assert!(limits.len() > 30, "predictable: {limits:?}");
    }

    #[test]
    fn one_answer_per_interval() {
        let mut last = LastAnswer::default();
        let allowed: std::vec::Vec<u64> = (0..3000).filter(|ms| last.allow(ms * 1000, 500_000)).collect();
        assert_eq!(allowed, [0, 500, 1000, 1500, 2000, 2500]);
    }
}
