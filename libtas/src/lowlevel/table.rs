// SPDX-License-Identifier: MIT OR Apache-2.0
//! From flow id to connection, grown in pages: an instance may have millions of flows, a context
//! a few.

use super::flow::Flow;
use std::sync::Arc;

const PAGE_SHIFT: u32 = 9;
/// Entries of a page: 4 KiB of pointers.
const PAGE_ENTRIES: usize = 1 << PAGE_SHIFT;

type Page = Box<[Option<Arc<Flow>>; PAGE_ENTRIES]>;

/// The connections whose events go to one context.
pub(super) struct Table {
    pages: Vec<Option<Page>>,
    flows: u32,
    count: usize,
}

impl Table {
    /// For flow ids below `flows`.
    pub(super) fn new(flows: u32) -> Self {
        let pages = flows.div_ceil(PAGE_ENTRIES as u32) as usize;
        Self { pages: (0..pages).map(|_| None).collect(), flows, count: 0 }
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&Arc<Flow>> {
        self.pages.get((id >> PAGE_SHIFT) as usize)?.as_ref()?[id as usize & (PAGE_ENTRIES - 1)].as_ref()
    }

    /// Puts `flow` in its place; returns what was there: a connection that ended unnoticed.
    pub(super) fn insert(&mut self, flow: Arc<Flow>) -> Result<Option<Arc<Flow>>, Arc<Flow>> {
        let id = flow.id;
        if id >= self.flows {
            return Err(flow);
        }
        let Some(page) = self.pages.get_mut((id >> PAGE_SHIFT) as usize) else {
            return Err(flow);
        };
        let page = page.get_or_insert_with(|| Box::new([const { None }; PAGE_ENTRIES]));
        let old = page[id as usize & (PAGE_ENTRIES - 1)].replace(flow);
        self.count += usize::from(old.is_none());
        Ok(old)
    }

    /// Takes `flow` out, if it is there.
    pub(super) fn remove(&mut self, flow: &Flow) -> Option<Arc<Flow>> {
        let page = self.pages.get_mut((flow.id >> PAGE_SHIFT) as usize)?.as_mut()?;
        let entry = &mut page[flow.id as usize & (PAGE_ENTRIES - 1)];
        if !std::ptr::eq(Arc::as_ptr(entry.as_ref()?), flow) {
            return None;
        }
        self.count -= 1;
        entry.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.pages.iter().flatten().flat_map(|page| page.iter().flatten())
    }

    /// Connections in the table.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}
