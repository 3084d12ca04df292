//! The recogniser's queue with real programs: what is taken, what is told, and what consent stops.

#[path = "support/hooks/mod.rs"]
mod hooks;

use hooks::rig::{rig, rig_with_room_for, scopes};
use hooks::{clip, config, is_gone, read_pids};
use std::path::Path;
use std::time::{Duration, Instant};
use undertone::asr::Counts;
use undertone::config;
use undertone::events::{AsrDecision, AsrOutcome, Component, Consent, Transcript};

const WITHDRAWN: &str = "transcription consent was withdrawn";

/// Waits until `hang.sh` has begun for the `n`-th time.
async fn begun(file: &Path, n: usize) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let pids = read_pids(file);
        if pids.len() >= 2 * n {
            return pids;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the program did not begin");
}

#[tokio::test]
async fn a_hand_over_is_told_and_the_words_come_after_it() {
    let config = config::Asr { publish_transcript: true, ..config(&["echo.sh", "hello"], 10.0) };
    let mut rig = rig(&config);
    let clip = clip(1.5);
    let (id, start, end) = (clip.id, clip.start, clip.start + Duration::from_millis(1500));
    assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
    let woken = rig.woken().await;
    assert_eq!((woken.id, woken.start, woken.end, woken.samples), (id, start, end, 24_000));
    assert_eq!((woken.node.as_str(), woken.hook.as_str()), ("attic", "command"));
    assert_eq!((woken.outcome, woken.error), (AsrOutcome::Transcribed, None));
    assert!(woken.took_s > 0.0 && woken.took_s < 10.0);
    assert_eq!(rig.transcript().await, Transcript { id, node: "attic".into(), text: "hello".into() });
    assert_eq!(rig.end().await, Counts { transcribed: 1, ..Counts::default() });
}

/// They may lie between the threads, finished, when somebody withdraws or has what was heard forgotten.
#[tokio::test]
async fn words_on_their_way_stand_until_they_are_withdrawn_or_called_back() {
    let config = config::Asr { publish_transcript: true, ..config(&["echo.sh", "hello"], 10.0) };
    for recalled in [false, true] {
        let mut rig = rig(&config);
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
        rig.woken().await;
        let words = rig.words().await;
        assert_eq!(rig.asr.standing(words.clone()).unwrap().text, "hello");
        if recalled {
            rig.asr.recall()
        } else {
            rig.withdraw()
        }
        assert!(rig.asr.standing(words.clone()).is_none());
        // What was called back stays so; what is said then is another matter.
        rig.consent.send_replace(scopes(Consent::Granted));
        assert_eq!(rig.asr.standing(words).is_none(), recalled);
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
        rig.woken().await;
        let words = rig.words().await;
        assert!(rig.asr.standing(words).is_some());
        rig.end().await;
    }
}

/// As docs/privacy.md says. A machine that is busy with something else has three tries.
#[tokio::test]
async fn withdrawn_means_killed_within_a_second() {
    let mut took = Vec::new();
    while took.len() < 3 && took.last().is_none_or(|took| *took >= Duration::from_secs(1)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let mut rig = rig(&config(&["hang.sh", file.to_str().unwrap()], 30.0));
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
        let pids = begun(&file, 1).await;
        let withdrawn = Instant::now();
        rig.withdraw();
        for pid in pids {
            assert!(is_gone(pid).await, "{pid} lives");
        }
        took.push(withdrawn.elapsed());
        rig.woken().await;
        rig.end().await;
    }
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
}

#[tokio::test]
async fn words_are_not_told_unless_asked_for_nor_if_there_are_none() {
    for (words, publish_transcript) in [(&["echo.sh", "hello"][..], false), (&["echo.sh"][..], true)] {
        let mut rig = rig(&config::Asr { publish_transcript, ..config(words, 10.0) });
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
        assert_eq!(rig.woken().await.outcome, AsrOutcome::Transcribed);
        rig.end().await;
    }
}

#[tokio::test]
async fn without_a_command_there_is_nothing_to_wake() {
    let rig = rig(&config::Asr::default());
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::NotConfigured);
    assert_eq!(rig.end().await, Counts::default());
}

