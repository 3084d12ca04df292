//! Whether a model file is whole: its metadata say what SHA-256 the bytes before them have.
//!
//! In: the file and that metadata. Out: nothing, or that it is damaged. Loading reads no weight, and a damaged
//! weight may be a number like any other, so nothing else would find it.

use super::ModelError;
use crate::digest::Digest;
use std::fs::File;
use std::io::Read;
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
    let expected: Digest = expected.parse().map_err(|_| damaged())?;
    let found = File::open(path).and_then(|file| Digest::of_reader(file.take(length)));
    let found = found.map_err(|e| ModelError::NotAModel { path: path.into(), reason: e.to_string() })?;
    if found == expected { Ok(()) } else { Err(damaged()) }
}
