// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which slow path to talk to.

use super::{daemon::DaemonChannel, errno, error::explained, kernel::KernelChannel, ControlChannel};
use std::{io, path::PathBuf, str::FromStr, sync::Arc};

/// Environment variable that overrides the daemon's socket path.
pub const SOCKET_VARIABLE: &str = "TAS_SOCKET";
/// Environment variable with the name of a [`Backend`].
pub const BACKEND_VARIABLE: &str = "TAS_BACKEND";
/// Environment variable with the name of the instance.
pub const INSTANCE_VARIABLE: &str = "TAS_INSTANCE";
/// Instance when nothing is said.
pub const DEFAULT_INSTANCE: &str = "tas0";

/// Where the slow path runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// `tas.ko`, through `/dev/tas`.
    Kernel,
    /// `tas-slowpathd`, through its Unix socket.
    Daemon,
    /// The kernel if its module is loaded, else the daemon.
    #[default]
    Auto,
}

impl Backend {
    /// From TAS_BACKEND; [`Backend::Auto`] when it is unset.
    ///
    /// # Errors
    /// EINVAL for another value.
    pub fn from_environment() -> io::Result<Self> {
        match std::env::var(BACKEND_VARIABLE) {
            Ok(value) => value.parse(),
            Err(_) => Ok(Self::Auto),
        }
    }
}

impl FromStr for Backend {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        match text {
            "kernel" => Ok(Self::Kernel),
            "daemon" => Ok(Self::Daemon),
            "auto" | "" => Ok(Self::Auto),
            _ => Err(explained(libc::EINVAL, format!("backend `{text}`: type kernel, daemon or auto"))),
        }
    }
}

/// TAS_INSTANCE, or `tas0`.
pub fn instance_from_environment() -> String {
    std::env::var(INSTANCE_VARIABLE).unwrap_or_else(|_| DEFAULT_INSTANCE.into())
}

/// The daemon's socket for `instance`: TAS_SOCKET, or `/run/tas/<instance>.sock`.
pub fn socket_path(instance: &str) -> PathBuf {
    match std::env::var_os(SOCKET_VARIABLE) {
        Some(path) if !path.is_empty() => path.into(),
        _ => format!("/run/tas/{instance}.sock").into(),
    }
}

/// Opens a control channel to the slow path of `instance`.
///
/// # Errors
/// What stands in the way, with what to type; the errno is given by [`errno`].
pub fn open(backend: Backend, instance: &str) -> io::Result<Arc<dyn ControlChannel>> {
    match backend {
        Backend::Kernel => Ok(Arc::new(KernelChannel::open()?)),
        Backend::Daemon => Ok(Arc::new(DaemonChannel::open(&socket_path(instance))?)),
        Backend::Auto => match KernelChannel::open() {
            Ok(channel) => Ok(Arc::new(channel)),
            Err(kernel) if matches!(errno(&kernel), libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
                let daemon = DaemonChannel::open(&socket_path(instance));
                let channel =
                    daemon.map_err(|daemon| explained(errno(&daemon), format!("{kernel}; or {daemon}")))?;
                Ok(Arc::new(channel))
            }
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_both_ways() {
        // No daemon listens there; the kernel's part appears on hosts without the module.
        let error = DaemonChannel::open(std::path::Path::new("/nonexistent/tas.sock")).unwrap_err();
        assert_eq!(errno(&error), libc::ENOENT);
        assert!(error.to_string().contains("sudo tas-slowpathd"), "{error}");
        assert_eq!(errno(&"nearby".parse::<Backend>().unwrap_err()), libc::EINVAL);
    }
}
