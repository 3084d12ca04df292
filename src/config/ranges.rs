//! Between which limits the numbers of a configuration lie, section by section. Out: what lies outside of them.

use super::{Audio, Cascade, ConfigError, Ledger, Model, Mqtt};
use std::ops::RangeInclusive;

/// A key, what it holds, its limits, and these in words.
pub(super) type Number<'a> = (&'static str, f64, RangeInclusive<f64>, &'a str);

pub(super) const SECONDS: &str = "allowed are seconds from 0.1 to 3600";
pub(super) const SHARE: &str = "allowed are 0 to 1";

/// Those that are not within their limits, or no numbers.
pub(super) fn outside(numbers: &[Number]) -> Vec<ConfigError> {
    let wrong = numbers.iter().filter(|(_, value, range, _)| !(value.is_finite() && range.contains(value)));
    wrong
        .map(|&(key, value, _, allowed)| ConfigError::Value {
            key,
            value: value.to_string(),
            allowed: allowed.into(),
        })
        .collect()
}

/// `[audio]`
pub(super) fn audio(a: &Audio) -> Vec<ConfigError> {
    let lowest_hz = if a.high_pass_hz == 0.0 { 0.0 } else { 20.0 };
    let (silence, ring) = ("allowed are 0 (never) to 86400 seconds", "allowed are 0.5 to 60 seconds");
    outside(&[
        ("audio.gain_db", a.gain_db, -40.0..=40.0, "allowed are -40 to 40 dB"),
        ("audio.high_pass_hz", a.high_pass_hz, lowest_hz..=400.0, "allowed are 0 (off) and 20 to 400 Hz"),
        ("audio.ring_seconds", a.ring_seconds, 0.5..=60.0, ring),
        ("audio.stall_seconds", a.stall_seconds, 0.1..=3600.0, SECONDS),
        ("audio.silence_seconds", a.silence_seconds, 0.0..=86_400.0, silence),
        ("audio.retry_seconds", a.retry_seconds, 0.1..=3600.0, SECONDS),
    ])
}

/// `[model]`
pub(super) fn model(m: &Model) -> Vec<ConfigError> {
    outside(&[("model.gate_threshold", m.gate_threshold, 0.0..=1.0, SHARE)])
}

/// `[cascade]`
pub(super) fn cascade(c: &Cascade) -> Vec<ConfigError> {
    let stride = "allowed are 0.04 to 3.6 seconds (one window)";
    let offset = format!("allowed are 0 to cascade.onset, which is {}", c.onset);
    let latest = c.min_silence_seconds + c.stride_seconds;
    let post_roll = "allowed are 0 to cascade.min_silence_seconds + cascade.stride_seconds (no segment waits longer \
                     for its end)";
    let segment = "allowed are 1 to 120 seconds";
    // What is left behind a cut could be ignored else, however long it is.
    let speech = (c.max_segment_seconds.max(1.0) / 2.0).min(3.0);
    let least = "allowed are 0 to 3 seconds, and no more than half of cascade.max_segment_seconds";
    outside(&[
        ("cascade.energy_margin_db", c.energy_margin_db, 0.0..=40.0, "allowed are 0 to 40 dB"),
        ("cascade.stride_seconds", c.stride_seconds, 0.04..=3.6, stride),
        ("cascade.suspect_stride_seconds", c.suspect_stride_seconds, 0.04..=3.6, stride),
        ("cascade.onset", c.onset, 0.0..=1.0, SHARE),
        ("cascade.offset", c.offset, 0.0..=c.onset, &offset),
        ("cascade.min_speech_seconds", c.min_speech_seconds, 0.0..=speech, least),
        ("cascade.min_silence_seconds", c.min_silence_seconds, 0.04..=3.0, "allowed are 0.04 to 3 seconds"),
        ("cascade.background_veto", c.background_veto, 0.0..=1.0, SHARE),
        ("cascade.emotion_confidence", c.emotion_confidence, 0.0..=1.0, SHARE),
        ("cascade.pre_roll_seconds", c.pre_roll_seconds, 0.0..=2.0, "allowed are 0 to 2 seconds"),
        ("cascade.post_roll_seconds", c.post_roll_seconds, 0.0..=latest, post_roll),
        ("cascade.max_segment_seconds", c.max_segment_seconds, 1.0..=120.0, segment),
    ])
}

/// `[mqtt]`
pub(super) fn mqtt(m: &Mqtt) -> Vec<ConfigError> {
    let heartbeat = "allowed are 1 to 86400 seconds";
    outside(&[
        ("mqtt.heartbeat_seconds", m.heartbeat_seconds, 1.0..=86_400.0, heartbeat),
        ("mqtt.outbox", m.outbox as f64, 1.0..=100_000.0, "allowed are 1 to 100000 events"),
    ])
}

/// `[ledger]`
pub(super) fn ledger(l: &Ledger) -> Vec<ConfigError> {
    let (kb, days, keep) = (l.max_file_kb.into(), l.max_file_days.into(), l.keep_days.into());
    outside(&[
        ("ledger.fsync_seconds", l.fsync_seconds, 0.1..=3600.0, SECONDS),
        ("ledger.max_file_kb", kb, 16.0..=32_768.0, "allowed are 16 to 32768 kB"),
        ("ledger.max_file_days", days, 1.0..=3660.0, "allowed are 1 to 3660 days"),
        ("ledger.keep_days", keep, 1.0..=36_600.0, "allowed are 1 to 36600 days"),
    ])
}
