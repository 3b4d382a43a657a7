// SPDX-License-Identifier: GPL-2.0-only
//! A small file system of the module's own, mounted nowhere: sockets look like sockets to `fstat` (S_IFSOCK)
//! and in `/proc/PID/fd` (`socket:[tas:ID]`). All files share one inode.

use crate::shim;
use core::{cell::UnsafeCell, ptr::NonNull};
use kernel::{
    bindings, error::{code::*, from_err_ptr}, ffi, fs::File, prelude::*, sync::aref::ARef,
};

/// S_IFSOCK with the permissions that Linux's sockets show.
const MODE: bindings::umode_t = 0o140_777;

/// Something C keeps a pointer to and may write.
#[repr(transparent)]
struct Static<T>(UnsafeCell<T>);
// SAFETY: handed to C, which does its own locking.
unsafe impl<T> Sync for Static<T> {}

static DENTRIES: Static<bindings::dentry_operations> = Static(UnsafeCell::new(bindings::dentry_operations {
    d_dname: Some(shim::tas_shim_socket_name),
    ..pin_init::zeroed()
}));
static INODES: Static<bindings::inode_operations> = Static(UnsafeCell::new(bindings::inode_operations {
    getattr: Some(attributes),
    ..pin_init::zeroed()
}));
/// Without an owner: otherwise its mount would keep the module from being unloaded.
static TYPE: Static<bindings::file_system_type> = Static(UnsafeCell::new(bindings::file_system_type {
    name: c"tas_sockfs".as_ptr().cast(),
    init_fs_context: Some(init),
    kill_sb: Some(bindings::kill_anon_super),
    ..pin_init::zeroed()
}));

unsafe extern "C" fn init(context: *mut bindings::fs_context) -> ffi::c_int {
    // SAFETY: called with a new context; the operations are 'static.
    unsafe { shim::tas_shim_init_sockfs(context, DENTRIES.0.get()) }
}

/// The inode itself has no type: an S_IFSOCK inode's files are taken for `struct socket` elsewhere in
/// the kernel (AppArmor).
unsafe extern "C" fn attributes(
    map: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    mask: u32,
    _flags: ffi::c_uint,
) -> ffi::c_int {
    // SAFETY: valid for the call.
    unsafe {
        let dentry = (*path).dentry;
        bindings::generic_fillattr(map, mask, (*dentry).d_inode, stat);
        (*stat).mode = MODE;
        (*stat).ino = (*dentry).d_fsdata as u64;
    }
    0
}

/// The mounted file system and its one inode.
pub(crate) struct SocketMount {
    mount: NonNull<bindings::vfsmount>,
    inode: NonNull<bindings::inode>,
}

// SAFETY: reference-counted kernel objects.
unsafe impl Send for SocketMount {}
// SAFETY: as above.
unsafe impl Sync for SocketMount {}

impl SocketMount {
    /// Mounts it. ENOMEM.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: the type is 'static; what was made is undone on failure.
        unsafe {
            let mount = NonNull::new(from_err_ptr(bindings::kern_mount(TYPE.0.get()))?).ok_or(ENOMEM)?;
            let inode = match from_err_ptr(bindings::alloc_anon_inode((*mount.as_ptr()).mnt_sb)) {
                Ok(inode) => inode,
                Err(error) => {
                    bindings::kern_unmount(mount.as_ptr());
                    return Err(error);
                }
            };
            (*inode).i_op = INODES.0.get();
            Ok(Self { mount, inode: NonNull::new(inode).ok_or(ENOMEM)? })
        }
    }

    /// A file of socket `id` with `operations`, which name this module as owner. It owns `private` if
    /// this succeeds. ENFILE, ENOMEM.
    ///
    /// # Safety
    /// `operations` are 'static and expect `private`.
    pub(crate) unsafe fn open(
        &self,
        id: u32,
        operations: *const bindings::file_operations,
        private: *mut ffi::c_void,
        flags: u32,
    ) -> Result<ARef<File>> {
        // SAFETY: the file takes over one reference to the module and one to the inode, which are
        // given back if there is none.
        unsafe {
            if !bindings::try_module_get((*operations).owner) {
                return Err(ENODEV);
            }
            let inode = self.inode.as_ptr();
            bindings::ihold(inode);
            let name = c"tas".as_ptr().cast();
            let file = bindings::alloc_file_pseudo(inode, self.mount.as_ptr(), name, flags as ffi::c_int, operations);
            let file = match from_err_ptr(file) {
                Ok(file) => file,
                Err(error) => {
                    bindings::iput(inode);
                    bindings::module_put((*operations).owner);
                    return Err(error);
                }
            };
            (*file).private_data = private;
            (*(*file).__bindgen_anon_1.f_path.dentry).d_fsdata = id as usize as *mut ffi::c_void;
            Ok(ARef::from_raw(NonNull::new(file).ok_or(ENOMEM)?.cast()))
        }
    }
}

impl Drop for SocketMount {
    fn drop(&mut self) {
        // SAFETY: no file is left, as each pins the module.
        unsafe {
            bindings::iput(self.inode.as_ptr());
            bindings::kern_unmount(self.mount.as_ptr());
        }
    }
}
