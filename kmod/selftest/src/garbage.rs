// SPDX-License-Identifier: GPL-2.0-only
//! Garbage in every byte: messages of all kinds to all kinds of files, and in all shared memory.
//! Nothing is expected of it except that the module survives and others notice nothing.

use crate::{
    roles::{self, FastPath},
    sys::{self, Map},
    Case, Options,
};
use abi::{
    ioctl,
    message::{Message, Op},
    region::{Region, RegionKind},
    version,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub(crate) const CASES: &[Case] = &[
    ("bad_calls_are_refused", |_| bad_calls_are_refused()),
    ("random_messages", random_messages),
    ("random_shared_memory", random_shared_memory),
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    /// A value that is often small, at a limit, or has few bits.
    fn field(&mut self) -> u32 {
        match self.below(5) {
            0 => self.below(20) as u32,
            1 => u32::MAX - self.below(3) as u32,
            2 => 1 << self.below(32),
            3 => (1u32 << self.below(32)).wrapping_sub(1),
            _ => self.next() as u32,
        }
    }
}

fn bad_calls_are_refused() {
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (application, _) = roles::application();
    let (context, _wake) = roles::context(&application).unwrap();
    let (_, socket) = roles::socket(&application, context.context, 0).unwrap();
    let mut message = Message::new(Op::Names, 0);
    let good = std::ptr::from_mut(&mut message) as usize;
    for file in [&*fast.file, &application, &socket] {
        for number in [
            0,
            1,
            0x5401,
            u32::MAX,
            ioctl::number(Op::Names) ^ (1 << 16),
            ioctl::number(Op::Names) ^ (1 << 30),
            ioctl::number(Op::Names) & !0xff | 99,
        ] {
            assert_eq!(sys::raw_ioctl(file, number, good).err(), Some(libc::ENOTTY), "{number:#x}");
        }
        assert_eq!(
            sys::raw_ioctl(file, ioctl::number(Op::Bind), good).err(),
            Some(libc::EINVAL),
            "op contradicts the number"
        );
        for bad in [0, 1, 4096, usize::MAX, 0xffff_8000_0000_0000, 0x7fff_ffff_f000] {
            assert_eq!(
                sys::raw_ioctl(file, ioctl::number(Op::Names), bad).err(),
                Some(libc::EFAULT),
                "{bad:#x}"
            );
        }
        let mut byte = 0u8;
        // SAFETY: whatever they do, they get valid memory of one byte.
        unsafe {
            assert_eq!(libc::read(file.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1), -1);
            assert_eq!(libc::write(file.as_raw_fd(), std::ptr::from_ref(&byte).cast(), 1), -1);
        }
    }
    // The reply cannot be written: the socket made must not stay.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let page = {
        // SAFETY: a new page of our own.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        Map { start: start.cast(), bytes: 4096 }
    };
    let request = abi::message::Socket { family: 2, context: context.context, ..Default::default() };
    // SAFETY: the page is large enough and aligned.
    unsafe { page.start.cast::<Message>().write(Message::with(Op::Socket, 0, &request)) };
    page.protect(libc::PROT_READ).unwrap();
    let before = descriptors();
    for _ in 0..100 {
        let result = sys::raw_ioctl(&application, ioctl::number(Op::Socket), page.start as usize);
        assert_eq!(result.err(), Some(libc::EFAULT));
    }
    assert_eq!(descriptors(), before);
}

fn random_message(random: &mut Random) -> (u32, Message) {
    let op = Op::ALL[random.below(Op::ALL.len() as u64) as usize];
    let mut message = Message::new(op, random.field());
    message.flags = random.field();
    message.error = random.field();
    let words = match random.below(4) {
        0 => 0,
        1 => 60,
        _ => random.below(60) as usize,
    };
    for word in message.body.chunks_exact_mut(4).take(words) {
        word.copy_from_slice(&random.field().to_ne_bytes());
    }
    // Half of the attaches get past the first check.
    let (hash, number) = match op {
        Op::AttachFast => (version::FAST_HASH, version::FAST_VERSION),
        Op::AttachApplication => (version::APPLICATION_HASH, version::APPLICATION_VERSION),
        _ => (version::CONTROL_HASH, version::CONTROL_VERSION),
    };
    if matches!(op, Op::AttachFast | Op::AttachApplication | Op::AttachControl) && random.below(2) == 0 {
        message.body[..8].copy_from_slice(&hash.to_ne_bytes());
        message.body[8..12].copy_from_slice(&number.to_ne_bytes());
        if op == Op::AttachFast && random.below(2) == 0 {
            message.body[12..16].copy_from_slice(&(random.below(18) as u32).to_ne_bytes());
            message.body[16..32].copy_from_slice(&crate::roles::OTHER);
            // Small enough to be made quickly; other tests try the limits.
            message.body[32..36].copy_from_slice(&(random.below(5000) as u32).to_ne_bytes());
        }
        if op != Op::AttachFast && random.below(2) == 0 {
            message.body[16..32].copy_from_slice(&crate::roles::NAME);
        }
    }
    if random.below(50) == 0 {
        message.op = random.field();
    }
    (ioctl::number(op), message)
}

