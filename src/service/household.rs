//! Consent and the record, as the daemon's runtime sees them.

use super::Progress;
use super::folder::{Cause, StateFolder};
use super::notify::Ears;
use super::runtime::{Service, work};
use crate::config::Config;
use crate::consent::{By, Order, Refusal, Scope, Standing, Told};
use crate::digest::Digest;
use crate::events::{Component, Consent, Health};
use crate::home::Forget;
use crate::ledger::Entry;
use crate::ledger::entry::Name;
use jiff::tz::TimeZone;
use std::fs::File;
use std::path::Path;
use tokio::time::Instant;

/// The first line of the record. It is made on the record's own thread, because a model is large.
pub(super) fn started(
    config: &Config,
    model: &Path,
    version: &str,
    standing: &Standing,
) -> impl FnOnce(bool) -> Entry + Send + 'static {
    let (node, version, model) = (Name::of(&config.node), Name::of(version), model.to_owned());
    let (config_sha256, scopes) = (config_digest(config), standing.decided());
    move |clean| Entry::Started {
        version: Name::of(env!("CARGO_PKG_VERSION")),
        node,
        model: version,
        model_sha256: File::open(&model).and_then(Digest::of_reader).unwrap_or(Digest::ZERO),
        config_sha256,
        clean,
        listening: scopes.listening,
        transcription: scopes.transcription,
    }
}

/// What tells one configuration from another; it holds no secret.
pub(crate) fn config_digest(config: &Config) -> Digest {
    serde_json::to_vec(config).map_or(Digest::ZERO, |text| Digest::of(&text))
}

/// Granted before and granted now, but since later: it was withdrawn in between, faster than anybody looked, or is granted by a word for the first time.
fn is_anew(before: &Standing, now: &Standing, scope: Scope) -> bool {
    let (was, is) = (before.of(scope), now.of(scope));
    was.consent == Consent::Granted && is.consent == Consent::Granted && was.since != is.since
}

impl Service {
    /// What the service manager is told of.
    pub(super) fn ears(&self) -> Ears {
        let Progress { listening, microphone, .. } = self.progress;
        let withheld = self.keeper.standing().listening.consent == Consent::Withheld;
        Ears { listening, microphone, withheld }
    }

    /// What holds when the daemon starts.
    pub(super) fn consent_begins(&mut self) {
        if let Some(problem) = self.keeper.problem().map(str::to_owned) {
            self.fails(Component::Consent, problem, false);
        }
        if let Some(hint) = self.keeper.standing().hint() {
            tracing::warn!("{hint}");
        }
    }

    /// Looks at the clock, after the state folder, and then at what is said in it.
    pub(super) fn look_around(&mut self, folder: &mut StateFolder, cause: Cause) {
        self.recorder.look_at_clock();
        if let Some(shared) = folder.look(cause) {
            self.shares(&shared);
        }
        self.look_at_consent();
    }

    /// When the file has changed, when something was written, and now and then for the clock.
    pub(super) fn look_at_consent(&mut self) {
        for told in self.keeper.look() {
            self.consent_told(told);
        }
    }

    pub(super) fn consent_told(&mut self, told: Told) {
        match told {
            Told::Problem { message, recovered } => self.fails(Component::Consent, message, recovered),
            Told::Said(order) => {
                // At a full minute, or with those who stay longer.
                let until = self.keeper.standing().guest.and_then(|guest| guest.until);
                self.recorder.record(Entry::said(order, By::Mqtt, until));
            }
            Told::Refused(refusal) => self.refused(refusal),
            Told::NotKept(message) => self.not_granted(message),
            Told::Changed { before, now } => {
                for scope in Scope::ALL {
                    if before.of(scope) != now.of(scope) {
                        tracing::info!("{scope} is {}", now.of(scope).sentence(&TimeZone::system()));
                    }
                }
                if before.listening.consent != now.listening.consent {
                    let open = now.listening.consent == Consent::Granted;
                    self.recorder.record(Entry::Microphone { open, why: now.listening.why });
                }
                self.unsay(&before, &now);
                let may = |standing: &Standing| standing.allowed().transcription == Consent::Granted;
                if may(&now) && (!may(&before) || is_anew(&before, &now, Scope::Transcription)) {
                    self.recogniser.granted_from(self.newest_sample());
                }
                self.publish_consent();
                self.publish_state();
            }
        }
    }

    /// What was heard under a consent that is withdrawn and still waits for the broker is not told any more. A quiet
    /// hour withdraws nothing.
    fn unsay(&mut self, before: &Standing, now: &Standing) {
        let withdrawn = |scope: Scope| {
            let (was, is) = (before.of(scope), now.of(scope));
            was != is && is.is_withdrawn()
        };
        let anew = |scope| is_anew(before, now, scope);
        if withdrawn(Scope::Listening) || anew(Scope::Listening) {
            // It may be granted again before the listener has seen that.
            self.forget = self.settings.live().ask_to_forget();
            match anew(Scope::Listening) {
                true => self.recogniser.recall(), // who hands over has seen nothing of it
                false => self.recogniser.forget(),
            }
            self.client.forget(Forget::Heard);
            self.emotion = None;
            self.show_nothing();
        } else if withdrawn(Scope::Transcription) || anew(Scope::Transcription) {
            if anew(Scope::Transcription) {
                self.recogniser.recall();
            }
            self.client.forget(Forget::Words);
            self.show_no_words();
        }
    }

    /// Somebody at the machine withdraws everything and cannot write that down.
    pub(super) fn withdraw(&mut self) {
        tracing::warn!(
            "everything is withdrawn by a signal, as `undertone consent` sends it where it cannot write"
        );
        for scope in Scope::ALL {
            self.recorder.record(Entry::said(Order::Say(scope, Consent::Withheld), By::Command, None));
        }
        for told in self.keeper.withdraw() {
            self.consent_told(told);
        }
    }

    /// Another daemon has the folder that was moved away under this one.
    fn shares(&mut self, folder: &Path) {
        let folder = folder.display();
        let message = format!(
            "another undertone runs with the state folder {folder} since the one before was moved away; stop one of them"
        );
        self.problem(Component::Consent, message, false);
    }

    /// Somebody over MQTT wanted what does not hold. Who does so without end pushes no events out of the outbox.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        self.not_granted(refusal.to_string());
    }

    fn not_granted(&mut self, why: String) {
        if let Some(sentence) = self.refusals.tell(why, Instant::now()) {
            self.problem(Component::Consent, sentence, false);
        }
        // A switch in Home Assistant waits for the answer.
        self.publish_consent();
    }

    /// The microphone is closed because it has to be: nothing of what it heard is shown any more.
    pub(super) fn closed(&mut self, heard: bool) {
        // At a start, `consent_begins` has said it.
        if heard {
            tracing::info!("the microphone is closed, and what was heard is overwritten");
        }
        (self.background, self.emotion) = (None, None);
        self.progress.speaking = false;
        self.progress.listening = false;
        self.progress.microphone = Health::Closed; // the listener says nothing more until it is open again
        self.metrics.work(work(&self.progress));
        self.show_nothing();
        self.recogniser.forget();
        self.publish_state();
    }
}
