// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification of a wire, as it is typed: `loss=1%,delay=5ms,in:rate=100mbit`.

use crate::{
    quantity::{count, rate_bps, time_ns, time_text},
    Loss, Probability,
};
use std::{fmt, str::FromStr};

/// Frames that wait for the rate, unless the specification says otherwise: netem's and pfifo's number.
const QUEUE_FRAMES: u64 = 1000;

/// What happens to the frames of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impairment {
    /// Frames lost.
    pub loss: Loss,
    /// Every frame takes this long, nanoseconds.
    pub delay_ns: u64,
    /// Up to this much longer, in order, nanoseconds.
    pub jitter_ns: u64,
    /// Frames that are held back by up to [`Self::reorder_ns`].
    pub reorder: Probability,
    /// See [`Self::reorder`], nanoseconds.
    pub reorder_ns: u64,
    /// Frames delivered twice.
    pub duplicate: Probability,
    /// Frames with a flipped bit.
    pub corrupt: Probability,
    /// ECN-capable frames marked by chance.
    pub ecn: Probability,
    /// ECN-capable frames are marked while at least so many wait for the rate (RFC 8257 §3.1).
    pub mark_frames: Option<u64>,
    /// Bits per second, of Ethernet frames without preamble and check sequence.
    pub rate_bps: Option<u64>,
    /// Frames that wait for the rate; more are dropped.
    pub queue_frames: u64,
    /// Longer IP packets are dropped without a word: a black hole for path MTU discovery.
    pub mtu_bytes: Option<u64>,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            loss: Loss::default(),
            delay_ns: 0,
            jitter_ns: 0,
            reorder: Probability::default(),
            reorder_ns: 0,
            duplicate: Probability::default(),
            corrupt: Probability::default(),
            ecn: Probability::default(),
            mark_frames: None,
            rate_bps: None,
            queue_frames: QUEUE_FRAMES,
            mtu_bytes: None,
        }
    }
}

impl Impairment {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "loss" => self.loss.single = Probability::parse(value)?,
            "burst" => self.set_burst(value)?,
            "delay" => self.delay_ns = time_ns(value)?,
            "jitter" => self.jitter_ns = time_ns(value)?,
            "reorder" => self.set_reorder(value)?,
            "duplicate" => self.duplicate = Probability::parse(value)?,
            "corrupt" => self.corrupt = Probability::parse(value)?,
            "ecn" => self.ecn = Probability::parse(value)?,
            "mark" => self.mark_frames = Some(count(value)?),
            "rate" => self.rate_bps = Some(rate_bps(value)?),
            "queue" => self.queue_frames = count(value)?,
            "mtu" => self.mtu_bytes = Some(count(value)?),
            _ => return Err(format!("no impairment is called {name}")),
        }
        Ok(())
    }

    /// `ENTER/LEAVE` or `ENTER/LEAVE/LOSS`.
    fn set_burst(&mut self, value: &str) -> Result<(), String> {
        let parts: Vec<_> = value.split('/').map(Probability::parse).collect::<Result<_, _>>()?;
        let (enter, leave, burst) = match parts[..] {
            [enter, leave] => (enter, leave, Probability::from_parts(Probability::ONE)),
            [enter, leave, burst] => (enter, leave, burst),
            _ => return Err(format!("burst={value}: expected ENTER/LEAVE or ENTER/LEAVE/LOSS")),
        };
        if leave.is_never() {
            return Err(format!("burst={value}: it would never end"));
        }
        self.loss = Loss { enter, leave, burst, ..self.loss };
        Ok(())
    }

    /// `TIME` (every frame) or `SHARE/TIME`.
    fn set_reorder(&mut self, value: &str) -> Result<(), String> {
        let (share, time) = value.split_once('/').unwrap_or(("100%", value));
        self.reorder = Probability::parse(share)?;
        self.reorder_ns = time_ns(time)?;
        Ok(())
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, probability) in [
            ("loss", self.loss.single),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("ecn", self.ecn),
        ] {
            if !probability.is_never() {
                parts.push(format!("{name}={probability}"));
            }
        }
        if !self.loss.enter.is_never() {
            parts.push(format!("burst={}/{}/{}", self.loss.enter, self.loss.leave, self.loss.burst));
        }
        for (name, time) in [("delay", self.delay_ns), ("jitter", self.jitter_ns)] {
            if time != 0 {
                parts.push(format!("{name}={}", time_text(time)));
            }
        }
        if self.reorder_ns != 0 && !self.reorder.is_never() {
            parts.push(format!("reorder={}/{}", self.reorder, time_text(self.reorder_ns)));
        }
        if let Some(rate) = self.rate_bps {
            parts.push(format!("rate={rate}bit,queue={}", self.queue_frames));
        }
        for (name, value) in [("mark", self.mark_frames), ("mtu", self.mtu_bytes)] {
            parts.extend(value.map(|value| format!("{name}={value}")));
        }
        f.write_str(&parts.join(","))
    }
}

