// SPDX-License-Identifier: GPL-2.0-only
//! Who may map what, and how.

use crate::{
    roles::{self, FastPath},
    sys::{self, Map},
    Case,
};
use abi::{
    clock::ClockPage,
    message::{AttachFast, Grow, Message, Op},
    pool::SEGMENT_BYTES,
    region::{recovery_blocks, KernelRingLayout, Region, RegionKind},
};
use std::os::fd::OwnedFd;

pub(crate) const CASES: &[Case] = &[
    ("regions_are_for_their_roles", |_| regions_are_for_their_roles()),
    ("jumbo_frames_have_larger_rings", |_| jumbo_frames_have_larger_rings()),
    ("read_only_stays_read_only", |_| read_only_stays_read_only()),
    ("mappings_are_shared_whole_and_not_executable", |_| mappings_are_shared_whole_and_not_executable()),
    ("offsets_that_name_nothing", |_| offsets_that_name_nothing()),
    ("both_sides_see_the_same_bytes", |_| both_sides_see_the_same_bytes()),
    ("pools_are_mapped_by_huge_pages", |_| pools_are_mapped_by_huge_pages()),
    ("children_inherit_no_mapping", |_| children_inherit_no_mapping()),
    ("parts_of_a_mapping_can_go", |_| parts_of_a_mapping_can_go()),
    ("pools_and_maps_grow_to_a_limit", |_| pools_and_maps_grow_to_a_limit()),
    ("the_clock_runs", |_| the_clock_runs()),
];

const READ: i32 = libc::PROT_READ;
const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const SEGMENT: usize = SEGMENT_BYTES as usize;

fn whole(kind: RegionKind) -> Region {
    Region::whole(kind, 0)
}

fn regions_are_for_their_roles() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (one, first) = roles::application();
    let (two, second) = roles::application();
    let control = roles::control();
    let (context, _wake) = roles::context(&one).unwrap();
    let of_first = |kind| Region::whole(kind, first.application);
    let flows = fast.reply.flows as usize;
    // Region, bytes, and protection allowed to: fast path, first application, second, control.
    let (no, ro, rw) = (0, READ, WRITE);
    let table = [
        (whole(RegionKind::Clock), 4096, [ro, ro, ro, ro]),
        (whole(RegionKind::CoreStatus), 2 * 4096, [rw, ro, ro, ro]),
        (whole(RegionKind::FlowHot), flows * 128, [rw, no, no, no]),
        (whole(RegionKind::FlowCold), flows * 128, [ro, no, no, no]),
        (whole(RegionKind::Adjacencies), 32768, [ro, no, no, no]),
        (whole(RegionKind::Recovery), recovery_blocks(1024) as usize * 128, [rw, no, no, no]),
        (Region::whole(RegionKind::KernelRings, 1), roles::RINGS.bytes(), [rw, no, no, no]),
        (Region::whole(RegionKind::Context, context.context), context.bytes as usize, [rw, rw, no, no]),
        (of_first(RegionKind::Pool), SEGMENT, [rw, rw, no, no]),
        (of_first(RegionKind::Maps), SEGMENT, [rw, rw, no, no]),
        (Region { byte_offset: SEGMENT_BYTES, ..of_first(RegionKind::Pool) }, SEGMENT, [rw, rw, no, no]),
    ];
    assert_ne!(first.application, second.application);
    let files: [&OwnedFd; 4] = [&fast.file, &one, &two, &control];
    for (region, bytes, allowed) in table {
        for (role, (file, allowed)) in files.iter().zip(allowed).enumerate() {
            for protection in [READ, WRITE] {
                let result = Map::new(*file, region, bytes, protection);
                let expected = allowed & protection == protection;
                match result {
                    Ok(map) => {
                        assert!(expected, "{region:?} mapped by role {role} with {protection}");
                        // Populated and zeroed to the last byte, or in use by its owner.
                        map.read(0);
                        map.read(bytes - 1);
                    }
                    Err(error) => {
                        assert!(!expected, "{region:?} refused to role {role} with {protection}: {error}");
                        assert_eq!(error, libc::EACCES, "{region:?} role {role}");
                    }
                }
            }
        }
    }
}

