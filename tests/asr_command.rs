//! The hook of kind `command`, with real programs: what they get, and what they may do wrong.

#[path = "support/hooks/mod.rs"]
mod hooks;

use hooks::{clip, config, hook, is_gone, read_pids, start, transcribe};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use undertone::asr::{AsrError, Clip, configured};
use undertone::config::{self, asr::Mode};
use uuid::Uuid;

#[tokio::test]
async fn words_come_back_trimmed() {
    assert_eq!(transcribe(&["echo.sh", "turn", "the light on"], 0.5).await.unwrap(), "turn the light on");
    assert_eq!(transcribe(&["echo.sh"], 0.5).await.unwrap(), "");
}

#[tokio::test]
async fn the_program_gets_16_bit_mono_wav_at_16_khz() {
    let text = transcribe(&["header.sh"], 1.25).await.unwrap();
    let (header, rest) = text.split_once(' ').unwrap();
    let header: Vec<u8> =
        (0..44).map(|i| u8::from_str_radix(&header[2 * i..2 * i + 2], 16).unwrap()).collect();
    let u16_at = |i: usize| u16::from_le_bytes([header[i], header[i + 1]]);
    let u32_at = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let data = 20_000 * 2;
    assert_eq!(&header[0..4], b"RIFF");
    assert_eq!(u32_at(4), 36 + data);
    assert_eq!(&header[8..16], b"WAVEfmt ");
    assert_eq!(u32_at(16), 16, "size of the format chunk");
    assert_eq!(u16_at(20), 1, "PCM");
    assert_eq!(u16_at(22), 1, "channels");
    assert_eq!(u32_at(24), 16_000, "samples per second");
    assert_eq!(u32_at(28), 32_000, "bytes per second");
    assert_eq!(u16_at(32), 2, "bytes per frame");
    assert_eq!(u16_at(34), 16, "bits per sample");
    assert_eq!(&header[36..40], b"data");
    assert_eq!(u32_at(40), data);
    assert_eq!(rest.trim(), data.to_string(), "bytes after the header");
}

#[tokio::test]
async fn samples_arrive_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard.wav");
    let samples = vec![0.0, 0.5, -0.5, 1.0, -1.0, 7.0, -7.0, f32::NAN, f32::INFINITY];
    let mut clip = Clip::whole(Uuid::now_v7(), start(), samples);
    let hook = hook(&["sh", "-c", "cat >\"$0\"", path.to_str().unwrap()], 10.0);
    hook.transcribe(&mut clip).await.unwrap();
    let heard: Vec<i16> = hound::WavReader::open(&path).unwrap().into_samples().map(Result::unwrap).collect();
    assert_eq!(heard, [0, 16384, -16384, 32767, -32767, 32767, -32767, 0, 32767]);
}

#[tokio::test]
async fn the_environment_names_the_segment_and_the_node() {
    let mut clip = clip(0.1);
    let text = hook(&["environment.sh"], 10.0).transcribe(&mut clip).await.unwrap();
    assert_eq!(text, format!("{} attic home no password", clip.id));
}

/// Runs the test above in a process that has the broker's password in its environment.
#[test]
fn the_password_of_the_broker_is_not_passed_on() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_names_the_segment_and_the_node"])
        .env("UNDERTONE_MQTT_PASSWORD", "hunter2")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let began = Instant::now();
    let error = hook(&["hang.sh", pids.to_str().unwrap()], 2.0).transcribe(&mut clip(1.0)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(matches!(error, AsrError::TimedOut { seconds: 2.0, .. }), "{error}");
    assert!(error.to_string().contains("hang.sh` did not answer within 2 s and was given up"), "{error}");
    assert!(error.to_string().contains("asr.timeout_seconds"), "{error}");
    let pids = read_pids(&pids);
    assert_eq!(pids.len(), 2);
    assert!(!std::path::Path::new(&format!("/proc/{}", pids[0])).exists(), "a zombie is left");
    assert!(is_gone(pids[1]).await, "the grandchild lives");
}