/// A wire: what happens in each direction, and the seed of every choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// From the left end (in the lab: TAS) to the right, and back.
    pub lanes: [Impairment; 2],
    /// The seed.
    pub seed: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self { lanes: [Impairment::default(); 2], seed: 1 }
    }
}

impl FromStr for Spec {
    type Err = String;

    /// Items `NAME=VALUE` separated by commas; `out:` or `in:` in front says which direction, otherwise both.
    /// Later items win.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (direction, item) = match item.split_once(':') {
                Some(("out", item)) => (0..1, item),
                Some(("in", item)) => (1..2, item),
                Some((other, _)) => return Err(format!("{other}: a direction is out or in")),
                None => (0..2, item),
            };
            let (name, value) = item.split_once('=').ok_or_else(|| format!("{item}: expected NAME=VALUE"))?;
            if name == "seed" {
                spec.seed = count(value)?;
                continue;
            }
            for lane in &mut spec.lanes[direction] {
                lane.set(name, value)?;
            }
        }
        Ok(spec)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = self.lanes[0] == self.lanes[1];
        let directions: &[&str] = if both { &[""] } else { &["out:", "in:"] };
        for (direction, lane) in directions.iter().zip(&self.lanes) {
            for item in lane.to_string().split(',').filter(|item| !item.is_empty()) {
                write!(f, "{direction}{item},")?;
            }
        }
        write!(f, "seed={}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_apply_to_both_directions_or_to_one() {
        let spec: Spec = "loss=1%,delay=5ms,in:rate=100mbit,out:delay=1ms,seed=7".parse().unwrap();
        assert_eq!(spec.seed, 7);
        assert_eq!(spec.lanes[0].loss.single, spec.lanes[1].loss.single);
        assert_eq!((spec.lanes[0].delay_ns, spec.lanes[1].delay_ns), (1_000_000, 5_000_000));
        assert_eq!((spec.lanes[0].rate_bps, spec.lanes[1].rate_bps), (None, Some(100_000_000)));
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for text in [
            "",
            "seed=3",
            "loss=0.1%,burst=0.5%/20%,delay=5ms,jitter=100us,reorder=10%/5ms,duplicate=1%,corrupt=0.01%",
            "ecn=2%,mark=65,rate=1gbit,queue=100,mtu=1400,in:burst=1%/10%/50%,out:reorder=3ms",
        ] {
            let spec: Spec = text.parse().unwrap();
            assert_eq!(spec.to_string().parse::<Spec>(), Ok(spec), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "loss",
            "los=1%",
            "loss=1",
            "x:loss=1%",
            "loss=200%",
            "burst=1%",
            "burst=1%/0%",
            "reorder=10%",
            "delay=5",
            "rate=0bit",
            "seed=x",
            "queue=-1",
        ] {
            let answer = text.parse::<Spec>();
            // "loss=1" is a probability of one, and no mistake.
            assert_eq!(answer.is_err(), text != "loss=1", "{text}: {answer:?}");
        }
    }
}
