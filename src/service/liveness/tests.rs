//! Microphones that stop, are all zeros, come back, and go again.

use super::*;

fn liveness(silence_seconds: f64) -> Liveness {
    let settings = config::Audio { retry_seconds: 5.0, silence_seconds, ..config::Audio::default() };
    Liveness::new(&settings, 0.0)
}

/// Sound from `from` to `to`, 50 times a second; what was told.
fn flow(liveness: &mut Liveness, from: f64, to: f64, zeros: bool) -> Vec<Tell> {
    let steps = ((to - from) * 50.0).round() as usize;
    (0..=steps).filter_map(|k| liveness.heard(from + k as f64 / 50.0, zeros)).collect()
}

fn problem(told: Option<Tell>) -> String {
    match told {
        Some(Tell::Problem(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_microphone_says_nothing() {
    let mut liveness = liveness(30.0);
    assert_eq!(liveness.health(), Health::Recovering);
    assert!(flow(&mut liveness, 0.0, 100.0, false).is_empty());
    assert_eq!(liveness.health(), Health::Healthy);
}

#[test]
fn a_pause_is_suspect_and_passes() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 10.0, false);
    liveness.idle(10.9);
    assert_eq!(liveness.health(), Health::Healthy);
    liveness.idle(11.1);
    assert_eq!(liveness.health(), Health::Suspect);
    assert_eq!(liveness.heard(11.2, false), None);
    assert_eq!(liveness.health(), Health::Healthy);
}

/// As from a network: it is heard, so it is well.
#[test]
fn sound_that_comes_seldom_ends_a_trouble_too() {
    let mut liveness = liveness(30.0);
    problem(liveness.lost(5.0, "it is not there"));
    let told: Vec<_> = (0..10).filter_map(|k| liveness.heard(10.0 + 0.9 * f64::from(k), false)).collect();
    assert_eq!(told, [Tell::Recovered("the microphone delivers sound again".into())]);
    assert!(liveness.flows(18.5) && !liveness.flows(19.2));
    let told: Vec<_> = (10..60).filter_map(|k| liveness.heard(10.0 + 0.9 * f64::from(k), true)).collect();
    assert!(matches!(&told[..], [Tell::Problem(s)] if s.contains("the same for 30 s")), "{told:?}");
}

#[test]
fn another_device_than_before_is_named_once() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 10.0, false);
    problem(liveness.lost(15.0, "it was unplugged"));
    liveness.opened(Some("hw:CARD=Webcam".into()));
    let told = flow(&mut liveness, 20.0, 23.0, true); // it begins with zeros
    assert!(
        matches!(&told[..], [Tell::Recovered(s)] if s.contains("again, from hw:CARD=Webcam")),
        "{told:?}"
    );
    problem(liveness.lost(100.0, "it was unplugged"));
    liveness.opened(None);
    let told = flow(&mut liveness, 110.0, 113.0, false);
    assert_eq!(told, [Tell::Recovered("the microphone delivers sound again".into())]);
}

#[test]
fn a_loss_is_told_once_then_failed_once_then_over_once() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 10.0, false);
    assert_eq!(problem(liveness.lost(15.0, "no sound for 5 s")), "no sound for 5 s");
    assert_eq!(liveness.health(), Health::Recovering);
    assert_eq!(problem(liveness.lost(16.0, "it is not there")), "it is not there");
    assert_eq!(liveness.lost(17.0, "it is not there"), None);
    assert_eq!(liveness.lost(18.0, "no sound for 5 s"), None);
    let hopeless = problem(liveness.lost(75.5, "it is not there"));
    assert!(hopeless.contains("away for 60 s") || hopeless.contains("away for 61 s"), "{hopeless}");
    assert_eq!(liveness.health(), Health::Failed);
    assert_eq!(liveness.lost(500.0, "it is not there"), None);
    let told = flow(&mut liveness, 600.0, 603.0, false);
    assert_eq!(told, [Tell::Recovered("the microphone delivers sound again".into())]);
    assert_eq!(liveness.health(), Health::Healthy);
}

#[test]
fn absent_from_the_start_is_told_too() {
    let mut liveness = liveness(30.0);
    assert_eq!(problem(liveness.lost(0.1, "it is not there")), "it is not there");
    assert_eq!(liveness.health(), Health::Recovering);
    assert_eq!(flow(&mut liveness, 5.0, 7.0, false).len(), 1);
}

/// A loose plug must not send two messages a second for months, nor be opened as often.
#[test]
fn what_comes_and_goes_is_one_trouble() {
    let mut liveness = liveness(30.0);
    let (mut told, mut now, mut pauses) = (0, 0.0, Vec::new());
    for _ in 0..100 {
        told += flow(&mut liveness, now, now + 0.3, false).len();
        told += usize::from(liveness.lost(now + 0.4, "unplugged").is_some());
        pauses.push(liveness.pause());
        now += 0.4 + pauses.last().unwrap();
    }
    assert_eq!(told, 2, "the problem, and that it is hopeless");
    assert_eq!(pauses[..5], [0.5, 1.0, 2.0, 4.0, 5.0]);
    assert_eq!(pauses[99], 5.0);
    flow(&mut liveness, now, now + 2.0, false);
    assert_eq!(liveness.pause(), 0.5, "a device that works is opened again at once");
}

