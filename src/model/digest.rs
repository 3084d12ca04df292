//! Whether a model file is whole: its metadata say what SHA-256 the bytes before them have.
//!
//! In: the file and that metadata. Out: nothing, or that it is damaged. Loading reads no weight, and a damaged
//! weight may be a number like any other, so nothing else would find it.

use super::ModelError;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// `<bytes>:<SHA-256 in hexadecimal digits>`.
pub const KEY: &str = "content_sha256";

/// Compares the file's first bytes with what `told` says of them.
///
/// # Errors
/// [`ModelError::Damaged`]; [`ModelError::NotAModel`] when the file cannot be read any more.
pub fn verify(path: &Path, told: &str) -> Result<(), ModelError> {
    let damaged = || ModelError::Damaged { path: path.into() };
    let (length, expected) = told.split_once(':').ok_or_else(damaged)?;
    let length: u64 = length.parse().map_err(|_| damaged())?;
    let found = sha256(path, length)
        .map_err(|e| ModelError::NotAModel { path: path.into(), reason: e.to_string() })?;
    if found == expected { Ok(()) } else { Err(damaged()) }
}

/// Of the first `length` bytes of the file, or of all that there are.
fn sha256(path: &Path, length: u64) -> io::Result<String> {
    let (mut hash, mut rest) = (Sha256::new(), File::open(path)?.take(length));
    let mut buffer = [0; 16 * 1024];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}
