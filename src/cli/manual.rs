//! `undertone manual DIR`: man pages and shell completions, for those who make packages. Hidden,
//! because nobody else needs it.

use super::Failure;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::PathBuf;

/// Where to.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Folder; `man/` and `completions/` are made in it
    dir: PathBuf,
}

/// Writes a page for each command, and completions for bash, zsh and fish.
///
/// # Errors
/// When the folder cannot be written.
pub fn run(args: &ManualArgs, command: Command) -> Result<(), Failure> {
    let (pages, completions) = (args.dir.join("man"), args.dir.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let mut command = command;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "undertone", &completions)?;
    }
    clap_mangen::generate_to(command, &pages)?;
    Ok(())
}