/// Sends one; a descriptor that comes back is closed, or kept for more garbage.
fn send(file: &OwnedFd, random: &mut Random, made: &mut Vec<OwnedFd>) {
    let (number, mut message) = random_message(random);
    // Its own descriptors are what garbage might name: eventfds only, or none.
    let result = sys::raw_ioctl(file, number, std::ptr::from_mut(&mut message) as usize);
    if result.is_err() || message.error != 0 {
        return;
    }
    let descriptor = match Op::from_u32(message.op) {
        Some(Op::Socket) => message.get::<abi::message::Socket>().descriptor,
        Some(Op::Accept) => message.get::<abi::message::FlowInfo>().descriptor,
        _ => return,
    };
    // SAFETY: installed for this call.
    made.push(unsafe { OwnedFd::from_raw_fd(descriptor as i32) });
    if made.len() > 20 {
        made.swap_remove(random.below(20) as usize);
    }
}

fn random_messages(options: &Options) {
    let mut random = Random(options.seed);
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let (witness, _) = roles::application();
    let (context, _wake) = roles::context(&witness).unwrap();
    let (_, socket) = roles::socket(&witness, context.context, 0).unwrap();
    let (liar, _) = roles::application();
    let _ = roles::context(&liar).unwrap();
    let control = roles::control();
    let mut made = Vec::new();
    for _ in 0..options.rounds {
        send(&liar, &mut random, &mut made);
        send(&control, &mut random, &mut made);
        send(&sys::open(), &mut random, &mut Vec::new());
        if !made.is_empty() {
            let index = random.below(made.len() as u64) as usize;
            let victim = made[index].try_clone().unwrap();
            send(&victim, &mut random, &mut made);
        }
    }
    // The witness has noticed nothing.
    sys::simple(&socket, Op::Names, 0).unwrap();
    sys::simple(&*fast.file, Op::WakeContext, context.context).unwrap();
    drop((made, liar));
    // A lying fast path may end its own instance, not the module.
    for _ in 0..options.rounds {
        send(&fast.file, &mut random, &mut Vec::new());
    }
    assert!(sys::simple(&control, Op::Status, 0).is_ok());
}

/// Fills a mapping with random words.
fn scribble(map: &Map, random: &mut Random) {
    for offset in (0..map.bytes).step_by(8) {
        // SAFETY: inside the mapping, aligned.
        unsafe { map.start.add(offset).cast::<u64>().write_volatile(random.next()) };
    }
}

fn random_shared_memory(options: &Options) {
    let mut random = Random(options.seed ^ 1);
    let fast = FastPath::start(&roles::fast_request(), true).unwrap();
    let control = roles::control();
    let (witness, _) = roles::application();
    let (context, _wake) = roles::context(&witness).unwrap();
    let (_, socket) = roles::socket(&witness, context.context, 0).unwrap();
    {
        let (liar, reply) = roles::application();
        let (mine, _wake) = roles::context(&liar).unwrap();
        let write = libc::PROT_READ | libc::PROT_WRITE;
        let maps = [
            Map::new(&liar, Region::whole(RegionKind::Context, mine.context), mine.bytes as usize, write)
                .unwrap(),
            Map::new(&liar, Region::whole(RegionKind::Maps, reply.application), 2 << 20, write).unwrap(),
            Map::new(&liar, Region::whole(RegionKind::Pool, reply.application), 2 << 20, write).unwrap(),
        ];
        for _ in 0..4 {
            maps.iter().for_each(|map| scribble(map, &mut random));
            assert!(sys::simple(&socket, Op::Names, 0).is_ok());
        }
        drop(maps);
        drop(liar);
        fast.wait_removed(reply.application);
    }
    sys::simple(&*fast.file, Op::WakeContext, context.context).unwrap();
    // The fast path's own memory: the module stays up, and goes on answering.
    let maps = roles::fast_maps(&fast);
    for _ in 0..8 {
        maps.iter().for_each(|map| scribble(map, &mut random));
        let _ = sys::simple(&*fast.file, Op::WakeSlowpath, 0);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(sys::simple(&control, Op::Status, 0).is_ok());
        let _ = sys::simple(&socket, Op::Names, 0);
    }
}
