//! A recogniser's queue with everything around it.

use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use undertone::asr::{Asr, Counts, Told, Words};
use undertone::config;
use undertone::events::{AsrWoken, Consent, Problem, Scopes, Transcript};

/// A queue with everything around it.
pub struct Rig {
    pub asr: Asr,
    pub consent: watch::Sender<Scopes>,
    pub events: mpsc::Receiver<Told>,
    pub shutdown: CancellationToken,
}

pub fn rig(config: &config::Asr) -> Rig {
    rig_with_room_for(config, 64)
}

pub fn rig_with_room_for(config: &config::Asr, events: usize) -> Rig {
    let (consent, watcher) = watch::channel(scopes(Consent::Granted));
    let (sender, events) = mpsc::channel(events);
    let shutdown = CancellationToken::new();
    let asr = Asr::start(config, "attic", watcher, sender, shutdown.clone()).unwrap();
    Rig { asr, consent, events, shutdown }
}

pub fn scopes(transcription: Consent) -> Scopes {
    Scopes { listening: Consent::Granted, transcription }
}

impl Rig {
    pub async fn next(&mut self) -> Told {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await.expect("an event").unwrap()
    }

    pub async fn woken(&mut self) -> AsrWoken {
        self.quoted().await.0
    }

    /// And why it failed, with the recogniser's own words.
    pub async fn quoted(&mut self) -> (AsrWoken, Option<String>) {
        match self.next().await {
            Told::Woken(woken, words) => (woken, words.map(|words| words.said)),
            Told::Transcript(_) => panic!("a transcript instead of asr_woken"),
            Told::Problem(problem) => panic!("{problem:?} instead of asr_woken"),
        }
    }

    pub async fn transcript(&mut self) -> Transcript {
        self.words().await.said
    }

    /// A transcript on its way.
    pub async fn words(&mut self) -> Words<Transcript> {
        match self.next().await {
            Told::Transcript(words) => words,
            _ => panic!("another event instead of the transcript"),
        }
    }

    pub async fn problem(&mut self) -> Problem {
        match self.next().await {
            Told::Problem(problem) => problem,
            _ => panic!("another event instead of the problem"),
        }
    }

    pub fn withdraw(&self) {
        self.consent.send_replace(scopes(Consent::Withheld));
    }

    /// Ends the worker and expects that nothing more was told.
    pub async fn end(mut self) -> Counts {
        self.shutdown.cancel();
        self.asr.ended().await;
        assert!(self.events.try_recv().is_err(), "an event too many");
        self.asr.counts()
    }
}
