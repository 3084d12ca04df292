//! What holds now, and why: the household's rules, what people said since, and the clock.

use super::{By, Guest, Record, Scope};
use crate::config::{ConsentRules, QuietHours, Written};
use crate::events::{Consent, Scopes};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longer than anybody waits.
const A_DAY: Duration = Duration::from_secs(86_400);
const MINUTE_NS: i128 = 60_000_000_000;

/// How long it is until the clock may change what holds: quiet hours begin and end with a minute, a guest mode at any moment.
pub(super) fn until_the_clock(rules: &ConsentRules, record: &Record, now: Timestamp) -> Duration {
    let minute = (!rules.quiet_hours.is_empty())
        .then(|| Duration::from_nanos((MINUTE_NS - now.as_nanosecond().rem_euclid(MINUTE_NS)) as u64));
    let guest = record.guest.and_then(|guest| guest.until).filter(|until| *until > now);
    let guest = guest.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
    minute.into_iter().chain(guest).min().unwrap_or(A_DAY)
}

/// Why a scope is granted or withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The configuration says so.
    Configuration,
    /// Somebody said so at this machine.
    Command,
    /// Somebody said so over MQTT.
    Mqtt,
    /// Nobody granted it yet.
    NotGranted,
    /// What was said was lost.
    Lost,
    /// Guests are there.
    Guest,
    /// It is a quiet hour.
    QuietHours,
}

impl From<By> for Why {
    fn from(by: By) -> Why {
        match by {
            By::Command => Why::Command,
            By::Mqtt => Why::Mqtt,
            By::Lost => Why::Lost,
        }
    }
}

/// What holds for one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// It may, or it may not.
    pub consent: Consent,
    /// Why.
    pub why: Why,
    /// Since when it was said, if somebody said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when it is withheld, if that is known and it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// May the microphone be open?
    pub listening: Decision,
    /// May segments be handed to the recogniser? It matters only while `listening` is granted.
    pub transcription: Decision,
    /// The guest mode, while it holds.
    pub guest: Option<Guest>,
    /// It is a quiet hour.
    pub quiet: bool,
}

impl Standing {
    /// One sentence for somebody who has just started the daemon and wonders why nothing is heard.
    pub fn hint(&self) -> Option<String> {
        let decision = self.listening;
        (decision.consent == Consent::Withheld).then(|| {
            format!(
                "the microphone stays closed, because listening is {}; {}, `undertone privacy` says what is then heard",
                decision.sentence(&TimeZone::system()),
                decision.opener()
            )
        })
    }

    /// Applies the rules to what was said, at this moment in this time zone.
    pub fn at(rules: &ConsentRules, record: &Record, now: Timestamp, zone: &TimeZone) -> Standing {
        let guest = record.guest.filter(|guest| {
            let over = guest.until.is_some_and(|until| until <= now);
            !(over && rules.guest_ends_by_itself)
        });
        let quiet = quiet_until(&rules.quiet_hours, now, zone);
        let decide = |scope| {
            let base = base(rules, record, scope);
            let pause = |why, until| Decision { consent: Consent::Withheld, why, since: None, until };
            match (base.consent, guest, quiet) {
                (Consent::Granted, Some(guest), _) => {
                    let until = guest.until.filter(|_| rules.guest_ends_by_itself);
                    Decision { since: Some(guest.since), ..pause(Why::Guest, until) }
                }
                (Consent::Granted, None, Some(until)) => pause(Why::QuietHours, until),
                _ => base,
            }
        };
        Standing {
            listening: decide(Scope::Listening),
            transcription: decide(Scope::Transcription),
            guest,
            quiet: quiet.is_some(),
        }
    }

    /// What holds for a scope.
    pub fn of(&self, scope: Scope) -> &Decision {
        match scope {
            Scope::Listening => &self.listening,
            Scope::Transcription => &self.transcription,
        }
    }

    /// What was decided about each scope, as people see it.
    pub fn decided(&self) -> Scopes {
        Scopes { listening: self.listening.consent, transcription: self.transcription.consent }
    }

    /// What may be done: nothing is transcribed while nothing may be heard.
    pub fn allowed(&self) -> Scopes {
        let Scopes { listening, transcription } = self.decided();
        Scopes {
            listening,
            transcription: if listening == Consent::Granted { transcription } else { listening },
        }
    }
}

impl Scope {
    /// What the configuration says about it.
    pub fn written(self, rules: &ConsentRules) -> Written {
        match self {
            Scope::Listening => rules.listening,
            Scope::Transcription => rules.transcription,
        }
    }
}

