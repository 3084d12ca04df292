//! What does not work: told once when it begins and once when it ends, and kept in the state as long as it lasts.

use super::Progress;
use super::notify::Hang;
use super::runtime::{Service, work};
use crate::events::{Component, Event, Health, Problem};
use crate::home::Slot;
use jiff::Timestamp;
use serde::Serialize;

/// Something that does not work at the moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    /// Since when, UTC.
    since: Timestamp,
    /// One sentence.
    message: String,
}

impl Service {
    /// Tells a problem, or that it is over, in the log and as an event.
    pub(super) fn problem(&mut self, component: Component, message: String, recovered: bool) {
        if recovered {
            tracing::info!("{message}");
        } else {
            tracing::warn!("{message}");
        }
        self.problem_logged(Problem::now(self.config.node.as_str(), component, message, recovered));
    }

    /// The same with one that was logged where it arose.
    pub(super) fn problem_logged(&mut self, problem: Problem) {
        let lasts = self.fault(&problem);
        self.tell(&Event::Problem(problem));
        if lasts {
            self.publish_state();
        }
    }

    /// The listener hangs, and tells nothing itself: what is shown of it must not stay as it was.
    pub(super) fn listener_hangs(&mut self, hang: Hang) {
        match hang {
            Hang::Ended => self.problem(Component::Audio, "the listener gets on again".into(), true),
            Hang::Began(seconds) => {
                let progress = self.progress;
                self.progress =
                    Progress { listening: false, speaking: false, microphone: Health::Failed, ..progress };
                self.metrics.work(work(&self.progress));
                let message = format!(
                    "the listener has made no progress for {seconds} s, so nothing is heard; if it does not come back, \
                     undertone is started anew, or ends"
                );
                self.problem(Component::Audio, message, false);
            }
            Hang::Hopeless => {} // the daemon ends
        }
    }

    /// Takes note of a problem, or of its end. Only what the sensor itself can see mended is kept: true then.
    fn fault(&mut self, problem: &Problem) -> bool {
        let component = problem.component;
        let lasts = matches!(component, Component::Audio | Component::Model | Component::Asr);
        match (lasts, problem.recovered) {
            (false, _) => return false,
            (true, true) => drop(self.faults.remove(&component)),
            (true, false) => {
                let since = self.faults.get(&component).map_or(problem.time, |fault| fault.since);
                self.faults.insert(component, Fault { since, message: problem.message.clone() });
            }
        }
        self.publish_problems();
        true
    }

    pub(super) fn publish_problems(&self) {
        self.client.retain(Slot::Problems, &self.faults);
    }
}
