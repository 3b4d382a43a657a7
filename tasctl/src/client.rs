// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control client behind every subcommand that asks an instance something.

use crate::Place;
use abi::message::{ApplicationEntry, Body, FlowEntry, Message, Op, SlowCounters, Status};
use anyhow::{Context as _, Result};
use std::{io, sync::Arc};
use tas::control::{self, attach, Backend, ControlChannel, Mapping, Target};

/// An attached control client.
pub(crate) struct Client {
    channel: Arc<dyn ControlChannel>,
    /// Fast-path cores of the instance.
    pub(crate) cores: u32,
}

impl Place {
    /// `--backend`, else TAS_BACKEND, else whichever is there.
    pub(crate) fn backend(&self) -> io::Result<Backend> {
        match self.backend {
            Some(name) => name.as_str().parse(),
            None => Backend::from_environment(),
        }
    }

    /// `--instance`, else TAS_INSTANCE, else `tas0`.
    pub(crate) fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(control::instance_from_environment)
    }
}

impl Client {
    /// Connects and takes the control role.
    ///
    /// # Errors
    /// Each says what is missing and what to type.
    pub(crate) fn open(place: &Place) -> io::Result<Self> {
        let instance = place.instance();
        let channel = control::open(place.backend()?, &instance)?;
        let cores = attach::control(&*channel, &instance)?.cores;
        Ok(Self { channel, cores })
    }

    /// "kernel" or "daemon".
    pub(crate) fn backend(&self) -> &'static str {
        self.channel.name()
    }

    fn ask<T: Body>(&self, op: Op, object: u32) -> io::Result<T> {
        let mut message = Message::new(op, object);
        self.channel.call(Target::Instance, &mut message, None)?;
        Ok(message.get())
    }

    /// What the instance is.
    pub(crate) fn status(&self) -> Result<Status> {
        self.ask(Op::Status, 0).context("the slow path does not tell its status")
    }

    /// Counters of the slow path.
    pub(crate) fn slow_counters(&self) -> Result<Vec<u64>> {
        let mut values = vec![];
        while values.len() < slowpath::counters::COUNT {
            let page: SlowCounters = self
                .ask(Op::SlowCounters, values.len() as u32)
                .context("the slow path does not tell its counters")?;
            values.extend(page.values);
        }
        values.truncate(slowpath::counters::COUNT);
        Ok(values)
    }

    /// Every flow.
    pub(crate) fn flows(&self) -> Result<Vec<FlowEntry>> {
        self.walk(Op::FlowEntry, |entry: &FlowEntry| entry.id)
    }

    /// Every listener.
    pub(crate) fn listeners(&self) -> Result<Vec<FlowEntry>> {
        self.walk(Op::ListenEntry, |entry: &FlowEntry| entry.id)
    }

    /// Every application.
    pub(crate) fn applications(&self) -> Result<Vec<ApplicationEntry>> {
        self.walk(Op::ApplicationEntry, |entry: &ApplicationEntry| entry.id)
    }

    /// Asks for the entry at or after an id until there is none.
    fn walk<T: Body>(&self, op: Op, id: impl Fn(&T) -> u32) -> Result<Vec<T>> {
        let mut entries = Vec::new();
        let mut next = 0u32;
        loop {
            match self.ask::<T>(op, next) {
                Ok(entry) if id(&entry) >= next => {
                    let at = id(&entry);
                    entries.push(entry);
                    match at.checked_add(1) {
                        Some(after) => next = after,
                        None => return Ok(entries),
                    }
                }
                Err(error) if control::errno(&error) != libc::ENOENT => {
                    return Err(error).with_context(|| format!("{op:?} {next}"));
                }
                _ => return Ok(entries),
            }
        }
    }

    /// The status pages of the fast path's cores.
    pub(crate) fn core_status(&self) -> Result<Option<Mapping>> {
        use abi::{
            core_status::CORE_STATUS_STRIDE,
            region::{Region, RegionKind},
        };
        if self.cores == 0 {
            return Ok(None);
        }
        let bytes = CORE_STATUS_STRIDE * self.cores as usize;
        let mapping = self.channel.map(Region::whole(RegionKind::CoreStatus, 0), bytes, false, None);
        Ok(Some(mapping.context("cannot map the counters of the fast path")?))
    }
}