#[tokio::test]
async fn a_hand_over_that_is_dropped_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let (hook, mut clip) = (hook(&["hang.sh", file.to_str().unwrap()], 60.0), clip(1.0));
    let began = async {
        while read_pids(&file).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = hook.transcribe(&mut clip) => panic!("it answered"),
        () = began => {}
    }
    for pid in read_pids(&file) {
        assert!(is_gone(pid).await, "{pid} lives");
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_its_answer_counts() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let began = Instant::now();
    let text = hook(&["linger.sh", pid.to_str().unwrap()], 30.0).transcribe(&mut clip(1.0)).await.unwrap();
    assert_eq!(text, "done");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(is_gone(read_pids(&pid)[0]).await);
}

#[tokio::test]
async fn a_flood_is_stopped() {
    let error = transcribe(&["flood.sh"], 1.0).await.unwrap_err();
    assert!(matches!(error, AsrError::Flooded { limit: 65536, .. }), "{error}");
    let error = transcribe(&["sh", "-c", "exec yes complaints >&2"], 1.0).await.unwrap_err();
    assert!(matches!(error, AsrError::Flooded { limit: 1_048_576, .. }), "{error}");
    // A program that returns the audio itself fills one pipe while undertone fills the other.
    let error = transcribe(&["cat"], 300.0).await.unwrap_err();
    assert!(matches!(error, AsrError::Flooded { .. }), "{error}");
}

#[tokio::test]
async fn a_program_may_write_before_it_reads() {
    assert_eq!(transcribe(&["chatter.sh"], 300.0).await.unwrap(), "heard");
}

#[tokio::test]
async fn a_program_that_dies_says_why() {
    let error = transcribe(&["die.sh"], 30.0).await.unwrap_err();
    assert!(error.to_string().contains("die.sh` failed (exit status: 3)"), "{error}");
    assert!(error.sentence().ends_with("it said: the model file is missing"), "{}", error.sentence());
    assert!(!error.sentence().contains("half a sen"), "{}", error.sentence());
    let error = transcribe(&["sh", "-c", "kill -SEGV $$"], 30.0).await.unwrap_err();
    assert!(error.to_string().contains("signal: 11"), "{error}");
}