fn jumbo_frames_have_larger_rings() {
    let request = AttachFast { mtu_bytes: 9000, ..roles::fast_request() };
    let fast = FastPath::start(&request, true).unwrap();
    assert_eq!(fast.reply.mtu_bytes, 9000);
    let bytes = KernelRingLayout::of(9000).bytes();
    assert!(bytes > roles::RINGS.bytes());
    let rings = Map::new(&*fast.file, Region::whole(RegionKind::KernelRings, 1), bytes, WRITE).unwrap();
    rings.write(bytes - 1, 42);
    assert_eq!((rings.read(0), rings.read(bytes - 1)), (0, 42));
}

fn read_only_stays_read_only() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    for kind in [RegionKind::Clock, RegionKind::FlowCold, RegionKind::Adjacencies] {
        let map = Map::new(&*fast.file, whole(kind), 4096, READ).unwrap();
        assert_eq!(map.protect(WRITE).err(), Some(libc::EACCES), "{kind:?}");
        assert_eq!(map.protect(READ | libc::PROT_EXEC).err(), Some(libc::EACCES), "{kind:?}");
        let written = || Map::new(&*fast.file, whole(kind), 4096, READ).unwrap().write(0, 1);
        assert!(sys::faults(written), "{kind:?} was written");
    }
}

fn mappings_are_shared_whole_and_not_executable() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let hot = whole(RegionKind::FlowHot).offset();
    let at = |bytes, protection, flags| Map::at(&*fast.file, hot, bytes, protection, flags).err();
    assert_eq!(at(4096, READ, libc::MAP_PRIVATE), Some(libc::EINVAL));
    assert_eq!(at(4096, WRITE | libc::PROT_EXEC, libc::MAP_SHARED), Some(libc::EACCES));
    assert_eq!(at(1024 * 128 + 4096, WRITE, libc::MAP_SHARED), Some(libc::EINVAL));
    // A mapping cannot be stretched beyond its region either.
    let map = Map::at(&*fast.file, hot, 4096, WRITE, libc::MAP_SHARED).unwrap();
    // SAFETY: our own mapping; on success it would have moved, which the test would report.
    let grown = unsafe { libc::mremap(map.start.cast(), 4096, 1 << 20, libc::MREMAP_MAYMOVE) };
    assert_eq!((grown, sys::errno()), (libc::MAP_FAILED, libc::EFAULT));
}

fn offsets_that_name_nothing() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (_application, reply) = roles::application();
    let pool = Region::whole(RegionKind::Pool, reply.application);
    let beyond = Region { byte_offset: reply.pool_segments * SEGMENT_BYTES, ..pool };
    for offset in [
        0,
        4096,
        11 << 56,
        0x7f << 56,
        Region::whole(RegionKind::FlowHot, 1).offset(),
        Region { byte_offset: 4096, ..whole(RegionKind::FlowHot) }.offset(),
        Region::whole(RegionKind::KernelRings, 2).offset(),
        Region::whole(RegionKind::Context, 77).offset(),
        Region::whole(RegionKind::Context, 0xff_ffff).offset(),
        Region::whole(RegionKind::Pool, 0).offset(),
        Region { byte_offset: 4096, ..pool }.offset(),
        beyond.offset(),
    ] {
        let result = Map::at(&*fast.file, offset, 4096, READ, libc::MAP_SHARED);
        assert_eq!(result.err(), Some(libc::ENOENT), "{offset:#x}");
    }
}

fn both_sides_see_the_same_bytes() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    for segment in 0..reply.pool_segments {
        let region =
            Region { kind: RegionKind::Pool, index: reply.application, byte_offset: segment * SEGMENT_BYTES };
        let mine = Map::new(&file, region, SEGMENT, WRITE).unwrap();
        let theirs = Map::new(&*fast.file, region, SEGMENT, WRITE).unwrap();
        for offset in (0..SEGMENT).step_by(4096) {
            assert_eq!(mine.read(offset), 0);
            mine.write(offset + 5, segment as u8 + 1);
            assert_eq!(theirs.read(offset + 5), segment as u8 + 1);
            theirs.write(offset + 4095, 9);
            assert_eq!(mine.read(offset + 4095), 9);
        }
    }
}

