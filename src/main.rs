//! The `undertone` program: parse the command line, start logging, hand over to [`undertone::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    undertone::cli::main()
}
