//! User and password. The password is read from a file or the environment and shown nowhere.

use super::HomeError;
use crate::config::{Mqtt, address};
use crate::state;

/// Holds the password when `mqtt.password_file` is empty.
pub const PASSWORD_VARIABLE: &str = "UNDERTONE_MQTT_PASSWORD";

/// MQTT carries the length of a string in two bytes.
const MAX_LENGTH: usize = 65_535;

/// The byte order mark.
const MARK: char = '\u{feff}';

/// A user and a password that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// `mqtt.user`.
    pub user: String,
    password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("password", &"…").finish()
    }
}

impl Login {
    /// Whether there is nothing to know but the user's name.
    pub fn without_password(&self) -> bool {
        self.password.is_empty()
    }

    /// A login from its parts.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    /// What the configuration asks for; none if `mqtt.user` is empty.
    ///
    /// # Errors
    /// [`HomeError::Login`] if the password file cannot be read or is empty, or stands there without a
    /// user: MQTT 3.1.1 has no password without a user.
    pub fn from_config(mqtt: &Mqtt) -> Result<Option<Login>, HomeError> {
        let file = &mqtt.password_file;
        let from_file = !file.as_os_str().is_empty();
        let shown = address::file(file);
        if mqtt.user.is_empty() {
            return match from_file {
                false => Ok(None),
                true => Err(HomeError::Login(format!(
                    "mqtt.password_file = {shown} has no user to go with; set mqtt.user, or leave both empty"
                ))),
            };
        }
        let password = if from_file {
            let text = state::read(file, state::LONGEST).map_err(|e| {
                HomeError::Login(format!(
                    "cannot read mqtt.password_file = {shown}: {e}; \
                     it must exist and be readable by the user that undertone runs as"
                ))
            })?;
            // Some editors mark a file as Unicode by a character that nobody sees.
            match text.trim_start_matches(MARK).lines().next() {
                Some(line) if !line.is_empty() => line.to_owned(),
                _ => {
                    return Err(HomeError::Login(format!(
                        "mqtt.password_file = {shown}: the first line is empty; write the password there"
                    )));
                }
            }
        } else {
            std::env::var(PASSWORD_VARIABLE).unwrap_or_default()
        };
        if password.len() > MAX_LENGTH || mqtt.user.len() > MAX_LENGTH {
            return Err(HomeError::Login(format!(
                "the user or the password of the broker is longer than MQTT allows ({MAX_LENGTH} bytes)"
            )));
        }
        Ok(Some(Login { user: mqtt.user.clone(), password }))
    }

    /// The password itself, for the wire only.
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mqtt(user: &str, file: &std::path::Path) -> Mqtt {
        Mqtt { user: user.into(), password_file: file.into(), ..Mqtt::default() }
    }

    #[test]
    fn the_first_line_is_the_password_and_debug_hides_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3 cret\r\nsecond line\n").unwrap();
        let login = Login::from_config(&mqtt("ann", &file)).unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.password()), ("ann", "s3 cret"));
        assert!(!format!("{login:?}").contains("s3"));
        std::fs::write(&file, "\u{feff}s3 cret\n").unwrap();
        assert_eq!(Login::from_config(&mqtt("ann", &file)).unwrap().unwrap().password(), "s3 cret");
    }

    #[test]
    fn a_login_that_cannot_work_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "\n").unwrap();
        let sentence = |user: &str, file: &std::path::Path| {
            Login::from_config(&mqtt(user, file)).unwrap_err().to_string()
        };
        assert!(sentence("ann", &file).contains("first line is empty"));
        assert!(sentence("", &file).contains("set mqtt.user"));
        assert!(sentence("ann", &folder.path().join("absent")).contains("readable"));
    }

    #[test]
    fn no_user_means_no_login() {
        assert_eq!(Login::from_config(&Mqtt::default()).unwrap(), None);
    }
}