/// Neither must one that works for some seconds each time.
#[test]
fn what_works_for_seconds_and_breaks_again_is_few_troubles() {
    let mut liveness = liveness(30.0);
    let (mut told, mut now) = (0, 0.0);
    for _ in 0..720 {
        told += flow(&mut liveness, now, now + 4.0, false).len();
        told += usize::from(liveness.lost(now + 4.1, "unplugged").is_some());
        now += 5.0;
    }
    assert!(told < 10, "{told} in an hour");
    flow(&mut liveness, now, now + 100.0, false);
    assert!(liveness.lost(now + 100.1, "unplugged").is_some());
    assert_eq!(flow(&mut liveness, now + 102.0, now + 103.5, false).len(), 1, "that was long ago");
}

/// A muted device that cannot be opened at once after it was closed: opening it anew makes the trouble that opening it anew is for.
#[test]
fn a_silent_device_that_is_slow_to_close_is_opened_anew_ever_more_rarely() {
    let mut liveness = liveness(30.0);
    let (mut told, mut now, mut opened) = (0, 0.0, Vec::new());
    while now < 6.0 * 3600.0 {
        told += usize::from(liveness.heard(now, true).is_some());
        if liveness.reopen(now) {
            opened.push(now);
            told += usize::from(liveness.lost(now + 1.0, "it is busy").is_some());
            now += 1.5;
        }
        now += 0.25;
    }
    let pauses: Vec<f64> = opened.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.last().is_some_and(|pause| *pause > 500.0), "{pauses:?}");
    assert!(opened.len() < 60 && told < 200, "{} times, {told} told in six hours", opened.len());
}

#[test]
fn reasons_without_end_are_bounded() {
    let mut liveness = liveness(30.0);
    let told = (0..50).filter(|k| liveness.lost(f64::from(*k), &format!("error {k}")).is_some());
    assert_eq!(told.count(), REASONS);
}

#[test]
fn zeros_are_told_after_a_while_and_opened_anew_ever_more_rarely() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 10.0, false);
    assert!(flow(&mut liveness, 10.02, 39.9, true).is_empty());
    let told = flow(&mut liveness, 39.92, 41.0, true);
    assert!(matches!(&told[..], [Tell::Problem(s)] if s.contains("has been the same for 30 s")), "{told:?}");
    assert_eq!(liveness.health(), Health::Suspect);
    let mut at = Vec::new();
    for second in 41..2_000 {
        let now = f64::from(second);
        assert_eq!(liveness.heard(now, true), None);
        if liveness.reopen(now) {
            at.push(second);
        }
    }
    assert_eq!(at[..5], [41, 71, 131, 251, 491]);
    assert!(at.len() < 9, "{at:?}");
    let over = liveness.heard(2_000.0, false);
    assert_eq!(over, Some(Tell::Recovered("the microphone is no longer silent".into())));
    assert!(!liveness.reopen(2_001.0));
}

#[test]
fn zeros_count_from_the_opening_and_only_if_wanted() {
    let mut patient = liveness(30.0);
    patient.lost(1.0, "absent");
    // Back after 100 s, with zeros: first it is back, then it is silent.
    let told = flow(&mut patient, 100.0, 129.0, true);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(flow(&mut patient, 129.02, 132.0, true).len(), 1);
    let mut never = liveness(0.0);
    assert!(flow(&mut never, 0.0, 500.0, true).is_empty());
    assert_eq!(never.health(), Health::Healthy);
}

#[test]
fn time_in_which_nothing_came_is_no_silence() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 10.0, false);
    flow(&mut liveness, 10.02, 20.0, true);
    // The machine slept for an hour; the first that comes after it is a gap, which has no sound.
    assert!(flow(&mut liveness, 3_620.0, 3_639.0, true).is_empty());
    assert_eq!(flow(&mut liveness, 3_639.02, 3_641.0, true).len(), 1, "30 s of zeros in all");
}

#[test]
fn closed_on_purpose_is_no_trouble() {
    let mut liveness = liveness(30.0);
    liveness.lost(1.0, "absent");
    assert!(matches!(liveness.closed(), Some(Tell::Recovered(_))), "what was told is over");
    assert_eq!(liveness.health(), Health::Closed);
    assert!(flow(&mut liveness, 100.0, 105.0, true).is_empty());
    assert_eq!(liveness.health(), Health::Healthy);
    assert_eq!(liveness.closed(), None);
    assert_eq!(problem(liveness.lost(200.0, "absent")), "absent", "a new spell is told anew");
}

#[test]
fn a_silent_device_that_is_then_unplugged_is_told() {
    let mut liveness = liveness(30.0);
    flow(&mut liveness, 0.0, 31.0, true);
    assert_eq!(liveness.health(), Health::Suspect);
    assert_eq!(problem(liveness.lost(40.0, "unplugged")), "unplugged");
    assert_eq!(liveness.health(), Health::Recovering);
}
