//! The audio of one hand-over: complete, or growing while somebody speaks.
//!
//! In: samples from the cascade. Out: the same samples, once, to the hook. A clip counts what was taken
//! out of it, so that what a recogniser was given is known to the sample. It is not `Clone`: dropping it
//! ends the audio, and overwrites what nobody took.

use super::AsrError;
use crate::audio::SAMPLE_RATE;
use crate::audio::sound::{Sound, append};
use crate::events::WakeCause;
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A segment that is said to grow is no longer believed after this; `cascade.max_segment_seconds` is at
/// most 120.
const LONGEST: Duration = Duration::from_secs(300);

enum Part {
    Samples(Sound),
    End,
}

/// The audio of one segment, its rolls included: all that a recogniser ever gets.
pub struct Clip {
    /// The segment's id, as in its `emotion` event.
    pub id: Uuid,
    /// First moment of the audio (pre-roll included), UTC.
    pub start: Timestamp,
    /// Why it is handed over.
    pub why: WakeCause,
    /// What nobody has taken yet. Its length is bounded by the longest segment.
    parts: UnboundedReceiver<Part>,
    taken: u64,
    complete: bool,
    /// Cancelled when no more will come.
    ended: CancellationToken,
}

/// The end of a clip where its audio comes in. Dropped before [`Growing::finish`], it breaks the clip off.
pub struct Growing {
    parts: UnboundedSender<Part>,
    ended: CancellationToken,
}

impl Clip {
    /// A finished segment: mono samples in [-1, 1] at 16 kHz. It is handed over because it is speech.
    pub fn whole(id: Uuid, start: Timestamp, samples: impl Into<Sound>) -> Clip {
        let (clip, growing) = Clip::growing(id, start);
        growing.push(samples);
        growing.finish();
        clip
    }

    /// A segment that has just begun.
    pub fn growing(id: Uuid, start: Timestamp) -> (Clip, Growing) {
        let (sender, parts) = unbounded_channel();
        let ended = CancellationToken::new();
        let clip = Clip {
            id,
            start,
            why: WakeCause::Speech,
            parts,
            taken: 0,
            complete: false,
            ended: ended.clone(),
        };
        (clip, Growing { parts: sender, ended })
    }

    /// The next samples; none at the end. What was taken counts as handed over.
    ///
    /// # Errors
    /// When the segment is broken off ([`AsrError::NoSpeech`]).
    pub async fn next(&mut self) -> Result<Option<Sound>, AsrError> {
        if self.complete {
            return Ok(None);
        }
        match self.parts.recv().await {
            Some(Part::Samples(samples)) => {
                self.taken += samples.len() as u64;
                Ok(Some(samples))
            }
            Some(Part::End) => {
                self.complete = true;
                Ok(None)
            }
            None => Err(AsrError::NoSpeech),
        }
    }

    /// All that is still to come, once it is complete.
    ///
    /// # Errors
    /// As [`Clip::next`].
    pub async fn rest(&mut self) -> Result<Sound, AsrError> {
        let mut all = Sound::default();
        while let Some(samples) = self.next().await? {
            match all.is_empty() {
                true => all = samples,
                false => append(&mut all, &samples),
            }
        }
        Ok(all)
    }

    /// Waits until the segment is over, without taking what nobody took.
    ///
    /// # Errors
    /// As [`Clip::next`], and for one that never ends.
    pub async fn settled(&mut self) -> Result<(), AsrError> {
        self.settled_within(LONGEST).await
    }

    async fn settled_within(&mut self, longest: Duration) -> Result<(), AsrError> {
        let settle = async {
            while !self.complete {
                match self.parts.recv().await {
                    Some(Part::Samples(_)) => {} // overwritten as it goes
                    Some(Part::End) => self.complete = true,
                    None => return Err(AsrError::NoSpeech),
                }
            }
            Ok(())
        };
        timeout(longest, settle).await.unwrap_or(Err(AsrError::NoSpeech))
    }

