//! The listener's device: opened while it may be, and again when it breaks.

use super::Hearing;
use crate::audio::AudioError;
use crate::audio::microphone::{CALM, Microphone, PROMPT};
use crate::service::heard::Heard;
use std::time::{Duration, Instant};

/// When it has been too crowded for so long, it stays so.
const HOPELESS: Duration = Duration::from_secs(20);

impl Hearing {
    /// Opens the microphone whenever it may, until the thread shall stop.
    pub(super) fn microphone(&mut self) {
        while !self.stop.is_cancelled() {
            if !self.may_listen() {
                self.rest();
                continue;
            }
            self.pulse.beat(); // a microphone that is away is no listener that hangs
            // Who waits for words, waits for the first sound of them.
            let pace = if self.cascade.streams() { PROMPT } else { CALM };
            let pace = pace.within(Duration::from_secs_f64(self.settings.stall_seconds / 5.0));
            let wanted = || self.may_listen() && !self.stop.is_cancelled();
            let opened = Microphone::open_at(pace, &self.settings, self.device.as_deref(), wanted);
            let outcome = opened.and_then(|mut microphone| {
                self.opened(&microphone);
                self.catch_up();
                self.listen(&mut microphone)
            });
            self.exhausted(matches!(outcome, Err(AudioError::Crowded { .. })));
            if !self.may_listen() || self.stop.is_cancelled() {
                continue; // the microphone is closed by now, and what it last said does not matter
            }
            if let Err(e) = outcome {
                self.audio_failed(&e);
                let pause = self.liveness.pause();
                self.wait(Duration::from_secs_f64(pause));
            }
        }
    }

    /// Where dead sound servers have left too much that hangs, only a new process hears anything again.
    fn exhausted(&mut self, crowded: bool) {
        if !crowded {
            self.crowded = None;
        } else if self.crowded.get_or_insert_with(Instant::now).elapsed() >= HOPELESS {
            self.crowded = None; // told once more after the same time
            self.send(Heard::Exhausted);
        }
    }

    /// It is open: which device it is, if that is news.
    fn opened(&mut self, microphone: &Microphone) {
        let (name, format) = (microphone.name(), microphone.format());
        let before = self.open.replace(name.to_owned());
        match before {
            Some(before) if before == name => {}
            Some(before) => tracing::warn!("the microphone is {name} now ({format}), and was {before}"),
            None if !self.may_listen() => {} // withdrawn while it was being opened: it is closed at once
            None => tracing::info!("the microphone is {name} ({format})"),
        }
        let other = self.device.as_ref().is_some_and(|heard| heard != name);
        self.liveness.opened(other.then(|| name.to_owned()));
        self.powers = None;
        if let Some(quality) = &mut self.quality {
            quality.opened();
        }
    }

    fn wait(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stop.is_cancelled() && self.may_listen() && Instant::now() < until {
            self.pulse.beat();
            self.forget();
            self.renew();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
