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
}
