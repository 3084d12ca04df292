//! Files that are cut off, have holes, hold what is no number, or are no audio at all.

use super::*;
use crate::room::samples;

#[test]
fn what_is_no_number_is_silence() {
    for (name, value) in [("nan", f32::NAN), ("inf", f32::INFINITY), ("huge", 1e30)] {
        let (_folder, path) = scratch("bad.wav");
        write_wav(&path, &vec![value; 160_000], 16_000, 1, 32);
        let run = analyze(&path);
        assert_eq!(run.status, 1, "{name}");
        assert!(run.sentence().contains("160000 of 160000 samples are no numbers"), "{name}: {}", run.err);
        assert!(!run.out.contains("NaN") && !run.out.contains("null"), "{name}: {}", run.out);
        assert!(segments(&run.json()).is_empty(), "{name}");
    }
}

#[test]
fn speech_between_numbers_that_are_none_is_heard() {
    let expected = two_voices_found();
    for (rate, what) in [(16_000, "as it is"), (48_000, "resampled")] {
        let mut samples = at_rate(&two_voices(), rate);
        samples[..rate as usize].fill(f32::NAN);
        for (k, sample) in samples.iter_mut().step_by(4001).enumerate() {
            *sample = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][k % 3];
        }
        let (_folder, path) = scratch("mixed.wav");
        write_wav(&path, &samples, rate, 1, 32);
        let run = analyze(&path);
        assert_eq!(run.status, 1, "{what}");
        assert!(run.sentence().contains("samples are no numbers"), "{what}: {}", run.err);
        let found = segments(&run.json());
        assert_voices(&found, &VOICES[..2], what);
        assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
    }
}

#[test]
fn a_truncated_file_is_told_and_what_was_heard_is_kept() {
    let (folder, wav) = scratch("whole.wav");
    write_wav(&wav, &samples(), 16_000, 1, 16);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ogg = project.join("demo/room.ogg");
    let flac = project.join("tests/golden/formats/voice.flac");
    for (whole, share, voices) in
        [(wav, 22.0 / 95.4, &VOICES[..2]), (ogg, 22.0 / 95.4, &VOICES[..2]), (flac, 0.9, &[(3.0, 6.86)][..])]
    {
        let bytes = std::fs::read(&whole).unwrap();
        let cut = folder.path().join("cut").with_extension(whole.extension().unwrap());
        std::fs::write(&cut, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
        let (run, what) = (analyze(&cut), cut.display());
        assert_eq!(run.status, 1, "{what}: {}", run.err);
        assert!(run.sentence().contains("is damaged"), "{what}: {}", run.err);
        assert_voices(&segments(&run.json()), voices, &what.to_string());
        assert_eq!(run.json().last().unwrap()["type"], "summary", "{what}");
    }
}

#[test]
fn a_file_that_is_damaged_in_the_middle_is_heard_on_both_sides() {
    let mut bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/room.ogg")).unwrap();
    // Between the second and the third voice.
    let place = bytes.len() * 21 / 95;
    bytes[place..place + 6_000].fill(0);
    let (_folder, path) = scratch("hole.ogg");
    std::fs::write(&path, &bytes).unwrap();
    let run = analyze(&path);
    assert_eq!(run.status, 1, "{}", run.err);
    assert!(run.sentence().contains("samples are missing at 2"), "{}", run.err);
    assert_voices(&segments(&run.json()), &VOICES, "what is missing moves the clock");
}

#[test]
fn what_is_no_audio_gets_one_sentence() {
    let (folder, text) = scratch("text.wav");
    std::fs::write(&text, "this is not audio, whatever its name says\n".repeat(100)).unwrap();
    let empty = folder.path().join("empty.wav");
    std::fs::write(&empty, "").unwrap();
    let header = folder.path().join("header.wav");
    write_wav(&header, &[], 16_000, 1, 16);
    let torn = folder.path().join("torn.wav");
    std::fs::write(&torn, &std::fs::read(&header).unwrap()[..30]).unwrap();
    let rate = folder.path().join("rate.wav");
    write_wav(&rate, &[0.1; 4000], 2_000, 1, 16);
    for (path, expected) in [
        (folder.path().join("absent.wav"), "cannot open"),
        (folder.path().to_path_buf(), "cannot open"),
        (text, "not audio that undertone reads"),
        (empty, "holds no samples"),
        (header, "holds no samples"),
        (torn, "not audio that undertone reads"),
        (rate, "2000 Hz cannot be converted"),
    ] {
        let run = analyze(&path);
        assert_eq!((run.status, run.out.as_str()), (1, ""), "{}", path.display());
        assert!(run.sentence().contains(expected), "{}", run.err);
    }
}

#[test]
fn one_bad_file_does_not_spoil_the_others() {
    let run = program::finish(program::undertone().args(["analyze", "absent.wav", "demo/room.ogg"]));
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("absent.wav") && run.out.contains("10 segments"), "{}", run.out);
}
