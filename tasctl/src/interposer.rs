// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where `libtas_interpose.so` is.

use anyhow::{bail, Context as _, Result};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The library that takes the place of libc's socket calls.
pub(crate) const LIBRARY: &str = "libtas_interpose.so";

/// Directories that are searched, relative to tasctl's own: beside it (a build directory), then where an
/// installation puts libraries.
const RELATIVE: [&str; 5] =
    [".", "../lib", "../lib/tas", "../lib/x86_64-linux-gnu", "../lib/aarch64-linux-gnu"];

/// Finds the library beside tasctl or in the library directory next to its own.
///
/// # Errors
/// It is not there; says where it was looked for and what to type.
pub(crate) fn find() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot tell where tasctl is; is /proc mounted?")?;
    let directory = program.parent().unwrap_or(Path::new("/"));
    find_from(directory)
}

fn find_from(directory: &Path) -> Result<PathBuf> {
    for relative in RELATIVE {
        let candidate = directory.join(relative).join(LIBRARY);
        if candidate.is_file() {
            return candidate
                .canonicalize()
                .with_context(|| format!("cannot resolve {}", candidate.display()));
        }
    }
    bail!(
        "{LIBRARY} is neither in {} nor in the library directories next to it; \
         in a source tree type `cargo build -p tas-interpose`, and keep it beside tasctl elsewhere",
        directory.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_is_found_beside_and_in_the_library_directory() {
        let root = env::temp_dir().join(format!("tasctl-interposer-{}", std::process::id()));
        let (bin, lib) = (root.join("bin"), root.join("lib"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&lib).unwrap();
        let error = find_from(&bin).unwrap_err().to_string();
        assert!(error.contains("cargo build -p tas-interpose"), "{error}");
        fs::write(lib.join(LIBRARY), "").unwrap();
        assert_eq!(find_from(&bin).unwrap(), lib.join(LIBRARY).canonicalize().unwrap());
        fs::write(bin.join(LIBRARY), "").unwrap();
        assert_eq!(find_from(&bin).unwrap(), bin.join(LIBRARY).canonicalize().unwrap());
        fs::remove_dir_all(&root).unwrap();
    }
}
