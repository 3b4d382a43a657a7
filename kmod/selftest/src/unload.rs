// SPDX-License-Identifier: GPL-2.0-only
//! `rmmod` is refused while anything of the module is in use.

use crate::{
    roles::{self, eventually, FastPath},
    sys::{self, Map},
    Case,
};
use abi::region::{Region, RegionKind};

pub(crate) const CASES: &[Case] = &[("in_use_means_loaded", |_| in_use_means_loaded())];

fn refused(while_open: &str) {
    assert_eq!(sys::rmmod().err(), Some(libc::EWOULDBLOCK), "rmmod went ahead: {while_open}");
}

fn in_use_means_loaded() {
    let file = sys::open();
    refused("an open, unattached file");
    drop(file);
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    refused("a fast path");
    let (file, reply) = roles::application();
    let (context, _wake) = roles::context(&file).unwrap();
    let (_, socket) = roles::socket(&file, context.context, libc::O_CLOEXEC).unwrap();
    let pool = Region::whole(RegionKind::Pool, reply.application);
    let map = Map::new(&file, pool, 4096, libc::PROT_READ).unwrap();
    drop(fast);
    refused("an application");
    drop(file);
    refused("a mapping");
    drop(map);
    refused("a socket whose application is gone");
    eventually("the instance is gone", || {
        roles::attach_control(&sys::open(), roles::NAME).err() == Some(libc::ENODEV)
    });
    refused("a socket whose instance is gone");
    drop(socket);
}
