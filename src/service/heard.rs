//! What the listener thread is given, and what it tells.

use crate::audio::AudioSource;
use crate::cascade::{Effort, Grown, Told};
use crate::events::{Component, Health};
use crate::tell::Line;
use jiff::Timestamp;
use std::mem::discriminant;
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

/// Whether nothing that comes later says as much: what works again, say, is told once.
fn lasts(what: &Heard) -> bool {
    matches!(what, Heard::Begun(_) | Heard::Model(_) | Heard::Closed(_) | Heard::Problem { .. })
}

/// Whether nobody needs to know the old any more who is told the new.
fn replaces(new: &Heard, old: &Heard) -> bool {
    match (new, old) {
        (Heard::Problem { component: new, .. }, Heard::Problem { component: old, .. }) => new == old,
        _ => discriminant(new) == discriminant(old),
    }
}

/// The listener's end of the queue. It never waits: a full queue loses the message, and the loss is told when there is
/// room again. What lasts is kept until then.
pub struct Outlet {
    told: Sender<Heard>,
    /// Messages that were lost since the last time that this was told.
    unsent: u64,
    /// What lasts and found the queue full, in order: of each kind the newest.
    kept: Vec<Heard>,
}

impl Outlet {
    /// Into this queue.
    pub fn new(told: Sender<Heard>) -> Outlet {
        Outlet { told, unsent: 0, kept: Vec::new() }
    }

    /// Tells it, if there is room, behind all that was kept; false: there was none.
    pub fn send(&mut self, what: Heard) -> bool {
        if lasts(&what) {
            self.kept.retain(|old| !replaces(&what, old));
        }
        self.send_kept();
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
        let sent = match self.kept.is_empty() {
            true => self.told.try_send(what),
            false => Err(TrySendError::Full(what)),
        };
        match sent {
            Ok(()) => return true,
            Err(TrySendError::Full(what)) if lasts(&what) => self.kept.push(what),
            Err(TrySendError::Full(_)) => self.unsent += u64::from(!is_progress),
            Err(TrySendError::Closed(_)) => {}
        }
        false
    }

    /// Tells what was kept, as far as there is room.
    pub fn send_kept(&mut self) {
        while !self.kept.is_empty() && self.told.capacity() > 0 {
            let _ = self.told.try_send(self.kept.remove(0)); // there is room, or nobody is there any more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{Receiver, channel};

    fn waiting(heard: &mut Receiver<Heard>) -> Vec<Heard> {
        std::iter::from_fn(|| heard.try_recv().ok()).collect()
    }

    #[test]
    fn what_is_lost_is_counted_and_told_when_there_is_room() {
        let (told, mut heard) = channel(3);
        let mut outlet = Outlet::new(told);
        let sent: Vec<bool> = (0..5).map(|_| outlet.send(Heard::Exhausted)).collect();
        assert_eq!(sent, [true, true, true, false, false]);
        assert!(!outlet.send(Heard::Progress(Progress::default())), "the next one says as much");
        // Room for one is room for the message alone.
        assert!(matches!(heard.try_recv(), Ok(Heard::Exhausted)));
        assert!(outlet.send(Heard::Closed(true)));
        assert!(matches!(waiting(&mut heard)[..], [Heard::Exhausted, Heard::Exhausted, Heard::Closed(true)]));

        assert!(outlet.send(Heard::Exhausted) && outlet.send(Heard::Exhausted));
        let Ok(Heard::Problem { component, message, .. }) = heard.try_recv() else { panic!("no problem") };
        assert_eq!(component, Component::Service);
        assert!(message.starts_with("2 messages were lost"), "{message}");
        assert!(matches!(waiting(&mut heard)[..], [Heard::Exhausted, Heard::Exhausted]), "it is told once");
    }

    /// Nothing else would ever say that it is over.
    #[test]
    fn what_works_again_is_told_when_there_is_room() {
        let (told, mut heard) = channel(1);
        let mut outlet = Outlet::new(told);
        let news = |component, recovered| Heard::Problem { component, message: String::new(), recovered };
        assert!(outlet.send(Heard::Exhausted));
        assert!(!outlet.send(news(Component::Audio, false)) && !outlet.send(news(Component::Model, true)));
        assert!(!outlet.send(news(Component::Audio, true)), "the newest of each kind is kept");
        outlet.send_kept();
        assert!(matches!(waiting(&mut heard)[..], [Heard::Exhausted]));
        // One place, and they wait for it in their order; nothing goes before them.
        assert!(!outlet.send(Heard::Progress(Progress::default())));
        let told = waiting(&mut heard);
        assert!(matches!(told[..], [Heard::Problem { component: Component::Model, recovered: true, .. }]));
        outlet.send_kept();
        let told = waiting(&mut heard);
        assert!(matches!(told[..], [Heard::Problem { component: Component::Audio, recovered: true, .. }]));
        assert!(outlet.send(Heard::Progress(Progress::default())));
        assert!(matches!(waiting(&mut heard)[..], [Heard::Progress(_)]), "nothing was lost");
    }
}