/// Bytes of `field` of the mapping that contains `address`.
fn smaps_bytes(address: *const u8, field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{:x}-", address as usize);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    let line = lines.find(|line| line.starts_with(field)).unwrap_or_else(|| panic!("no {field} for {start}"));
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

fn pools_are_mapped_by_huge_pages() {
    let _fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    let (mut huge, mut resident) = (0, 0);
    for segment in 0..reply.pool_segments {
        let region =
            Region { kind: RegionKind::Pool, index: reply.application, byte_offset: segment * SEGMENT_BYTES };
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let map = Map::at(&file, region.offset(), SEGMENT, WRITE, flags).unwrap();
        assert_eq!(map.start as usize % SEGMENT, 0, "aligned to its size");
        huge += smaps_bytes(map.start, "FilePmdMapped:");
        resident += smaps_bytes(map.start, "Rss:");
    }
    println!("  {huge} of {resident} bytes mapped by 2 MiB pages");
    assert_eq!(resident, reply.pool_segments as usize * SEGMENT, "MAP_POPULATE left holes");
    // Memory may be fragmented, but hardly all of it.
    assert!(huge > 0);
}

fn children_inherit_no_mapping() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let map = Map::new(&*fast.file, whole(RegionKind::FlowHot), 4096, WRITE).unwrap();
    assert!(sys::faults(|| assert_eq!(map.read(0), 0)), "the child has the mapping");
}

fn parts_of_a_mapping_can_go() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    let region = Region::whole(RegionKind::Pool, reply.application);
    let map = Map::new(&file, region, SEGMENT, WRITE).unwrap();
    for offset in (0..SEGMENT).step_by(4096) {
        map.write(offset, 7);
    }
    // SAFETY: a hole in our own mapping; only the rest of it is used afterwards.
    unsafe {
        assert_eq!(libc::munmap(map.start.add(8192).cast(), 4096), 0);
        assert_eq!(libc::mprotect(map.start.add(65536).cast(), 4096, READ), 0);
        assert_eq!(libc::madvise(map.start.cast(), SEGMENT, libc::MADV_DONTNEED), -1, "it has a hole");
    }
    assert_eq!((map.read(4096), map.read(12288), map.read(65536), map.read(SEGMENT - 4096)), (7, 7, 7, 7));
    let theirs = Map::new(&*fast.file, region, SEGMENT, READ).unwrap();
    assert_eq!(theirs.read(8192), 7);
}

fn grow(file: &OwnedFd, kind: u32) -> Result<u32, i32> {
    let mut message = Message::with(Op::Grow, 0, &Grow { kind, ..Grow::default() });
    sys::call(file, &mut message).map(|()| message.get::<Grow>().segments)
}

fn pools_and_maps_grow_to_a_limit() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (file, reply) = roles::application();
    for wrong in [0, 1, RegionKind::Context as u32, 11, u32::MAX] {
        assert_eq!(grow(&file, wrong).err(), Some(libc::EINVAL));
    }
    assert_eq!(grow(&file, RegionKind::Pool as u32), Ok(reply.pool_segments + 1));
    let mut segments = reply.map_segments;
    let error = loop {
        match grow(&file, RegionKind::Maps as u32) {
            Ok(now) => {
                segments += 1;
                assert_eq!(now, segments);
            }
            Err(error) => break error,
        }
    };
    assert_eq!((error, segments), (libc::ENOBUFS, abi::pool::MAP_SEGMENTS_MAX));
    // Each was announced before the call returned.
    let notices = fast.seen.lock().unwrap();
    let maps = notices.iter().filter(|notice| notice.kind == abi::message::notice::MAP_SEGMENT).count();
    assert_eq!(maps as u32, segments);
}

fn the_clock_runs() {
    let _fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let map = Map::new(&roles::control(), whole(RegionKind::Clock), 4096, READ).unwrap();
    // SAFETY: the mapping holds a clock page of atomics.
    let clock = unsafe { &*map.start.cast::<ClockPage>() };
    // SAFETY: no precondition.
    let now_us = || clock.microseconds(unsafe { core::arch::x86_64::_rdtsc() });
    // Read between two readings of the wall clock at either end, so that it does not matter when
    // this thread runs.
    let outer = std::time::Instant::now();
    let start = now_us();
    let inner = std::time::Instant::now();
    let mut last = start;
    while inner.elapsed().as_millis() < 200 {
        let now = now_us();
        assert!(now + 1000 >= last, "the clock ran backwards: {last} to {now}");
        last = now;
    }
    let least = inner.elapsed().as_micros() as u64;
    let passed = now_us() - start;
    let most = outer.elapsed().as_micros() as u64;
    println!("  {least} to {most} us of wall time are {passed} us of TCP time");
    assert!(passed >= least - least / 10 && passed <= most + most / 10);
    assert_eq!(clock.fastpath_epoch.load(std::sync::atomic::Ordering::Acquire), 2);
}