#[tokio::test]
async fn a_full_queue_is_busy_and_one_works_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = rig(&config::Asr { queue: 2, ..config(&["hang.sh", file.to_str().unwrap()], 3.0) });
    // One that works and two that wait, even before the worker had its first turn.
    for _ in 0..3 {
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    }
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Busy);
    begun(&file, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(read_pids(&file).len(), 2, "two programs at a time");
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Busy);
    assert_eq!(rig.woken().await.outcome, AsrOutcome::TimedOut);
    let problem = rig.problem().await;
    assert!(problem.message.contains("asr.timeout_seconds"), "{}", problem.message);
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken, "a place is free again");
    // Those that waited have their turn.
    begun(&file, 2).await;
    rig.shutdown.cancel();
    for _ in 0..3 {
        assert_eq!(rig.woken().await.outcome, AsrOutcome::Stopped);
    }
    assert_eq!(rig.end().await, Counts { failed: 1, stopped: 3, busy: 2, ..Counts::default() });
}

#[tokio::test]
async fn a_broken_recogniser_is_told_once_and_so_is_its_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "").unwrap();
    let mut rig = rig(&config(&["fail_while.sh", broken.to_str().unwrap()], 10.0));
    for n in 0..3 {
        rig.asr.offer(clip(0.2));
        let woken = rig.woken().await;
        assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Failed, 3_200));
        assert!(
            woken.error.is_some_and(|e| e.ends_with("run it by hand with a recording on its standard input"))
        );
        if n == 0 {
            let problem = rig.problem().await;
            assert_eq!((problem.component, problem.recovered), (Component::Asr, false));
            assert_eq!(problem.node, "attic");
        }
    }
    std::fs::remove_file(&broken).unwrap();
    for n in 0..2 {
        rig.asr.offer(clip(0.2));
        assert_eq!(rig.woken().await.outcome, AsrOutcome::Transcribed);
        if n == 0 {
            let problem = rig.problem().await;
            assert!(problem.recovered && problem.message.contains("after 3 failed"), "{problem:?}");
        }
    }
    assert_eq!(rig.end().await, Counts { transcribed: 2, failed: 3, ..Counts::default() });
}

/// Recognisers may complain with what they heard.
#[tokio::test]
async fn complaints_are_told_where_words_are() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "").unwrap();
    for publish_transcript in [false, true] {
        let config =
            config::Asr { publish_transcript, ..config(&["fail_while.sh", broken.to_str().unwrap()], 10.0) };
        let mut rig = rig(&config);
        rig.asr.offer(clip(0.2));
        let (woken, said) = rig.quoted().await;
        let problem = rig.problem().await.message;
        for sentence in [woken.error.unwrap(), problem] {
            assert!(sentence.contains("fail_while.sh"), "{sentence}");
            assert!(!sentence.contains("not today"), "{sentence}");
        }
        assert_eq!(said.is_some_and(|said| said.contains("not today")), publish_transcript);
        rig.end().await;
    }
}

#[tokio::test]
async fn a_recogniser_that_cannot_start_was_given_nothing() {
    let mut rig = rig(&config(&["/nowhere/recogniser"], 10.0));
    rig.asr.offer(clip(0.5));
    let woken = rig.woken().await;
    assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Failed, 0));
    assert!(rig.problem().await.message.contains("/nowhere/recogniser"));
    rig.end().await;
}

#[tokio::test]
async fn without_consent_nothing_is_taken() {
    let rig = rig(&config(&["echo.sh", "hello"], 10.0));
    rig.withdraw();
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::NoConsent);
    assert_eq!(rig.end().await, Counts::default());
}

#[tokio::test]
async fn consent_withdrawn_while_a_clip_waits_keeps_it_from_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = rig(&config(&["hang.sh", file.to_str().unwrap()], 30.0));
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    // The worker has had no turn yet: the test runs on its thread.
    rig.withdraw();
    let woken = rig.woken().await;
    assert_eq!(
        (woken.outcome, woken.samples, woken.error.as_deref()),
        (AsrOutcome::Stopped, 0, Some(WITHDRAWN))
    );
    assert!(!file.exists(), "the program was started");
    assert_eq!(rig.end().await, Counts { stopped: 1, ..Counts::default() });
}

