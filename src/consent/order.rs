//! Commands about consent, as they come over MQTT or from the command line, and why some are refused.
//!
//! | topic, below `<prefix>/<node>/` | payload |
//! | --- | --- |
//! | `consent/listening/set` | `granted` or `withheld` |
//! | `consent/transcription/set` | `granted` or `withheld` |
//! | `consent/guest/set` | `on`, `off`, or how long, such as `3h` or `90m` |
//!
//! What withdraws may be said in capitals, too, and `off` is `withheld`; what gives has to be said as it stands here.
//! A retained message on one of them is no command, because nobody says it now; it does not come here.

use super::{By, Guest, Record, Said, Scope};
use crate::config::{ConsentRules, Written};
use crate::events::Consent;
use jiff::{RoundMode, SignedDuration, Span, SpanRelativeTo, Timestamp, TimestampRound, Unit};

/// What the topics of the commands begin and end with.
const TOPIC: (&str, &str) = ("consent/", "/set");
/// No honest command is longer.
const LONGEST: usize = 32;
/// Longest guest mode that has an end.
const LONGEST_GUEST: SignedDuration = SignedDuration::from_hours(31 * 24);

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A scope is granted or withdrawn.
    Say(Scope, Consent),
    /// Guests come; for so long, or until they are said to be gone.
    GuestsCome(Option<SignedDuration>),
    /// Guests are gone.
    GuestsGo,
}

/// Why a command is not obeyed: one sentence, which repeats nothing of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payload is no command.
    #[error("a command on …/consent/{0}/set was refused: allowed are `granted` and `withheld`")]
    Malformed(Scope),
    /// The payload is no command for the guest mode.
    #[error(
        "a command on …/consent/guest/set was refused: allowed are `on`, `off`, or a time from 1m to 744h"
    )]
    MalformedGuest,
    /// There is no such scope.
    #[error(
        "a command on an unknown consent topic was refused: there are listening, transcription and guest"
    )]
    UnknownScope,
    /// Only at the machine.
    #[error(
        "a grant of {0} over MQTT was refused, because consent.remote_grant is not set; use `undertone consent \
         grant {0}` at the machine"
    )]
    Remote(Scope),
    /// Ending the guest mode gives consent back, which is a grant.
    #[error(
        "ending the guest mode over MQTT was refused, because consent.remote_grant is not set; use `undertone \
         consent guest off` at the machine"
    )]
    RemoteGuest,
    /// It was withdrawn elsewhere, and nobody can tell which of both was said later.
    #[error(
        "a grant of {0} was refused, because {0} was withdrawn meanwhile; if it shall hold all the same, say it again"
    )]
    Overtaken(Scope),
    /// The same of a guest mode.
    #[error(
        "ending the guest mode was refused, because it was begun meanwhile; if it shall end all the same, say it again"
    )]
    OvertakenGuest,
    /// A guest mode that holds would end sooner, which gives consent back.
    #[error(
        "the guest mode goes on as long as it was said to before: over MQTT it is never shortened; use `undertone consent \
         guest` at the machine"
    )]
    ShorterGuest,
    /// The configuration forbids it.
    #[error("{0} cannot be granted: the configuration says consent.{0} = \"withheld\"")]
    Written(Scope),
}

impl Order {
    /// Reads a command. `topic` is what follows `<prefix>/<node>/`.
    ///
    /// # Errors
    /// [`Refusal`]: oversized, malformed, unknown.
    pub fn from_message(topic: &str, payload: &[u8]) -> Result<Order, Refusal> {
        let name = topic.strip_prefix(TOPIC.0).and_then(|rest| rest.strip_suffix(TOPIC.1));
        let name = name.ok_or(Refusal::UnknownScope)?;
        let all = std::str::from_utf8(payload).unwrap_or_default();
        let lenient = all.trim().to_ascii_lowercase();
        let text = Some(all).filter(|text| text.len() <= LONGEST).map(str::trim);
        match (Scope::from_name(name), name, text) {
            (Some(scope), _, Some("granted")) => Ok(Order::Say(scope, Consent::Granted)),
            (Some(scope), _, _) if ["withheld", "off"].contains(&lenient.as_str()) => {
                Ok(Order::Say(scope, Consent::Withheld))
            }
            (Some(scope), _, _) => Err(Refusal::Malformed(scope)),
            (None, "guest", Some("off")) => Ok(Order::GuestsGo),
            (None, "guest", _) => {
                let come = Order::guest(&lenient).filter(|order| !order.gives());
                come.ok_or(Refusal::MalformedGuest)
            }
            _ => Err(Refusal::UnknownScope),
        }
    }

    /// Reads `on`, `off` or a time.
    pub fn guest(text: &str) -> Option<Order> {
        match text {
            "on" => Some(Order::GuestsCome(None)),
            "off" => Some(Order::GuestsGo),
            time => {
                let time = duration(time)?;
                let allowed = SignedDuration::from_mins(1)..=LONGEST_GUEST;
                allowed.contains(&time).then_some(Order::GuestsCome(Some(time)))
            }
        }
    }

