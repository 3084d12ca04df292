//! What `undertone check` says of files that hold secrets: nothing, unless everybody on this machine may read one.

use super::report::{Outcome, Report};
use crate::config::{Config, address};
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
        let (shown, place) = (address::file(file), file.display());
        let text = format!(
            "{key} = {shown} may be read by every user of this machine: `chown root:undertone {place}` and `chmod 640 {place}`, \
             where undertone runs as the user undertone"
        );
        report.add("secrets", Outcome::Warning, text);
    }
}

/// Whether everybody may read this file; one that is not there nobody.
fn is_for_all(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o004 != 0)
}
