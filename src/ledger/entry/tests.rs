//! What lines say, and what of it is urgent.

use super::*;

#[test]
fn the_kinds_are_those_that_can_be_read() {
    // A kind that is none is refused with the list of all.
    let told = serde_json::from_str::<Entry>("{\"kind\":\"none\"}").unwrap_err().to_string();
    let all = KINDS.map(|kind| format!("`{kind}`")).join(", ");
    assert!(told.contains(&format!("expected one of {all}")), "{told}");
}

#[test]
fn that_a_recogniser_began_to_be_given_sound_is_on_the_disk_before_it_ends() {
    let (id, start) = (Uuid::now_v7(), Timestamp::UNIX_EPOCH);
    let began = Entry::AsrBegan { id, start, hook: Name::of("command") };
    assert!(began.urgent() && !Entry::SpeechStarted { id, start }.urgent());
    assert_eq!((began.id(), began.start(), began.end()), (Some(id), Some(start), None));
}

#[test]
fn a_name_cannot_hold_a_sentence() {
    assert_eq!(Name::of("undertone 0.1\n"), Name("undertone0.1".into()));
    assert_eq!(Name::of(&"x".repeat(100)).0.len(), 64);
    assert!(serde_json::from_str::<Name>("\"what was said\"").is_err());
}
