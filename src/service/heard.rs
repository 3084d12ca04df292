//! What the listener thread is given, and what it tells.

use crate::audio::AudioSource;
use crate::cascade::{Effort, Grown, Told};
use crate::events::{Component, Health};
use crate::tell::Line;
use jiff::Timestamp;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Where the sound comes from.
pub enum Source {
    /// The configured microphone, opened again whenever it breaks.
    Microphone,
    /// A source that ends, once.
    Once(Box<dyn AudioSource + Send>),
}

/// How far the stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Sound arrives.
    pub listening: bool,
    /// How the microphone is.
    pub microphone: Health,
    /// How much faster than it should the sound card delivers, in parts per million.
    pub clock_ppm: Option<f64>,
    /// Someone speaks.
    pub speaking: bool,
    /// It is known that nobody speaks, and since the last long gap.
    pub background: bool,
    /// Samples at 16 kHz since the stream began.
    pub clock: u64,
    /// Samples at 16 kHz that were lost.
    pub lost: u64,
    /// Samples' time at 16 kHz that passed while nothing might be heard.
    pub rested: u64,
    /// Seconds of sound that wait to be heard.
    pub pending: f64,
    /// What was computed.
    pub effort: Effort,
    /// The newest wish to forget that was obeyed.
    pub forgotten: u64,
}

/// What the thread tells.
pub enum Heard {
    /// The first sample was heard at this moment.
    Begun(Timestamp),
    /// Later events follow this line: the card's deviation, or a wall clock that was set (true).
    Line(Line, bool),
    /// The cascade has something to tell; the stream was this far, in samples.
    Told(Told, u64),
    /// The open segment has more audio; only if it is to be streamed.
    Grown(Grown),
    /// How far the stream is.
    Progress(Progress),
    /// A new model judges from here on.
    Model(String),
    /// Nothing can be heard any more by this process, because too much hangs in the sound system.
    Exhausted,
    /// Consent is withheld: the microphone is closed, and what was heard, if anything (true), is overwritten.
    Closed(bool),
    /// Something failed, or works again.
    Problem {
        /// What.
        component: Component,
        /// One sentence.
        message: String,
        /// It works again.
        recovered: bool,
    },
}

/// The listener's end of the queue. It never waits: a full queue loses the message, and the loss is told when there is
/// room again.
pub struct Outlet {
    told: Sender<Heard>,
    /// Messages that found the queue full since the last that did not.
    unsent: u64,
}

impl Outlet {
    /// Into this queue.
    pub fn new(told: Sender<Heard>) -> Outlet {
        Outlet { told, unsent: 0 }
    }

    /// Tells it, if there is room; false: there was none.
    pub fn send(&mut self, what: Heard) -> bool {
        if self.unsent > 0 && self.told.capacity() > 1 {
            let message = format!("{} messages were lost inside: the machine is overloaded", self.unsent);
            self.unsent = 0;
            let _ = self.told.try_send(Heard::Problem {
                component: Component::Service,
                message,
                recovered: true,
            });
        }
        let is_progress = matches!(what, Heard::Progress(_));
        let sent = self.told.try_send(what);
        if let Err(TrySendError::Full(_)) = sent {
            self.unsent += u64::from(!is_progress);
        }
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::channel;

    #[test]
    fn what_is_lost_is_counted_and_told_when_there_is_room() {
        let (told, mut heard) = channel(3);
        let mut outlet = Outlet::new(told);
        let sent: Vec<bool> = (0..5).map(|n| outlet.send(Heard::Closed(n == 0))).collect();
        assert_eq!(sent, [true, true, true, false, false]);
        assert!(!outlet.send(Heard::Progress(Progress::default())), "the next one says as much");
        // Room for one is room for the message alone.
        assert!(matches!(heard.try_recv(), Ok(Heard::Closed(true))));
        assert!(outlet.send(Heard::Exhausted));
        let waiting: Vec<Heard> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        assert!(matches!(waiting[..], [Heard::Closed(false), Heard::Closed(false), Heard::Exhausted]));

        assert!(outlet.send(Heard::Exhausted) && outlet.send(Heard::Exhausted));
        let Ok(Heard::Problem { component, message, .. }) = heard.try_recv() else { panic!("no problem") };
        assert_eq!(component, Component::Service);
        assert!(message.starts_with("2 messages were lost"), "{message}");
        let waiting: Vec<Heard> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        assert!(matches!(waiting[..], [Heard::Exhausted, Heard::Exhausted]), "it is told once");
    }
}
