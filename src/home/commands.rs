//! What may be asked of the sensor over MQTT: topic and payload in, a [`Command`] or a refusal out.
//!
//! A retained message is no command and is ignored: the broker gives it again at every connection, long
//! after whoever sent it has changed their mind.

use super::topics::Topics;
use crate::consent::Order;
use crate::settings::Setting;

/// Longest payload, in bytes.
pub const MAX_COMMAND: usize = 256;
/// Commands besides withdrawals that may wait; further ones are refused.
pub const QUEUE: usize = 32;
/// What a button of Home Assistant sends.
pub const PRESS: &str = "PRESS";

/// What somebody at the broker wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Grant or withdraw a consent, begin or end a guest mode.
    Consent(Order),
    /// Change a threshold; `None`: back to the configuration's value.
    Set(Setting, Option<f64>),
    /// Start anew.
    Restart,
    /// Forget what was heard.
    Forget,
}

impl Command {
    /// Whether it takes a consent away; such a command is never refused because others wait.
    pub fn withdraws(&self) -> bool {
        matches!(self, Command::Consent(order) if !order.gives())
    }

    /// Whether it counts only if somebody says it now, and not if it waited at the broker: what gives consent, and a
    /// restart, which might come again after each.
    pub fn counts_only_now(&self) -> bool {
        matches!(self, Command::Consent(order) if order.gives()) || *self == Command::Restart
    }
}

/// Reads a message that arrived on one of [`Topics::filters`]. `Ok(None)`: it is no command (the
/// empty message with which somebody removes a retained one), or nobody says it now (it is retained, and no
/// longer than a command).
///
/// # Errors
/// One sentence: what is refused, and what would be right. It repeats at most a few characters.
pub fn read(topics: &Topics, topic: &str, payload: &[u8], retained: bool) -> Result<Option<Command>, String> {
    let refuse = |why: String| Err(format!("a command on {} is refused: {why}", shown(topic.as_bytes())));
    if payload.is_empty() || (retained && payload.len() <= MAX_COMMAND) {
        return Ok(None);
    }
    if retained {
        let bytes = payload.len();
        return refuse(format!(
            "it is retained and has {bytes} bytes; an empty retained message there removes it"
        ));
    }
    if payload.len() > MAX_COMMAND {
        return refuse(format!("it has {} bytes, and {MAX_COMMAND} are allowed", payload.len()));
    }
    let below = topic.strip_prefix(topics.base.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let parts: Vec<&str> = below.unwrap_or_default().split('/').collect();
    let text = std::str::from_utf8(payload).unwrap_or("\u{fffd}").trim();
    let wrong = |allowed: &str| refuse(format!("it says {:?}, and allowed are {allowed}", shown(payload)));
    let command = match parts[..] {
        ["consent", ..] => {
            let order = Order::from_message(below.unwrap_or_default(), payload);
            return order.map(|order| Some(Command::Consent(order))).map_err(|refusal| refusal.to_string());
        }
        ["settings", name, "set"] => {
            let Some(setting) = Setting::from_name(name) else {
                let names = Setting::ALL.map(Setting::name).join(", ");
                return refuse(format!("the settings are {names}"));
            };
            match (text, text.parse::<f64>()) {
                ("default", _) => Command::Set(setting, None),
                (_, Ok(value)) if (0.0..=1.0).contains(&value) => Command::Set(setting, Some(value)),
                _ => return wrong("numbers from 0 to 1, and default"),
            }
        }
        ["command", name @ ("restart" | "forget")] => match (text, name) {
            (PRESS, "restart") => Command::Restart,
            (PRESS, _) => Command::Forget,
            _ => return wrong(PRESS),
        },
        _ => return refuse("there is no such command; there are restart and forget".to_owned()),
    };
    Ok(Some(command))
}

/// The beginning of what somebody sent, fit for a log.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MOST)]);
    let mut kept: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MOST).collect();
    if kept.chars().count() < text.chars().count() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mqtt;
    use crate::consent::Scope;
    use crate::events::Consent;

    fn say(scope: Scope, consent: Consent) -> Command {
        Command::Consent(Order::Say(scope, consent))
    }

    fn take(leaf: &str, payload: &[u8], retained: bool) -> Result<Option<Command>, String> {
        let topics = Topics::new(&Mqtt::default(), "kitchen");
        read(&topics, &format!("undertone/kitchen/{leaf}"), payload, retained)
    }

    #[test]
    fn what_is_right_is_taken() {
        for (leaf, payload, command) in [
            ("consent/listening/set", "withheld", say(Scope::Listening, Consent::Withheld)),
            ("consent/transcription/set", "granted", say(Scope::Transcription, Consent::Granted)),
            ("consent/guest/set", "on", Command::Consent(Order::GuestsCome(None))),
            ("settings/listen_threshold/set", "0.65", Command::Set(Setting::ListenThreshold, Some(0.65))),
            ("settings/emotion_confidence/set", "default", Command::Set(Setting::EmotionConfidence, None)),
            ("command/restart", "PRESS", Command::Restart),
            ("command/forget", "PRESS", Command::Forget),
        ] {
            assert_eq!(take(leaf, payload.as_bytes(), false), Ok(Some(command)), "{leaf}");
            assert_eq!(take(leaf, payload.as_bytes(), true), Ok(None), "{leaf}");
            assert_eq!(take(leaf, b"", false), Ok(None), "{leaf}");
            let told = take(leaf, &vec![b'x'; MAX_COMMAND + 1], false).unwrap_err();
            assert!(told.contains("257 bytes, and 256 are allowed"), "{told}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_is_right() {
        for (leaf, payload, right) in [
            ("consent/listening/set", &b"on"[..], "`granted` and `withheld`"),
            ("consent/listening/set", b"GRANTED", "`granted` and `withheld`"),
            ("consent/everything/set", b"granted", "listening, transcription and guest"),
            ("settings/gate_threshold/set", b"1.5", "0 to 1"),
            ("settings/gate_threshold/set", b"nan", "0 to 1"),
            ("settings/gate_threshold/set", b"{\"value\": 0.5}", "0 to 1"),
            ("settings/gate_threshold/set", &[0xff, 0xfe], "0 to 1"),
            ("settings/volume/set", b"0.5", "listen_threshold, gate_threshold, emotion_confidence"),
            ("command/restart", b"1", "PRESS"),
            ("command/halt", b"PRESS", "restart and forget"),
            ("event", b"{}", "no such command"),
        ] {
            let told = take(leaf, payload, false).unwrap_err();
            let named = told.contains(leaf) || leaf == "consent/everything/set";
            assert!(told.contains(right) && named, "{told}");
        }
    }

    #[test]
    fn a_refusal_repeats_little_and_nothing_that_a_terminal_would_obey() {
        let told =
            take("settings/gate_threshold/set", "\u{1b}[31m9".repeat(40).as_bytes(), false).unwrap_err();
        assert!(!told.contains('\u{1b}') && told.len() < 400, "{told}");
    }
}