/// Without guests and quiet hours: a written "withheld" beats all, then what was said, then the rest.
fn base(rules: &ConsentRules, record: &Record, scope: Scope) -> Decision {
    let (consent, why, since) = match (scope.written(rules), record.said(scope)) {
        (Written::Withheld, _) => (Consent::Withheld, Why::Configuration, None),
        (_, Some(said)) => (said.consent, said.by.into(), Some(said.at)),
        (Written::Granted, None) => (Consent::Granted, Why::Configuration, None),
        (Written::Ask, None) => (Consent::Withheld, Why::NotGranted, None),
    };
    Decision { consent, why, since, until: None }
}

/// The end of the quiet hours that hold now, if they have one; of several, the last one that follows without a pause.
fn quiet_until(hours: &[QuietHours], now: Timestamp, zone: &TimeZone) -> Option<Option<Timestamp>> {
    let mut local = zone.to_datetime(now);
    let mut until = None;
    // Spans that touch each other chain; each is looked at once, so that round-the-clock ones end.
    for _ in 0..=hours.len() {
        let Some(span) = hours.iter().find(|span| span.contains(local.time())) else { break };
        let same_day = local.date().to_datetime(span.to);
        let end = if same_day > local { same_day } else { same_day.saturating_add(1.day()) };
        until = Some(end);
        local = end;
    }
    let always = hours.iter().any(|span| span.contains(local.time()));
    until.map(|end| (!always).then(|| zone.to_timestamp(end).unwrap_or(now)))
}

impl Decision {
    /// It is withheld, and not only for a quiet hour, which takes nothing back.
    pub fn is_withdrawn(&self) -> bool {
        self.consent == Consent::Withheld && self.why != Why::QuietHours
    }

    /// In words, as the second half of a sentence that begins with the scope's name.
    pub fn sentence(&self, zone: &TimeZone) -> String {
        let time = |t: Timestamp| zone.to_datetime(t).strftime("%Y-%m-%d %H:%M").to_string();
        let since = self.since.map_or(String::new(), |at| format!(" on {}", time(at)));
        let until = self.until.map_or(String::new(), |at| format!(" until {}", time(at)));
        match (self.consent, self.why) {
            (Consent::Granted, Why::Configuration) => "granted, in writing in the configuration".into(),
            (Consent::Granted, Why::Mqtt) => format!("granted over MQTT{since}"),
            (Consent::Granted, _) => format!("granted{since}"),
            (_, Why::Configuration) => "withheld by the configuration: nobody can grant it".into(),
            (_, Why::NotGranted) => "withheld: nobody granted it yet".into(),
            (_, Why::Command) => format!("withheld: withdrawn{since}"),
            (_, Why::Mqtt) => format!("withheld: withdrawn over MQTT{since}"),
            (_, Why::Lost) => "withheld: what was granted is not known, or cannot be kept".into(),
            (_, Why::Guest) if self.until.is_some() => format!("withheld{until}: guests are there"),
            (_, Why::Guest) => "withheld until somebody ends the guest mode".into(),
            (_, Why::QuietHours) if self.until.is_none() => "withheld: quiet hours, all day".into(),
            (_, Why::QuietHours) => format!("withheld{until}: quiet hours"),
        }
    }

