//! `undertone manual DIR`: man pages and shell completions, for those who make packages. Hidden,
//! because nobody else needs it.

use super::Failure;
use crate::config::DEFAULT_PATH;
use crate::home::login::PASSWORD_VARIABLE;
use crate::model::{LIBRARY_VARIABLE, MODEL_VARIABLE};
use crate::{asr, logging};
use clap::{Args, Command};
use clap_complete::Shell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

/// The configuration as it is shipped: its comments are the manual of it.
const CONFIGURATION: &str = include_str!("../../config/undertone.toml");

/// Where to.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Folder; `man/` and `completions/` are made in it
    dir: PathBuf,
}

/// Writes a page for each command and one for the configuration, and completions for bash, zsh and fish.
///
/// # Errors
/// When the folder cannot be written.
pub fn run(args: &ManualArgs, command: Command) -> Result<(), Failure> {
    let (pages, completions) = (args.dir.join("man"), args.dir.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let (paged, mut command) = (without_help(command.clone()), command);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "undertone", &completions)?;
    }
    let common = common();
    clap_mangen::generate_to(paged, &pages)?;
    for page in std::fs::read_dir(&pages)? {
        File::options().append(true).open(page?.path())?.write_all(common.as_bytes())?;
    }
    std::fs::write(pages.join("undertone.toml.5"), configuration(CONFIGURATION))?;
    Ok(())
}

/// Without `help` among the commands of each command: it has nothing to say that needs a page.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// What every page of a command ends with. [`main`](super::main) gives the status, [`search`](crate::model) and the
/// others read the environment, and Cargo.toml says what the package installs.
fn common() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    let mut tagged = |section: &str, entries: &[(&str, &str)]| {
        text += section;
        for (name, meaning) in entries {
            let _ = write!(text, ".TP\n.B {}\n{}\n", plain(name), plain(meaning));
        }
    };
    tagged(
        "",
        &[
            ("0", "Done. For a check: all works, or there are warnings only."),
            ("1", "The work failed; the sentence on standard error says why, and what would mend it."),
            ("2", "The command line or the configuration is wrong, or the state folder is another daemon's."),
            (
                "75",
                "undertone run only: a restart was asked for, and it cannot start itself anew; whoever started it has to.",
            ),
        ],
    );
    tagged(
        ".SH ENVIRONMENT\n",
        &[
            (MODEL_VARIABLE, "The model file, in the place of model.path."),
            (LIBRARY_VARIABLE, "The ONNX Runtime library or its folder, in the place of model.library."),
            (PASSWORD_VARIABLE, "The broker's password, if mqtt.password_file does not name a file."),
            (
                asr::http::KEY_VARIABLE,
                "The key of an HTTP recogniser, if asr.http.key_file does not name a file.",
            ),
            (
                logging::VARIABLE,
                "What is logged: off, error, warn, info, debug, trace, or a filter such as info,undertone::home=debug.",
            ),
            ("STATE_DIRECTORY", "The state folder, set by systemd; it is stronger than state_dir."),
            ("NO_COLOR", "If it is set, nothing is printed or logged in colours."),
        ],
    );
    tagged(
        ".SH FILES\n",
        &[
            (DEFAULT_PATH, "The configuration, where --config names no other."),
            (
                "/var/lib/undertone",
                "The state folder: what was consented to, thresholds changed at run time, the record.",
            ),
            ("/usr/share/undertone/undertone.onnx", "The model."),
            ("/usr/lib/undertone/libonnxruntime.so.*", "ONNX Runtime, with its licence beside it."),
            ("/usr/share/doc/undertone/docs/README.md", "The book."),
        ],
    );
    text + ".SH \"SEE ALSO\"\n.BR undertone (1),\n.BR undertone\\-run (1),\n.BR undertone\\-check (1),\n\
            .BR undertone.toml (5),\n.BR systemctl (1)\n"
}

/// undertone.toml(5), from the commented file: a block of comments that ends with `# key = value` is a
/// key with its default, any other block is a paragraph, and `[table]` begins a section.
fn configuration(file: &str) -> String {
    let mut page = format!(
        ".TH undertone.toml 5 \"\" \"undertone {}\"\n\
         .SH NAME\nundertone.toml \\- what undertone listens to, and whom it tells\n\
         .SH SYNOPSIS\n/etc/undertone/undertone.toml\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut told_of_defaults = false;
    for block in file.split("\n\n") {
        let mut prose = Vec::new();
        for line in block.lines() {
            let text = line.strip_prefix('#').map(str::trim_start);
            match text {
                None if line.starts_with('[') => page += &format!(".SH {}\n", plain(line)),
                Some(text) => match text.split_once(" = ").filter(|(key, _)| is_key(key)) {
                    Some((key, value)) => {
                        if !told_of_defaults {
                            page += ".PP\nEach key is shown with its default.\n";
                            told_of_defaults = true;
                        }
                        // roff takes the quotes of an argument for its own.
                        let value = plain(value).replace('"', "\\(dq");
                        page += &format!(".TP\n.B {key} = {value}\n{}", paragraph(&mut prose));
                    }
                    None => prose.push(text),
                },
                None => {}
            }
        }
        if !prose.is_empty() {
            page += &format!(".PP\n{}", paragraph(&mut prose));
        }
    }
    page + ".SH SEE ALSO\n.BR undertone (1),\n.BR undertone-run (1),\n.BR undertone-check (1)\n"
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The lines so far as text for roff; there are none afterwards.
fn paragraph(lines: &mut Vec<&str>) -> String {
    lines.drain(..).map(|line| plain(line) + "\n").collect()
}

/// Text that roff takes for nothing else.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_a_page() {
        let file = "# First\n# words.\n\n# A name - of\n# .something.\n# node = \"x\"\n\n[mqtt]\n# Of all.\n\n# Where.\n# broker = \"a\\b\"\n\n# Who.\n# user = \"\"\n";
        let page = configuration(file);
        let body = page.split(".SH DESCRIPTION\n").nth(1).unwrap();
        assert_eq!(
            body,
            ".PP\nFirst\nwords.\n.PP\nEach key is shown with its default.\n\
             .TP\n.B node = \\(dqx\\(dq\nA name \\- of\n\\&.something.\n\
             .SH [mqtt]\n.PP\nOf all.\n.TP\n.B broker = \\(dqa\\eb\\(dq\nWhere.\n\
             .TP\n.B user = \\(dq\\(dq\nWho.\n\
             .SH SEE ALSO\n.BR undertone (1),\n.BR undertone-run (1),\n.BR undertone-check (1)\n"
        );
    }

    #[test]
    fn every_key_is_on_the_page() {
        let page = configuration(CONFIGURATION);
        let keys = CONFIGURATION.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
        let keys: Vec<&str> = keys.map(|(key, _)| key).filter(|key| is_key(key)).collect();
        assert!(keys.len() > 60, "{}", keys.len());
        for key in keys {
            assert!(page.contains(&format!("\n.B {key} = ")), "{key}");
        }
    }
}