#[tokio::test]
async fn a_program_need_not_read() {
    assert_eq!(transcribe(&["deaf.sh"], 300.0).await.unwrap(), "nothing to read here");
    assert_eq!(transcribe(&["close_early.sh"], 320.0).await.unwrap(), "enough");
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_replaced() {
    assert_eq!(transcribe(&["bytes.sh"], 0.5).await.unwrap(), "café \u{fffd} au lait");
}

#[tokio::test]
async fn a_program_that_cannot_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recogniser");
    std::fs::write(&file, "#!/bin/sh\necho hello\n").unwrap();
    for program in ["/nowhere/recogniser", "recogniser-that-does-not-exist", file.to_str().unwrap(), "/"] {
        let mut clip = clip(0.1);
        let error = hook(&[program], 10.0).transcribe(&mut clip).await.unwrap_err();
        assert!(matches!(error, AsrError::Start { .. }), "{error}");
        assert_eq!(clip.taken(), 0);
        let text = error.to_string();
        assert!(text.contains(program) && text.contains("asr.command"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_arrives_as_raw_samples_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heard");
    let config = config::Asr {
        mode: Mode::Stream,
        ..config(&["sh", "-c", "cat >\"$0\"; echo heard", path.to_str().unwrap()], 5.0)
    };
    let hook = configured(&config, "attic").unwrap().unwrap();
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    let heard = |count: u64| {
        let path = path.clone();
        async move {
            let begun = Instant::now();
            while std::fs::metadata(&path).map_or(0, |m| m.len()) < count {
                assert!(begun.elapsed() < Duration::from_secs(10), "{count} bytes did not arrive");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let speak = async {
        growing.push(vec![0.5, -0.5]);
        heard(4).await; // before the segment is over
        growing.push(vec![1.0; 100_000]);
        heard(200_004).await;
        growing.push(vec![-1.0]);
        growing.finish();
    };
    let (answer, ()) = tokio::join!(hook.transcribe(&mut clip), speak);
    assert_eq!(answer.unwrap(), "heard");
    let bytes = std::fs::read(&path).unwrap();
    let expected = [16384, -16384].into_iter().chain(std::iter::repeat_n(32767, 100_000)).chain([-32767]);
    let expected: Vec<u8> = expected.flat_map(|s: i16| s.to_le_bytes()).collect();
    assert!(bytes == expected);
    assert_eq!(clip.taken(), 100_003);
}

#[tokio::test]
async fn a_stream_that_turns_out_to_be_noise_kills_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let config = config::Asr { mode: Mode::Stream, ..config(&["hang.sh", pids.to_str().unwrap()], 60.0) };
    let hook = configured(&config, "attic").unwrap().unwrap();
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    let speak = async {
        growing.push(vec![0.5; 1000]);
        while read_pids(&pids).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(growing);
    };
    let (answer, ()) = tokio::join!(hook.transcribe(&mut clip), speak);
    assert!(matches!(answer, Err(AsrError::NoSpeech)));
    for pid in read_pids(&pids) {
        assert!(is_gone(pid).await, "{pid} lives");
    }
}

#[tokio::test]
async fn the_environment_tells_language_and_vocabulary() {
    let config = config::Asr {
        language: "de".into(),
        vocabulary: vec!["Wohnzimmer".into(), "Anna".into()],
        ..config(
            &["sh", "-c", "cat >/dev/null; echo $UNDERTONE_LANGUAGE; echo \"$UNDERTONE_VOCABULARY\""],
            10.0,
        )
    };
    let hook = configured(&config, "attic").unwrap().unwrap();
    assert_eq!(hook.transcribe(&mut clip(0.1)).await.unwrap(), "de\nWohnzimmer\nAnna");
}

#[tokio::test]
async fn a_probe_finds_the_program_and_does_not_start_it() {
    assert!(hook(&["sh"], 1.0).probe().await.unwrap().ends_with("/sh"));
    let error = hook(&["no-such-recogniser"], 1.0).probe().await.unwrap_err().to_string();
    assert!(error.contains("no-such-recogniser") && error.contains("asr.command"), "{error}");
}

/// What is there and could not be started all the same: without the right to be run, or for an interpreter that is
/// not there.
#[tokio::test]
async fn a_probe_finds_what_a_script_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook.sh");
    let probe = async |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let hook = hook(&[path.to_str().unwrap()], 1.0);
        hook.probe().await.map_err(|e| e.to_string())
    };
    assert!(probe("#!/bin/sh\necho x\n", 0o755).await.unwrap().ends_with("/hook.sh"));
    assert!(probe("#!/usr/bin/env sh\necho x\n", 0o755).await.is_ok());
    let error = probe("#!/bin/sh\necho x\n", 0o644).await.unwrap_err();
    assert!(error.contains("hook.sh") && error.contains("chmod 755"), "{error}");
    let error = probe("#!/opt/absent/python3\n", 0o755).await.unwrap_err();
    assert!(error.contains("`/opt/absent/python3`, which is not there"), "{error}");
    let error = probe("#!/usr/bin/env absent-python\n", 0o755).await.unwrap_err();
    assert!(error.contains("`absent-python`"), "{error}");
    let error = probe("#!/bin/sh\r\necho x\r\n", 0o755).await.unwrap_err();
    assert!(error.contains("`/bin/sh` (its lines end as on Windows)"), "{error}");
    // Without a first line that says so, the system starts nothing, and a hand-over says the same as the probe.
    let error = probe("echo x\n", 0o755).await.unwrap_err();
    assert!(error.contains("such as `#!/bin/sh`") && !error.contains("os error"), "{error}");
    let hook = hook(&[path.to_str().unwrap()], 1.0);
    assert_eq!(hook.transcribe(&mut clip(0.1)).await.unwrap_err().to_string(), error);
}
