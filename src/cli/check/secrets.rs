//! What `undertone check` says of files that hold secrets: nothing, unless everybody on this machine may read one, or it holds what
//! nobody sees.

use super::report::{Outcome, Report};
use crate::config::{Config, address};
use crate::state;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Password and keys that the configuration names.
pub fn secrets(config: &Config, report: &mut Report) {
    let files = [
        ("mqtt.password_file", &config.mqtt.password_file),
        ("mqtt.client_key_file", &config.mqtt.client_key_file),
        ("asr.http.key_file", &config.asr.http.key_file),
    ];
    for (key, file) in files.into_iter().filter(|(_, file)| is_for_all(file)) {
        let text = format!(
            "{key} = {} may be read by every user of this machine: give it to the user or the group that undertone runs as \
             (chown, chgrp), and take that right away (chmod o-r)",
            address::file(file)
        );
        report.add("secrets", Outcome::Warning, text);
    }
    let password = &config.mqtt.password_file;
    if let Ok(text) = state::read(password, state::LONGEST)
        && let Some(line) = text.lines().next()
        && line.trim_end().len() < line.len()
    {
        let text = format!(
            "mqtt.password_file = {}: the password ends with white space, which is part of it",
            address::file(password)
        );
        report.add("secrets", Outcome::Warning, text);
    }
}

/// Where engines put the secrets of a container, readable for all as a rule, and where there is nobody else.
const ENGINES: &str = "/run/secrets";

/// Whether everybody may read this file, and get there; one that is not there nobody.
fn is_for_all(file: &Path) -> bool {
    let lets =
        |path: &Path, bit| std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & bit != 0);
    let folders = file.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    !file.starts_with(ENGINES)
        && file.is_file()
        && lets(file, 0o004)
        && folders.into_iter().all(|folder| lets(folder, 0o001))
}