    /// Samples that were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Last moment of what was taken, UTC.
    pub fn end(&self) -> Timestamp {
        let milliseconds = self.taken * 1000 / u64::from(SAMPLE_RATE);
        self.start.checked_add(Duration::from_millis(milliseconds)).unwrap_or(self.start)
    }

    /// Ends `limit` after the last of the audio came in.
    pub fn expiry(&self, limit: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.expiry_within(LONGEST, limit)
    }

    fn expiry_within(&self, longest: Duration, limit: Duration) -> impl Future<Output = ()> + Send + 'static {
        let ended = self.ended.clone();
        async move {
            // One that never ends has its time too.
            let _ = timeout(longest, ended.cancelled()).await;
            sleep(limit).await;
        }
    }
}

/// Without the samples: what is printed may end up in a log.
impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clip")
            .field("id", &self.id)
            .field("start", &self.start)
            .field("taken", &self.taken)
            .finish()
    }
}

impl Growing {
    /// Adds samples. They go nowhere if the hand-over has ended.
    pub fn push(&self, samples: impl Into<Sound>) {
        let samples = samples.into();
        if !samples.is_empty() {
            let _ = self.parts.send(Part::Samples(samples));
        }
    }

    /// The segment is complete.
    pub fn finish(self) {
        let _ = self.parts.send(Part::End);
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_and_is_counted() {
        let (mut clip, growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        growing.push(vec![0.1; 16_000]);
        assert_eq!(clip.next().await.unwrap().map(|s| s.len()), Some(16_000));
        assert_eq!((clip.taken(), clip.end().as_millisecond()), (16_000, 1000));
        growing.push(vec![0.2; 3]);
        growing.push(vec![0.3; 2]);
        growing.finish();
        assert_eq!(clip.rest().await.unwrap()[..], [0.2, 0.2, 0.2, 0.3, 0.3]);
        assert_eq!(clip.next().await.unwrap(), None);
        assert_eq!(clip.taken(), 16_005);
    }

    #[tokio::test]
    async fn one_that_is_dropped_is_broken_off() {
        let (mut clip, growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        growing.push(vec![0.1; 5]);
        drop(growing);
        assert!(matches!(clip.rest().await, Err(AsrError::NoSpeech)));
    }

    #[tokio::test]
    async fn it_settles_without_being_taken() {
        let (mut clip, growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        growing.push(vec![0.1; 5]);
        growing.finish();
        clip.settled().await.unwrap();
        assert_eq!((clip.taken(), clip.next().await.unwrap()), (0, None));
        clip.settled().await.unwrap();
        let (mut clip, growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        drop(growing);
        assert!(matches!(clip.settled().await, Err(AsrError::NoSpeech)));
        // Nobody ever ends this one.
        let (mut clip, _growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        let settled = clip.settled_within(Duration::from_millis(10));
        let settled = timeout(Duration::from_secs(10), settled).await.unwrap();
        assert!(matches!(settled, Err(AsrError::NoSpeech)));
    }

    #[tokio::test]
    async fn its_time_begins_when_it_is_complete() {
        let (clip, growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        let expiry = clip.expiry(Duration::from_millis(1));
        tokio::pin!(expiry);
        assert!(timeout(Duration::from_millis(200), &mut expiry).await.is_err());
        growing.finish();
        timeout(Duration::from_secs(10), expiry).await.unwrap();
        // Nobody ever ends this one.
        let (clip, _growing) = Clip::growing(Uuid::nil(), Timestamp::UNIX_EPOCH);
        let short = Duration::from_millis(10);
        timeout(Duration::from_secs(10), clip.expiry_within(short, short)).await.unwrap();
    }

    #[test]
    fn it_prints_no_samples() {
        let clip = Clip::whole(Uuid::nil(), Timestamp::UNIX_EPOCH, vec![0.25; 7]);
        assert!(format!("{clip:?}").ends_with("taken: 0 }"));
    }
}
