//! The picture of `--plot`: what it shows, and what it is not written over.

use super::*;

#[test]
fn a_picture_shows_the_segments_and_what_ran() {
    let (folder, out) = scratch("room.svg");
    let sound = folder.path().join("room.wav");
    write_wav(&sound, &two_voices(), 16_000, 1, 16);
    let run = finish(undertone().args(["analyze", "--json", "--plot"]).arg(&out).arg(&sound));
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let svg = std::fs::read_to_string(&out).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{}", &svg[..80]);
    let emotions: Vec<Value> = run.json().into_iter().filter(|e| e["type"] == "emotion").collect();
    assert!(!emotions.is_empty());
    for emotion in &emotions {
        let name =
            format!("{} {:.2}", emotion["label"].as_str().unwrap(), emotion["confidence"].as_f64().unwrap());
        assert!(svg.contains(&name), "{name} is not written in the picture");
    }
    // The colours of segments, of modules that ran and of modules that did not.
    for colour in ["#FAC850", "#1E5AA0", "#E1E8F0"] {
        assert!(svg.matches(colour).count() >= emotions.len(), "{colour}");
    }
    let again = finish(undertone().args(["analyze", "--plot"]).arg(&out).arg(&sound));
    assert_eq!((again.status, again.err.as_str()), (0, ""), "a picture may be replaced");
    let two = finish(undertone().args(["analyze", "--plot"]).arg(&out).args([&sound, &sound]));
    assert_eq!(two.status, 2);
    assert!(two.sentence().contains("one file"), "{}", two.err);
    let nowhere = finish(undertone().args(["analyze", "--plot", "/nowhere/at.svg"]).arg(&sound));
    assert_eq!(nowhere.status, 1);
    assert!(nowhere.sentence().contains("/nowhere/at.svg"), "{}", nowhere.err);
}

/// Whoever takes `--plot` for a flag names a recording as the picture.
#[test]
fn a_picture_is_written_over_no_recording_and_over_nothing_that_is_none() {
    let (folder, _) = scratch("nothing");
    let path = |name: &str| folder.path().join(name);
    for name in ["a.wav", "b.wav", "notes.svg"] {
        std::fs::write(path(name), name).unwrap();
    }
    std::os::unix::fs::symlink(path("b.wav"), path("link.svg")).unwrap();
    std::fs::create_dir(path("folder.svg")).unwrap();
    for (out, sentence) in [
        ("a.wav", "a picture is an SVG file"),
        ("b.wav", "the recording itself"),
        ("link.svg", "the recording itself"),
        ("new.png", "a picture is an SVG file"),
        ("notes.svg", "is no picture"),
        ("folder.svg", "is no picture"),
    ] {
        let run = finish(undertone().args(["analyze", "--plot"]).arg(path(out)).arg(path("b.wav")));
        assert_eq!((run.status, run.out.as_str()), (2, ""), "{out}: {}", run.err);
        let told = run.sentence();
        assert!(
            told.contains(sentence) && told.contains("name a new file that ends in .svg"),
            "{out}: {told}"
        );
    }
    // It is read twice, which hangs at a FIFO.
    let fifo = path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let run = finish(undertone().args(["analyze", "--plot"]).arg(path("new.svg")).arg(&fifo));
    assert!(run.status == 2 && run.sentence().contains("which only a file can be"), "{}", run.err);
    for name in ["a.wav", "b.wav", "notes.svg"] {
        assert_eq!(std::fs::read_to_string(path(name)).unwrap(), name);
    }
    assert!(!path("new.png").exists());
}
