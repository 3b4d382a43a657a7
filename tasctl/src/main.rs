// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tasctl`: run programs on TAS and look at what it does.
//!
//! Exit status: 0 success; 1 something failed (`doctor`: a check failed); 2 wrong usage; `run` exits as
//! the command does, or with 127 when there is no such command and 126 when it cannot be started.

mod client;
mod counters;
mod doctor;
mod elf;
mod flows;
mod format;
mod interposer;
mod run;
mod status;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, io, process::ExitCode};

/// Run programs on TAS, and look at what it does.
#[derive(Debug, Parser)]
#[command(
    name = "tasctl",
    version,
    after_help = "Environment: TAS_BACKEND, TAS_INSTANCE and TAS_SOCKET \
    stand for the options that are not given."
)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which slow path.
#[derive(Debug, Clone, Args)]
struct Place {
    /// Where the slow path runs: the module if it is loaded, else the daemon, when nothing is said.
    #[arg(long, global = true, value_enum)]
    backend: Option<BackendName>,
    /// Instance name [default: tas0].
    #[arg(long, global = true, value_name = "NAME")]
    instance: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// tas.ko, through /dev/tas.
    Kernel,
    /// tas-slowpathd, through its Unix socket.
    Daemon,
    /// Whichever is there.
    Auto,
}

impl BackendName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Daemon => "daemon",
            Self::Auto => "auto",
        }
    }
}

#[derive(Debug, Args)]
struct Output {
    /// Print JSON.
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command with its TCP sockets on TAS.
    Run {
        /// Fail rather than fall back to Linux's sockets.
        #[arg(long)]
        require: bool,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Show the instance and the applications on it.
    Status(Output),
    /// List connections, in the manner of ss.
    Flows {
        /// List listening sockets instead.
        #[arg(short, long)]
        listen: bool,
        /// Add a line of details under each connection.
        #[arg(short, long)]
        info: bool,
        /// Leave the header line out.
        #[arg(short = 'H', long)]
        no_header: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show the counters of the fast path's cores and of the slow path.
    Counters {
        /// Print what was added, once a second, until interrupted.
        #[arg(long)]
        watch: bool,
        /// Print counters that are zero as well.
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Check what TAS needs on this machine, and say what to type where something is missing.
    Doctor(Output),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff).
    Man,
}

fn main() -> ExitCode {
    reset_sigpipe();
    match carry_out(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tasctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `tasctl flows | head` ends quietly, as every other command does.
fn reset_sigpipe() {
    use nix::sys::signal::{signal, SigHandler, Signal};
    // SAFETY: the default action; no handler of ours is involved.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

fn carry_out(arguments: Arguments) -> Result<ExitCode> {
    let place = arguments.place;
    match arguments.command {
        Command::Run { require, command } => return run::run(&place, require, &command),
        Command::Status(output) => status::print(&client::Client::open(&place)?, output.json)?,
        Command::Flows { listen, info, no_header, output } => {
            let view = flows::View { listen, info, header: !no_header, json: output.json };
            flows::print(&client::Client::open(&place)?, &view)?;
        }
        Command::Counters { watch, all, output } => {
            counters::print(&client::Client::open(&place)?, watch, all, output.json)?;
        }
        Command::Doctor(output) => return doctor::run(&place, output.json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut self::Arguments::command(), "tasctl", &mut io::stdout());
        }
        Command::Man => manual(&mut io::stdout())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One page: the command, then each subcommand with its options.
fn manual(out: &mut impl io::Write) -> io::Result<()> {
    let mut command = Arguments::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let title = format!("tasctl {}", subcommand.get_name());
        writeln!(out, ".SH \"{}\"", title.to_uppercase())?;
        let page = clap_mangen::Man::new(subcommand.clone());
        page.render_description_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let arguments =
            Arguments::parse_from(["tasctl", "run", "--require", "--", "redis-server", "--port", "1"]);
        let Command::Run { require, command } = arguments.command else { panic!("not run") };
        assert!(require);
        assert_eq!(command, ["redis-server", "--port", "1"]);
    }

    #[test]
    fn the_manual_names_every_subcommand() {
        let mut page = Vec::new();
        manual(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for name in ["RUN", "STATUS", "FLOWS", "COUNTERS", "DOCTOR"] {
            assert!(page.contains(&format!("TASCTL {name}")), "{name} is missing");
        }
    }
}