    /// What ends that listening is withheld, as a sentence about the microphone ("it").
    pub fn opener(&self) -> &'static str {
        match self.why {
            Why::Configuration => "only another `consent.listening` in the configuration opens it",
            Why::Guest => "`undertone consent guest off` opens it",
            Why::QuietHours if self.until.is_none() => {
                "only other `consent.quiet_hours` in the configuration open it"
            }
            Why::QuietHours => "it opens by itself when they are over",
            Why::Command | Why::Mqtt | Why::NotGranted | Why::Lost => {
                "`undertone consent grant listening` opens it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Said;

    fn zone() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        zone().to_timestamp(text.parse().unwrap()).unwrap()
    }

    fn said(consent: Consent) -> Record {
        let said = Said { consent, at: at("2026-01-01T12:00"), by: By::Command };
        Record { listening: Some(said), transcription: Some(said), ..Record::default() }
    }

    fn listening(rules: &ConsentRules, record: &Record, now: &str) -> (Consent, Why) {
        let decision = Standing::at(rules, record, at(now), &zone()).listening;
        (decision.consent, decision.why)
    }

    #[test]
    fn what_is_written_and_what_was_said() {
        use Consent::{Granted, Withheld};
        let none = Record::default();
        let table = [
            (Written::Ask, none, (Withheld, Why::NotGranted)),
            (Written::Ask, said(Granted), (Granted, Why::Command)),
            (Written::Ask, said(Withheld), (Withheld, Why::Command)),
            (Written::Granted, none, (Granted, Why::Configuration)),
            (Written::Granted, said(Granted), (Granted, Why::Command)),
            (Written::Granted, said(Withheld), (Withheld, Why::Command)),
            (Written::Granted, Record::lost(at("2026-01-01T12:00")), (Withheld, Why::Lost)),
            (Written::Withheld, none, (Withheld, Why::Configuration)),
            (Written::Withheld, said(Granted), (Withheld, Why::Configuration)),
        ];
        for (written, record, expected) in table {
            let rules = ConsentRules { listening: written, ..Default::default() };
            assert_eq!(listening(&rules, &record, "2026-06-01T12:00"), expected, "{written:?} {record:?}");
        }
    }

    #[test]
    fn quiet_hours_withhold_what_was_granted_and_end() {
        let hours = |list: &[&str]| list.iter().map(|s| s.to_string().try_into().unwrap()).collect();
        let rules =
            ConsentRules { quiet_hours: hours(&["22:00-07:00", "07:00-08:00"]), ..Default::default() };
        let record = said(Consent::Granted);
        let standing = |now: &str| Standing::at(&rules, &record, at(now), &zone()).listening;
        assert_eq!(standing("2026-06-01T21:59").consent, Consent::Granted);
        let night = standing("2026-06-01T22:00");
        assert_eq!((night.consent, night.why), (Consent::Withheld, Why::QuietHours));
        assert_eq!(night.until, Some(at("2026-06-02T08:00")));
        assert!(night.opener().contains("by itself"), "no grant opens it before");
        assert_eq!(standing("2026-06-02T03:00").until, Some(at("2026-06-02T08:00")));
        assert_eq!(standing("2026-06-02T08:00").consent, Consent::Granted);
        // The night in which the clocks go back is an hour longer, by the clock on the wall.
        assert_eq!(standing("2026-10-25T01:00").until, Some(at("2026-10-25T08:00")));
        let never =
            ConsentRules { quiet_hours: hours(&["00:00-12:00", "12:00-00:00"]), ..Default::default() };
        for hour in 0..24 {
            let now = format!("2026-06-01T{hour:02}:30");
            assert_eq!(listening(&never, &record, &now), (Consent::Withheld, Why::QuietHours));
            let decision = Standing::at(&never, &record, at(&now), &zone()).listening;
            assert_eq!(decision.until, None);
            assert_eq!(decision.sentence(&zone()), "withheld: quiet hours, all day");
            assert!(decision.opener().contains("consent.quiet_hours"), "no grant opens it");
        }
        // They do not hide that it was withdrawn.
        assert_eq!(listening(&rules, &said(Consent::Withheld), "2026-06-01T23:00").1, Why::Command);
    }

    #[test]
    fn a_guest_mode_ends_by_itself_only_if_that_is_written() {
        let guest =
            Guest { since: at("2026-06-01T12:00"), until: Some(at("2026-06-01T15:00")), by: By::Command };
        let record = Record { guest: Some(guest), ..said(Consent::Granted) };
        let by_itself = ConsentRules { guest_ends_by_itself: true, ..Default::default() };
        let never = ConsentRules::default();
        for (rules, now, expected) in [
            (&by_itself, "2026-06-01T14:59", Consent::Withheld),
            (&by_itself, "2026-06-01T15:00", Consent::Granted),
            (&never, "2026-06-01T14:59", Consent::Withheld),
            (&never, "2027-06-01T15:00", Consent::Withheld),
        ] {
            let standing = Standing::at(rules, &record, at(now), &zone());
            assert_eq!(standing.listening.consent, expected, "{now}");
            assert_eq!(standing.guest.is_some(), expected == Consent::Withheld);
        }
        let record = Record { guest: Some(guest), ..Record::default() };
        assert_eq!(listening(&by_itself, &record, "2026-06-01T15:01"), (Consent::Withheld, Why::NotGranted));
    }

    #[test]
    fn nothing_is_transcribed_while_nothing_may_be_heard() {
        let record = Record { listening: said(Consent::Withheld).listening, ..said(Consent::Granted) };
        let standing = Standing::at(&ConsentRules::default(), &record, Timestamp::now(), &TimeZone::UTC);
        assert_eq!(standing.decided().transcription, Consent::Granted);
        assert_eq!(standing.allowed().transcription, Consent::Withheld);
    }
}
