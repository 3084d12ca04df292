//! `undertone demo`: what a newcomer sees.

#[path = "support/program.rs"]
mod program;

use program::{finish, undertone};

#[test]
fn the_demo_shows_each_kind_of_message_and_a_summary() {
    let run = finish(undertone().args(["demo", "--speed", "100"]));
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    let lines = |part: &str| run.out.lines().filter(|l| l.contains(part)).count();
    assert!(
        run.out.contains("undertone/demo/availability  online") && run.out.contains("offline"),
        "{}",
        run.out
    );
    assert_eq!(lines("speech_started at"), 10, "{}", run.out);
    assert_eq!(lines("undertone/demo/event         emotion "), 10, "{}", run.out);
    assert!(lines("undertone/demo/event         background,") >= 5, "{}", run.out);
    assert!(lines("undertone/demo/state") >= 10, "{}", run.out);
    assert!(run.out.contains("10 segments of speech") && run.out.contains("Without gates"), "{}", run.out);
    assert!(!run.out.contains('\x1b'), "colour only on a terminal");
    // The summary's numbers, in the order of its sentence.
    let sentence = run.out.lines().find(|l| l.contains("s of audio,")).unwrap();
    let numbers: Vec<f64> = sentence
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [heard, segments, run_modules, modules, skipped, macs, ungated, windows, quiet, cpu] = numbers[..]
    else {
        panic!("{sentence}")
    };
    assert!(
        (heard - 95.4).abs() < 0.2 && segments == 10.0 && windows + quiet > 100.0 && cpu > 0.0,
        "{sentence}"
    );
    assert!(run_modules > 0.0 && run_modules < modules && macs < ungated, "{sentence}");
    assert!((skipped - 100.0 * (1.0 - run_modules / modules)).abs() < 0.1, "{sentence}");
}

#[test]
fn a_speed_that_is_none_is_status_2_and_says_what_is_allowed() {
    for speed in ["0", "-1", "nan", "inf", "1e9", "fast", ""] {
        let run = finish(undertone().arg("demo").arg(format!("--speed={speed}")));
        assert_eq!((run.status, run.out.as_str()), (2, ""), "{speed}: {}", run.err);
        assert!(run.err.contains("--speed"), "{speed}: {}", run.err);
    }
}