    /// Whether this gives consent, not takes it.
    pub fn gives(self) -> bool {
        matches!(self, Order::Say(_, Consent::Granted) | Order::GuestsGo)
    }

    /// Whether the rules allow it.
    ///
    /// # Errors
    /// [`Refusal`]: a grant that the configuration forbids, always or over MQTT.
    pub fn allowed(self, rules: &ConsentRules, by: By) -> Result<(), Refusal> {
        let remote = by == By::Mqtt && !rules.remote_grant;
        match self {
            Order::Say(scope, Consent::Granted) if scope.written(rules) == Written::Withheld => {
                Err(Refusal::Written(scope))
            }
            Order::Say(scope, Consent::Granted) if remote => Err(Refusal::Remote(scope)),
            Order::GuestsGo if remote => Err(Refusal::RemoteGuest),
            _ => Ok(()),
        }
    }

    /// Why a grant no longer counts: what is on the disk was withdrawn since whoever took the order last saw it.
    /// What came over MQTT came in order, so there only a withdrawal at the machine overtakes. Clocks that are set,
    /// or stood still, make no difference to that.
    pub fn overtaken(self, by: By, seen: &Record, found: &Record) -> Option<Refusal> {
        let unordered = |other: By| by != By::Mqtt || other != By::Mqtt;
        match self {
            Order::Say(scope, Consent::Granted) => {
                let (before, now) = (seen.said(scope), found.said(scope)?);
                let withdrawn = now.consent == Consent::Withheld && unordered(now.by);
                // A file that stays lost gets a new time whenever it is looked for.
                let lost = now.by == By::Lost && before.is_some_and(|before| before.by == By::Lost);
                (withdrawn && !lost && before != Some(now)).then_some(Refusal::Overtaken(scope))
            }
            Order::GuestsGo => {
                let begun = found.guest.is_some_and(|guest| unordered(guest.by));
                (begun && seen.guest != found.guest).then_some(Refusal::OvertakenGuest)
            }
            _ => None,
        }
    }

    /// Whether a guest mode that holds would end sooner by this.
    pub(super) fn shortens(self, guest: Option<Guest>, now: Timestamp) -> bool {
        let Order::GuestsCome(Some(time)) = self else { return false };
        let wanted = end_by_mqtt(time, now);
        guest.is_some_and(|guest| guest.until.is_none_or(|until| until > wanted))
    }

    /// Whether this is a guest mode that ends when the one that holds does: said again within a minute, and not worth a write.
    pub(super) fn guests_stay(self, guest: Option<Guest>, now: Timestamp) -> bool {
        let Order::GuestsCome(time) = self else { return false };
        guest.is_some_and(|guest| guest.until == time.map(|time| end_by_mqtt(time, now)))
    }

    /// Whether this withdraws over MQTT what was withdrawn over MQTT last, so that it changes nothing in this record.
    pub(super) fn withdraws_again(self, record: &Record) -> bool {
        let Order::Say(scope, Consent::Withheld) = self else { return false };
        record.said(scope).is_some_and(|said| (said.consent, said.by) == (Consent::Withheld, By::Mqtt))
    }

    /// Whether what a grant asks for is what the record says.
    pub(super) fn holds(self, record: &Record) -> bool {
        match self {
            Order::Say(scope, consent) => record.said(scope).is_some_and(|said| said.consent == consent),
            Order::GuestsGo => record.guest.is_none(),
            Order::GuestsCome(_) => record.guest.is_some(),
        }
    }

    /// Whether the record says what it said `before` this order, by the same: so nobody did anything.
    pub(super) fn repeats(self, before: &Record, now: &Record) -> bool {
        match self {
            Order::Say(scope, _) => before
                .said(scope)
                .zip(now.said(scope))
                .is_some_and(|(before, now)| (before.consent, before.by) == (now.consent, now.by)),
            Order::GuestsCome(_) => before
                .guest
                .zip(now.guest)
                .is_some_and(|(before, now)| (before.until, before.by) == (now.until, now.by)),
            Order::GuestsGo => false,
        }
    }

    /// Takes note of it in the record. A guest mode that holds is never shortened over MQTT: that would
    /// give consent back.
    pub fn note(self, record: &mut Record, by: By, at: Timestamp) {
        match self {
            Order::Say(scope, consent) => {
                // A grant that is said again holds since it was said first: so one that holds since later was withdrawn in between.
                let before = record.said(scope).filter(|before| before.consent == consent);
                let since = before.filter(|_| consent == Consent::Granted).map_or(at, |before| before.at);
                record.say(scope, Said { consent, at: since, by });
            }
            Order::GuestsGo => record.guest = None,
            Order::GuestsCome(time) => {
                let until = match (by, record.guest) {
                    (By::Mqtt, Some(before)) => {
                        before.until.zip(time).map(|(until, time)| until.max(end_by_mqtt(time, at)))
                    }
                    (By::Mqtt, None) => time.map(|time| end_by_mqtt(time, at)),
                    _ => time.and_then(|time| at.checked_add(time).ok()),
                };
                let since = record.guest.map_or(at, |before| before.since);
                record.guest = Some(Guest { since, until, by });
            }
        }
    }
}

