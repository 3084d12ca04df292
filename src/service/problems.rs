//! What does not work: told once when it begins and once when it ends, and kept in the state as long as it lasts.

use super::Progress;
use super::notify::Hang;
use super::runtime::{Service, work};
use crate::events::{Component, Event, Health, Problem};
use crate::home::Slot;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

/// Something that does not work at the moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    /// Since when, UTC.
    since: Timestamp,
    /// One sentence.
    message: String,
}

/// What there was when the listener began to hang.
#[derive(Debug)]
pub(super) struct Hung {
    said: String,
    fault: Option<Fault>,
    progress: Progress,
    progressed: Instant,
}

impl Service {
    /// Tells what was refused, or went wrong and is over, or the end of that, in the log and as an event.
    pub(super) fn problem(&mut self, component: Component, message: String, recovered: bool) {
        let problem = self.logged(component, message, recovered);
        self.tell(&Event::Problem(problem));
    }

    /// The same with something that lasts, and of which the end will be told: it is kept until then.
    pub(super) fn fails(&mut self, component: Component, message: String, recovered: bool) {
        let problem = self.logged(component, message, recovered);
        self.problem_logged(problem);
    }

    /// The same with one that was logged where it arose.
    pub(super) fn problem_logged(&mut self, problem: Problem) {
        self.fault(&problem);
        self.tell(&Event::Problem(problem));
        self.publish_state();
    }

    fn logged(&self, component: Component, message: String, recovered: bool) -> Problem {
        if recovered {
            tracing::info!("{message}");
        } else {
            tracing::warn!("{message}");
        }
        Problem::now(self.config.node.as_str(), component, message, recovered)
    }

    /// The listener hangs, and tells nothing itself: what is shown of it must not stay as it was.
    pub(super) fn listener_hangs(&mut self, hang: Hang) {
        match hang {
            Hang::Ended => self.gets_on(),
            Hang::Began(seconds) => {
                let progress = self.progress;
                let message = format!(
                    "the listener has made no progress for {seconds} s, so nothing is heard; if it does not come back, \
                     undertone is started anew, or ends"
                );
                let fault = self.faults.get(&Component::Audio).cloned();
                let said = message.clone();
                self.hung = Some(Hung { said, fault, progress, progressed: self.progressed });
                self.progress =
                    Progress { listening: false, speaking: false, microphone: Health::Failed, ..progress };
                self.metrics.work(work(&self.progress));
                self.fails(Component::Audio, message, false);
            }
            Hang::Hopeless => {} // the daemon ends
        }
    }

    /// What did not work besides, before or since, does not work yet.
    fn gets_on(&mut self) {
        let Some(hung) = self.hung.take() else { return };
        let since = self.faults.remove(&Component::Audio).filter(|fault| fault.message != hung.said);
        if self.progressed == hung.progressed {
            // It has told nothing since.
            self.progress = hung.progress;
            self.metrics.work(work(&self.progress));
        }
        self.fails(Component::Audio, "the listener gets on again".into(), true);
        if let Some(fault) = since.or(hung.fault) {
            self.faults.insert(Component::Audio, fault);
            self.publish_problems();
            self.publish_state();
        }
    }

    /// Takes note of a problem, or of its end.
    fn fault(&mut self, problem: &Problem) {
        let component = problem.component;
        if problem.recovered {
            self.faults.remove(&component);
        } else {
            let since = self.faults.get(&component).map_or(problem.time, |fault| fault.since);
            self.faults.insert(component, Fault { since, message: problem.message.clone() });
        }
        self.publish_problems();
    }

    pub(super) fn publish_problems(&self) {
        self.client.retain(Slot::Problems, &self.faults);
    }
}
