//! What `[asr]` may hold.

use super::asr::{Asr, Kind, Mode, When};
use super::ranges::{SECONDS, SHARE, outside};
use super::{ConfigError, address};
use crate::events::Label;

/// Most vocabulary hints, and characters in each.
const MOST_WORDS: usize = 200;
const LONGEST_WORD: usize = 100;

/// What of `[asr]` is not allowed.
pub(super) fn validate(asr: &Asr) -> Vec<ConfigError> {
    let Asr { wake, retry, breaker, min_seconds: shortest, .. } = asr;
    let (attempts, failures) = (f64::from(retry.attempts), f64::from(breaker.failures));
    let connect = "allowed are 0.1 to 60 seconds";
    let longest = "allowed are asr.min_seconds to 300 seconds";
    let (retry_pause, pause) = ("allowed are 0.01 to 60 seconds", "allowed are 0.1 to 86400 seconds");
    let mut wrong = outside(&[
        ("asr.connect_timeout_seconds", asr.connect_timeout_seconds, 0.1..=60.0, connect),
        ("asr.timeout_seconds", asr.timeout_seconds, 0.1..=3600.0, SECONDS),
        ("asr.queue", asr.queue as f64, 1.0..=64.0, "allowed are 1 to 64 segments"),
        ("asr.min_seconds", asr.min_seconds, 0.0..=60.0, "allowed are 0 to 60 seconds"),
        ("asr.max_seconds", asr.max_seconds, *shortest..=300.0, longest),
        ("asr.min_speech", asr.min_speech, 0.0..=1.0, SHARE),
        ("asr.wake.min_confidence", wake.min_confidence, 0.0..=1.0, SHARE),
        ("asr.retry.attempts", attempts, 1.0..=10.0, "allowed are 1 to 10 attempts"),
        ("asr.retry.pause_seconds", retry.pause_seconds, 0.01..=60.0, retry_pause),
        ("asr.breaker.failures", failures, 1.0..=100.0, "allowed are 1 to 100 failures"),
        ("asr.breaker.pause_seconds", breaker.pause_seconds, 0.1..=86_400.0, pause),
    ]);
    wrong.extend([words(asr), addresses(asr), fit_together(asr)].into_iter().filter_map(Result::err));
    wrong
}

fn refuse<T: std::fmt::Debug>(key: &'static str, value: T, allowed: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key, value: format!("{value:?}"), allowed: allowed.into() })
}

fn words(asr: &Asr) -> Result<(), ConfigError> {
    let language = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if asr.language.len() > 35 || !asr.language.chars().all(language) {
        return refuse("asr.language", &asr.language, "allowed are codes such as \"de\" or \"pt-BR\"");
    }
    let word = |w: &String| {
        !w.trim().is_empty()
            && w.chars().count() <= LONGEST_WORD
            && !w.contains(|c: char| c.is_control() || c == ',')
    };
    if asr.vocabulary.len() > MOST_WORDS || !asr.vocabulary.iter().all(word) {
        let allowed =
            "allowed are up to 200 entries of up to 100 characters, without commas and control characters";
        return refuse("asr.vocabulary", &asr.vocabulary, allowed);
    }
    for (key, model) in [("asr.wyoming.model", &asr.wyoming.model), ("asr.http.model", &asr.http.model)] {
        if model.len() > 200 || model.contains(char::is_control) {
            return refuse(key, model, "allowed are up to 200 bytes without control characters");
        }
    }
    Ok(())
}

fn addresses(asr: &Asr) -> Result<(), ConfigError> {
    let kind = asr.kind();
    if asr.command.first().is_some_and(|program| program.trim().is_empty())
        || (kind == Some(Kind::Command) && asr.command.is_empty())
    {
        let allowed = "the first entry must name a program; leave the list empty for no recogniser";
        // What stands behind it may be a key.
        let seen: Vec<&String> = asr.command.iter().take(1).collect();
        return refuse("asr.command", seen, allowed);
    }
    let wyoming = &asr.wyoming;
    if wyoming.address().is_none() && (kind == Some(Kind::Wyoming) || !wyoming.url.is_empty()) {
        let allowed = match wyoming.url.contains(['@', '?', '#']) {
            true => {
                "allowed are \"tcp://host[:port]\" and \"unix:///path\"; the protocol has no user, password or key"
            }
            false => "allowed are \"tcp://host[:port]\" and \"unix:///path\"",
        };
        return refuse("asr.wyoming.url", address::shown(&wyoming.url), allowed);
    }
    let http = &asr.http;
    if http.address().is_none() && (kind == Some(Kind::Http) || !http.url.is_empty()) {
        let allowed = match http.url.contains(['@', '?', '#']) {
            true => {
                "a user, password or key does not belong into the address, which logs and the page for visitors show; \
                 write the key into a file that asr.http.key_file names, or into the environment variable \
                 UNDERTONE_ASR_KEY; what follows a ? is not allowed"
            }
            false => "allowed are \"http://host[:port][/path]\" and \"https://…\"",
        };
        return refuse("asr.http.url", address::shown(&http.url), allowed);
    }
    if !http.ca_file.as_os_str().is_empty() && !http.url.starts_with("https://") {
        let allowed = "the server's certificate is looked at over TLS only, else all is sent in clear; asr.http.url must begin with https://";
        return refuse("asr.http.ca_file", address::file(&http.ca_file), allowed);
    }
    Ok(())
}

fn fit_together(asr: &Asr) -> Result<(), ConfigError> {
    let wake = &asr.wake;
    if wake.labels.contains(&Label::Background) {
        return refuse("asr.wake.labels", &wake.labels, "background is no emotion and wakes nobody");
    }
    if wake.when == When::Speech && (!wake.labels.is_empty() || wake.min_confidence > 0.0) {
        let allowed = "asr.wake.labels and asr.wake.min_confidence hold for \"emotion\" only";
        return refuse("asr.wake.when", "speech", allowed);
    }
    if asr.mode == Mode::Stream && wake.when == When::Emotion {
        let allowed = "the emotion is known when a segment is over; with asr.wake.when = \"emotion\" only \"segment\" is allowed";
        return refuse("asr.mode", "stream", allowed);
    }
    if asr.mode == Mode::Stream && asr.kind() == Some(Kind::Http) {
        return refuse(
            "asr.mode",
            "stream",
            "the hook \"http\" takes whole segments: only \"segment\" is allowed",
        );
    }
    Ok(())
}