/// When guests go of whom the broker says that they stay for so long: at a full minute, not before that time is over. So it
/// is written once a minute at most, however often it is said.
fn end_by_mqtt(time: SignedDuration, now: Timestamp) -> Timestamp {
    let minute = TimestampRound::new().smallest(Unit::Minute).mode(RoundMode::Ceil);
    now.checked_add(time).and_then(|end| end.round(minute)).unwrap_or(Timestamp::MAX)
}

/// A time such as `3h`, `90m` or `2d`; a day has 24 hours.
pub fn duration(text: &str) -> Option<SignedDuration> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(topic: &str, payload: &str) -> Result<Order, Refusal> {
        Order::from_message(topic, payload.as_bytes())
    }

    #[test]
    fn commands_are_read() {
        use Consent::{Granted, Withheld};
        assert_eq!(read("consent/listening/set", "granted"), Ok(Order::Say(Scope::Listening, Granted)));
        assert_eq!(
            read("consent/transcription/set", " withheld\n"),
            Ok(Order::Say(Scope::Transcription, Withheld))
        );
        assert_eq!(read("consent/guest/set", "on"), Ok(Order::GuestsCome(None)));
        assert_eq!(
            read("consent/guest/set", "90m"),
            Ok(Order::GuestsCome(Some(SignedDuration::from_mins(90))))
        );
        assert_eq!(read("consent/guest/set", "off"), Ok(Order::GuestsGo));
        // What withdraws is understood however it is said.
        let far = format!("{}OFF\n", " ".repeat(60));
        for withheld in ["WITHHELD", " Withheld ", "off", "OFF", &far] {
            let order = Ok(Order::Say(Scope::Listening, Withheld));
            assert_eq!(read("consent/listening/set", withheld), order, "{withheld:?}");
        }
        let two_days = Order::GuestsCome(Some(SignedDuration::from_hours(48)));
        for (guest, order) in
            [("ON", Order::GuestsCome(None)), (" On\n", Order::GuestsCome(None)), ("2D", two_days)]
        {
            assert_eq!(read("consent/guest/set", guest), Ok(order), "{guest:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let long = "granted".to_owned() + &" ".repeat(100);
        for payload in ["", "GRANTED", "true", "ON", "granted\0", "granted withheld", &long] {
            assert_eq!(
                read("consent/listening/set", payload),
                Err(Refusal::Malformed(Scope::Listening)),
                "{payload:?}"
            );
        }
        for payload in ["", "3", "0m", "-3h", "745h", "ever", "1s", "OFF", "32d", "1mo", &"9".repeat(40)] {
            assert_eq!(read("consent/guest/set", payload), Err(Refusal::MalformedGuest), "{payload:?}");
        }
        for topic in
            ["consent/all/set", "consent/set", "consent//set", "listening/set", "consent/listening/x/set"]
        {
            assert_eq!(read(topic, "withheld"), Err(Refusal::UnknownScope), "{topic}");
        }
        let bytes = Order::from_message("consent/listening/set", &[0xff, 0xfe]);
        assert_eq!(bytes, Err(Refusal::Malformed(Scope::Listening)));
    }

    #[test]
    fn over_mqtt_a_guest_mode_only_grows() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let mut record = Record::default();
        let come = |hours| Order::GuestsCome(Some(SignedDuration::from_hours(hours)));
        come(3).note(&mut record, By::Command, now);
        let until = record.guest.unwrap().until;
        come(1).note(&mut record, By::Mqtt, now);
        assert_eq!(record.guest.unwrap().until, until);
        Order::GuestsCome(None).note(&mut record, By::Mqtt, now);
        come(1).note(&mut record, By::Mqtt, now);
        assert_eq!(record.guest.unwrap().until, None);
        let mut record = Record::default();
        come(1).note(&mut record, By::Mqtt, now);
        let (guest, hour) = (record.guest, now.checked_add(SignedDuration::from_hours(1)).unwrap());
        let until = guest.unwrap().until.unwrap();
        assert_eq!(until.as_second() % 60, 0, "a full minute");
        assert!(until >= hour && until.duration_since(hour) < SignedDuration::from_mins(1));
        let later = now.checked_add(SignedDuration::from_secs(1)).unwrap();
        assert!(come(1).guests_stay(guest, later) && !come(1).shortens(guest, later));
        assert!(!come(2).guests_stay(guest, later) && !Order::GuestsCome(None).guests_stay(guest, later));
        assert!(!come(1).guests_stay(guest, until) && !come(1).guests_stay(None, now));
        come(1).note(&mut record, By::Command, now);
        assert_eq!(record.guest.unwrap().until, now.checked_add(SignedDuration::from_hours(1)).ok());
    }
}
