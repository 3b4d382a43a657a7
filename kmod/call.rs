// SPDX-License-Identifier: GPL-2.0-only
//! A control call: the message is copied in once, validated, carried out, and copied out once.

use abi::{ioctl, message::{Message, Op, BODY_BYTES, MESSAGE_BYTES}};
use kernel::{
    error::code::*, fs::{file::FileDescriptorReservation, File}, prelude::*, sync::aref::ARef,
    uaccess::{UserPtr, UserSlice},
};
use zerocopy::{FromZeros, IntoBytes};

/// A descriptor made by a call. It is installed last, when nothing can fail any more: from then on
/// another thread may already use and close it.
pub(crate) struct NewDescriptor {
    pub(crate) reservation: FileDescriptorReservation,
    pub(crate) file: ARef<File>,
}

/// Carries out ioctl `number` with the message at `argument`. `carry_out` gets the operation and the
/// message, and leaves the reply in it. What the call itself came to is in [`Message::error`]; the ioctl
/// fails only if there is no such operation (ENOTTY) or the message cannot be copied (EFAULT) or
/// contradicts the number (EINVAL).
pub(crate) fn carry_out(
    number: u32,
    argument: usize,
    carry_out: impl FnOnce(Op, &mut Message) -> Result<Option<NewDescriptor>>,
) -> Result<isize> {
    let op = ioctl::operation(number).ok_or(ENOTTY)?;
    let user = UserPtr::from_addr(argument);
    let mut message = Message::new_zeroed();
    UserSlice::new(user, MESSAGE_BYTES).reader().read_slice(message.as_mut_bytes())?;
    if message.op != op as u32 {
        return Err(EINVAL);
    }
    let result = carry_out(op, &mut message);
    let descriptor = match result {
        Ok(descriptor) => {
            message.error = 0;
            descriptor
        }
        Err(error) => {
            message.error = error.to_errno().unsigned_abs();
            if error != EPROTO {
                message.body = [0; BODY_BYTES]; // EPROTO carries our version and hash
            }
            None
        }
    };
    UserSlice::new(user, MESSAGE_BYTES).writer().write_slice(message.as_bytes())?;
    if let Some(descriptor) = descriptor {
        descriptor.reservation.fd_install(descriptor.file);
    }
    Ok(0)
}
