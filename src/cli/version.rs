//! `--version`: which program, built from what, with which model and which library.

use crate::config::Config;
use crate::digest::Digest;
use crate::model::{self, Model};
use std::path::Path;

/// The commit, where `make` or a package's build named it. Not found out by a build script: a build
/// from the same sources gives the same program.
const COMMIT: Option<&str> = option_env!("UNDERTONE_COMMIT");

/// The lines after the program's name. What cannot be found is said in its place.
pub fn long() -> String {
    // A configuration that is wrong must not hide the version; `undertone check` tells about it.
    let config = Config::find(None).unwrap_or_default();
    let commit = COMMIT.filter(|c| !c.is_empty()).unwrap_or("not named by the build");
    let model = match Model::load(&config.model) {
        Ok(model) => {
            format!("{} {} (sha256 {})", model.version(), model.path().display(), digest(model.path()))
        }
        Err(e) => e.to_string(),
    };
    let library = model::library_version(&config.model).unwrap_or_else(|e| e.to_string());
    format!(
        "{}\ncommit:       {commit}\nmodel:        {model}\nonnxruntime:  {library}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The file's SHA-256, in hexadecimal.
fn digest(path: &Path) -> String {
    let read = std::fs::File::open(path).and_then(Digest::of_reader);
    read.map_or_else(|e| format!("unreadable: {e}"), |digest| digest.to_string())
}