#[tokio::test]
async fn consent_withdrawn_half_way_kills_the_program_and_drops_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    // Room for one event, so that the worker is held up while consent comes back.
    let mut rig = rig_with_room_for(&config(&["hang.sh", file.to_str().unwrap()], 30.0), 1);
    let clips = [clip(0.5), clip(0.5), clip(0.5)];
    let ids = [clips[0].id, clips[1].id, clips[2].id];
    for clip in clips {
        assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
    }
    let pids = begun(&file, 1).await;
    let began = Instant::now();
    rig.withdraw();
    for (id, samples) in ids.into_iter().zip([8_000, 0, 0]) {
        let woken = rig.woken().await;
        assert_eq!((woken.id, woken.samples, woken.outcome), (id, samples, AsrOutcome::Stopped));
        assert_eq!(woken.error.as_deref(), Some(WITHDRAWN));
        // What was accepted before the withdrawal stays refused.
        rig.consent.send_replace(scopes(Consent::Granted));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for pid in pids {
        assert!(is_gone(pid).await, "{pid} lives");
    }
    assert_eq!(read_pids(&file).len(), 2, "a waiting clip reached the program");
    // Neither is the recogniser's fault: no problem is told.
    assert_eq!(rig.end().await, Counts { stopped: 3, ..Counts::default() });
}

#[tokio::test]
async fn a_recall_kills_the_program_and_drops_what_waits_and_nothing_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = rig(&config(&["hang.sh", file.to_str().unwrap()], 30.0));
    for _ in 0..2 {
        assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    }
    let pids = begun(&file, 1).await;
    rig.asr.recall();
    let mut samples = Vec::new();
    for _ in 0..2 {
        let woken = rig.woken().await;
        assert_eq!(
            (woken.outcome, woken.error.as_deref()),
            (AsrOutcome::Stopped, Some("it was to be forgotten"))
        );
        samples.push(woken.samples);
    }
    samples.sort_unstable();
    assert_eq!(samples, [0, 8_000]);
    for pid in pids {
        assert!(is_gone(pid).await, "{pid} lives");
    }
    // What is said afterwards is another matter.
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    begun(&file, 2).await;
    assert_eq!(read_pids(&file).len(), 4, "a clip that waited reached the program");
    rig.shutdown.cancel();
    assert_eq!(rig.woken().await.error.as_deref(), Some("undertone is shutting down"));
    assert_eq!(rig.end().await, Counts { stopped: 3, ..Counts::default() });
}

#[tokio::test]
async fn shutting_down_kills_the_program_and_tells_what_was_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut rig = rig(&config(&["hang.sh", file.to_str().unwrap()], 30.0));
    rig.asr.offer(clip(0.5));
    rig.asr.offer(clip(0.5));
    let pids = begun(&file, 1).await;
    rig.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), rig.asr.ended()).await.expect("the worker ends");
    for samples in [8_000, 0] {
        let woken = rig.woken().await;
        assert_eq!((woken.samples, woken.error.as_deref()), (samples, Some("undertone is shutting down")));
    }
    for pid in pids {
        assert!(is_gone(pid).await, "{pid} lives");
    }
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Busy, "nobody works any more");
    assert_eq!(rig.end().await.stopped, 2);
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_does_not_hold_up_the_queue() {
    let mut rig = rig_with_room_for(&config(&["echo.sh"], 10.0), 1);
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(rig.asr.offer(clip(0.1)), AsrDecision::Woken);
    }
    while rig.asr.counts().untold < 2 && began.elapsed() < Duration::from_secs(15) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.asr.counts(), Counts { transcribed: 3, untold: 2, ..Counts::default() });
    assert_eq!(rig.woken().await.outcome, AsrOutcome::Transcribed);
    rig.end().await;
}
