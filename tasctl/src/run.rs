// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl run`: a command with its TCP sockets on TAS.

use crate::{client::Client, elf, interposer, Place};
use anyhow::{bail, Context as _, Result};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tas::control;

/// As env(1) and every shell exit when there is no such command.
const NOT_FOUND: u8 = 127;
/// When there is one which cannot be started.
const CANNOT_START: u8 = 126;
/// Bytes that hold a program's headers.
const HEADER_BYTES: u64 = 4096;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;

/// Becomes the command. Returns only if that failed.
///
/// # Errors
/// With `require`: there is no working TAS, or the command cannot be made to use it.
pub(crate) fn run(place: &Place, require: bool, command: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    let library = interposer::find()?;
    if let Err(error) = check_service(place).and_then(|()| check_program(program)) {
        if require {
            return Err(error.context("--require: the command would not use TAS"));
        }
        eprintln!("tasctl: {error:#}; the command uses Linux's sockets");
    }
    let mut child = Command::new(program);
    child.args(arguments).env("LD_PRELOAD", preload(&library, env::var_os("LD_PRELOAD")));
    child.env(control::INSTANCE_VARIABLE, place.instance());
    if let Some(backend) = place.backend {
        child.env(control::BACKEND_VARIABLE, backend.as_str());
    }
    if require {
        child.env("TAS_REQUIRE", "1");
    }
    let error = child.exec();
    eprintln!("tasctl: {}: {error}", program.to_string_lossy());
    Ok(ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_START }))
}

/// Our library comes first: its symbols must win.
fn preload(library: &Path, others: Option<OsString>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    list
}

fn check_service(place: &Place) -> Result<()> {
    let client = Client::open(place)?;
    if client.status()?.fastpath == 0 {
        bail!(
            "no fast path serves instance {}; type `sudo tas-fastpath --ip ADDRESS/PREFIX -- ...`",
            place.instance()
        );
    }
    Ok(())
}

/// Whether the loader will take our library into the program.
fn check_program(program: &OsStr) -> Result<()> {
    let Some(path) = resolve(program, env::var_os("PATH").as_deref()) else {
        return Ok(());
    };
    let metadata = fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
    let name = path.display();
    if metadata.permissions().mode() & SET_ID_BITS != 0 {
        bail!("{name} is set-user-id: the loader ignores LD_PRELOAD for it; run a copy without that bit");
    }
    let mut start = Vec::new();
    if let Ok(file) = fs::File::open(&path) {
        let _ = file.take(HEADER_BYTES).read_to_end(&mut start);
    }
    match elf::obstacle(&start) {
        Some(elf::Obstacle::Static) => bail!(
            "{name} is statically linked: LD_PRELOAD has no effect on it; use a dynamically linked build"
        ),
        Some(elf::Obstacle::OtherClass) => {
            bail!("{name} is not a 64-bit program: the library cannot be loaded into it")
        }
        None => Ok(()),
    }
}

/// The file execvp would start.
fn resolve(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path?).map(|directory| directory.join(program)).find(executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_library_is_preloaded_first() {
        let library = Path::new("/lib/a.so");
        assert_eq!(preload(library, None), "/lib/a.so");
        assert_eq!(preload(library, Some("b.so".into())), "/lib/a.so:b.so");
        assert_eq!(preload(library, Some("".into())), "/lib/a.so");
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        let found = resolve(OsStr::new("sh"), Some(OsStr::new("/nonexistent:/bin"))).unwrap();
        assert_eq!(found, Path::new("/bin/sh"));
        assert_eq!(resolve(OsStr::new("./x/y"), None), Some("./x/y".into()));
        assert_eq!(resolve(OsStr::new("no such command"), Some(OsStr::new("/bin"))), None);
        assert!(check_program(OsStr::new("sh")).is_ok());
    }
}
