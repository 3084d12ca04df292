//! `[consent]`: what the household wrote down about who may listen to what.

use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `[consent]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct ConsentRules {
    /// May the microphone be open?
    pub listening: Written,
    /// May segments be handed to the recogniser?
    pub transcription: Written,
    /// May consent be granted over MQTT?
    pub remote_grant: bool,
    /// Times of day at which both scopes are withheld.
    pub quiet_hours: Vec<QuietHours>,
    /// Is consent back when the time of a guest mode is over?
    pub guest_ends_by_itself: bool,
}

/// What the configuration file says about one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// Withheld until somebody grants it.
    #[default]
    Ask,
    /// Granted in writing, until somebody withdraws it.
    Granted,
    /// Withheld, and nobody can grant it.
    Withheld,
}

/// A span of the day, such as `22:00-07:00`; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    /// First minute.
    pub from: Time,
    /// Minute after the last; before `from`, it is on the next day.
    pub to: Time,
}

impl QuietHours {
    /// Whether this time of day lies inside.
    pub fn contains(&self, time: Time) -> bool {
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

impl TryFrom<String> for QuietHours {
    type Error = String;

    fn try_from(text: String) -> Result<QuietHours, String> {
        let wrong =
            || format!("`{text}` is no span of the day; write two different times such as 22:00-07:00");
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let digits = |s: &str| s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit());
            if !digits(hours) || !digits(minutes) {
                return None;
            }
            // Midnight at the end of the day is the one at its beginning.
            let hours: i8 = hours.parse().ok()?;
            Time::new(if hours == 24 && minutes == "00" { 0 } else { hours }, minutes.parse().ok()?, 0, 0)
                .ok()
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
        if from == to { Err(wrong()) } else { Ok(QuietHours { from, to }) }
    }
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> String {
        hours.to_string()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), to.hour(), to.minute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Result<QuietHours, String> {
        QuietHours::try_from(text.to_owned())
    }

    #[test]
    fn a_span_may_cross_midnight() {
        let at = |h, m| Time::new(h, m, 0, 0).unwrap();
        let night = hours("22:00-07:00").unwrap();
        for (time, inside) in
            [(at(22, 0), true), (at(0, 0), true), (at(6, 59), true), (at(7, 0), false), (at(21, 59), false)]
        {
            assert_eq!(night.contains(time), inside, "{time}");
        }
        let nap = hours("12:30-14:00").unwrap();
        assert!(nap.contains(at(12, 30)) && nap.contains(at(13, 59)) && !nap.contains(at(14, 0)));
        let evening = hours("20:00-24:00").unwrap();
        assert!(evening.contains(at(23, 59)) && !evening.contains(at(0, 0)));
        assert_eq!(night.to_string(), "22:00-07:00");
    }

    #[test]
    fn what_is_no_span_is_refused_in_words() {
        for wrong in
            ["", "22:00", "22-07", "22:00-22:00", "25:00-07:00", "22:60-07:00", "2:00-3:00", "00:00-24:00"]
        {
            let e = hours(wrong).unwrap_err();
            assert!(e.contains(&format!("`{wrong}`")) && e.contains("22:00-07:00"), "{e}");
        }
    }
}
