//! Where a program is, and whether the system could start it, found out without starting it.

use crate::state;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// As much of a script's first line as Linux reads.
const LINE: u64 = 256;
/// The shortest header of a program.
const ELF_HEADER: u64 = 52;

/// The program's file, looked for as the system does when it starts one. Else the file that is there and may
/// not be run, if there is one.
pub fn find(program: &str) -> Result<PathBuf, Option<PathBuf>> {
    let named = Path::new(program);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = match named.components().count() {
        1 => std::env::split_paths(&folders).map(|folder| folder.join(named)).collect(),
        _ => vec![named.into()],
    };
    let files = || places.iter().filter(|path| path.is_file());
    let runs = |path: &&PathBuf| rustix::fs::access(*path, rustix::fs::Access::EXEC_OK).is_ok();
    files().find(runs).cloned().ok_or_else(|| files().next().cloned())
}

/// The program that a script's first line asks for, `env` seen through; none if it is no script, or cannot be read.
pub fn interpreter(script: &Path) -> Option<String> {
    let mut line = Vec::new();
    state::open(script).ok()?.take(LINE).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    // A carriage return belongs to the name: the system takes it for a part of it, too.
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    let by_env = Path::new(first).file_name().is_some_and(|name| name == "env");
    let named = match by_env {
        true => words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or(first),
        false => first,
    };
    Some(named.to_owned())
}

/// What the system says of a file that is executable and of no kind that it runs, as one that is said to be unfit.
pub const NO_PROGRAM: &str = "the system takes it for no program: it is damaged or made for another machine, or a script \
                              whose first line does not say what runs it, such as `#!/bin/sh`";

/// Whether the system would take it for a program or a script, by its first bytes. What cannot be read is given the
/// benefit of the doubt.
pub fn is_one(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = state::open(path).and_then(|file| file.take(ELF_HEADER).read_to_end(&mut head));
    let elf = head.starts_with(b"\x7fELF") && head.len() as u64 == ELF_HEADER;
    read.is_err() || head.starts_with(b"#!") || elf || cfg!(not(target_os = "linux"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_script_asks_for_an_interpreter() {
        let scratch = tempfile::tempdir().unwrap();
        let asked = |text: &[u8]| {
            let path = scratch.path().join("script");
            fs::write(&path, text).unwrap();
            interpreter(&path)
        };
        assert_eq!(asked(b"#!/bin/sh\necho").as_deref(), Some("/bin/sh"));
        assert_eq!(asked(b"#! /usr/bin/python3 -u\n").as_deref(), Some("/usr/bin/python3"));
        assert_eq!(asked(b"#!/usr/bin/env -S A=b python3 -u\n").as_deref(), Some("python3"));
        assert_eq!(asked(b"#!/bin/sh\r\necho").as_deref(), Some("/bin/sh\r"));
        assert_eq!(asked(b"\x7fELF"), None);
        assert_eq!(asked(b""), None);
        assert_eq!(interpreter(&scratch.path().join("absent")), None);
    }

    #[test]
    fn what_the_system_would_not_start_is_no_program() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let is = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            is_one(&path)
        };
        for (bytes, one) in [
            (&b"#!/bin/sh\necho"[..], true),
            (b"echo words\n", false),
            (b"", false),
            (b"\xef\xbb\xbf#!/bin/sh\n", false),
            (b"\x7fELF", false),
        ] {
            assert_eq!(is(bytes), one, "{bytes:?}");
        }
        assert!(is_one(&std::env::current_exe().unwrap()));
    }
}
