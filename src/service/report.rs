//! What the service publishes besides events: the retained topics, and the announcement.

use super::runtime::Service;
use super::spans::Mark;
use crate::audio::seconds;
use crate::consent::Scope;
use crate::events::{Consent, State, Transcript};
use crate::home::Slot;
use crate::home::discovery::{self, Announced};
use crate::tell::round;
use crate::{privacy, state};
use jiff::Timestamp;
use uuid::Uuid;

impl Service {
    /// Publishes, once at the start, all that is retained and does not change with every event.
    pub(super) fn announce(&mut self) {
        self.client.retain(Slot::Emotion, &serde_json::json!({}));
        let standing = self.keeper.standing();
        if Scope::ALL.into_iter().any(|scope| standing.of(scope).is_withdrawn()) {
            // While nobody was there to take back the words of an earlier life.
            self.show_no_words();
        }
        self.publish_problems();
        self.publish_settings();
        self.publish_consent();
        self.publish_discovery();
    }

    /// What Home Assistant finds the device by.
    pub(super) fn publish_discovery(&self) {
        if self.config.mqtt.discovery {
            let announced = Announced {
                node: &self.config.node,
                topics: self.client.topics(),
                model: &self.model,
                transcript: self.config.asr.publish_transcript,
            };
            self.client.retain(Slot::Discovery, &discovery::payload(&announced));
        }
    }

    pub(super) fn publish_settings(&self) {
        self.client.retain(Slot::Settings, &self.settings.values());
    }

    pub(super) fn publish_consent(&self) {
        let word = |consent| match consent {
            Consent::Granted => "granted",
            Consent::Withheld => "withheld",
        };
        let standing = self.keeper.standing();
        let decided = standing.decided();
        self.client.retain_text(Slot::Listening, word(decided.listening));
        self.client.retain_text(Slot::Transcription, word(decided.transcription));
        self.client.retain_text(Slot::Guest, if standing.guest.is_some() { "on" } else { "off" });
        let folder = state::folder(&self.config);
        self.client
            .retain_text(Slot::Privacy, &privacy::page(&self.config, folder.as_deref(), standing, true));
    }

    /// Takes back what is shown of what was heard.
    pub(super) fn show_nothing(&mut self) {
        self.client.retain(Slot::Emotion, &serde_json::json!({}));
        self.show_no_words();
    }

    /// Takes back the last words that are shown.
    pub(super) fn show_no_words(&mut self) {
        if self.config.asr.publish_transcript && std::mem::take(&mut self.words_shown) {
            let (node, text) = (self.config.node.clone(), String::new());
            self.client.take_words_back(&Transcript { id: Uuid::nil(), node, text });
        }
    }

    pub(super) fn publish_state(&mut self) {
        let shares = self.spans.until(Mark::new(self.progress.effort, crate::metrics::cpu_seconds()));
        self.circuit = self.recogniser.asr().circuit();
        self.client.state(&State {
            node: self.config.node.clone(),
            time: Timestamp::now(),
            listening: self.progress.listening,
            speech: self.progress.speaking,
            background: self.quiet(),
            microphone: self.progress.microphone,
            clock_ppm: self.progress.clock_ppm.map(|ppm| round(ppm, 1)),
            emotion: self.emotion.map(|(label, _)| label),
            confidence: self.emotion.map(|(_, confidence)| confidence),
            modules_skipped_pct: shares.skipped_pct,
            cpu_pct: shares.cpu_pct,
            dropped_s: round(seconds(self.progress.lost), 3),
            problems: self.faults.keys().copied().collect(),
            asr_circuit: self.circuit,
            consent: self.keeper.standing().decided(),
            model: self.model.clone(),
        });
    }
}
