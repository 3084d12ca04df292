//! Speech posteriors in, spans of speech out: evidence for an onset, hysteresis, shortest speech and pause,
//! longest span.
//!
//! Noises of a home flicker: a frame or two of them look like speech. So speech begins only where the mean over
//! 200 or 320 ms says so (of logits, as everywhere: that tells "surely" from "likely"), and its beginning is then laid
//! back to where the run of frames began.

use super::SPEECH_HOP;
use super::evidence::Evidence;
use crate::audio::SAMPLE_RATE;
use crate::config;

/// Hindsight asks for no more than this, unless the onset does: half of all speech is not surer.
const SURE: f64 = 0.9997;

/// A finished span, in speech frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// First frame of speech.
    pub start: usize,
    /// Frame after the last of speech.
    pub end: usize,
    /// Frames in it that are speech.
    pub speech_frames: usize,
    /// Sum of their posteriors.
    pub speech_sum: f64,
    /// It was cut at its longest; the next span goes on with it.
    pub cut: bool,
    /// It goes on with a span that was cut.
    pub continues: bool,
    /// Frame after the last that was looked at when it ended.
    pub decided: usize,
}

/// The open span, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct SoFar {
    /// First frame of speech.
    pub start: usize,
    /// Frame after the last of speech so far.
    pub end: usize,
    /// Frame at which it will be cut.
    pub longest: usize,
    /// Mean posterior of its frames of speech.
    pub speech_mean: f64,
}

/// What a frame changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Speech has lasted long enough to be told; it began with this frame.
    Started {
        /// First frame of speech.
        frame: usize,
    },
    /// The span is over.
    Ended(Span),
}

/// The state between frames.
#[derive(Debug)]
pub struct Segmenter {
    onset: f64,
    offset: f64,
    /// The offset of the configuration; `offset` is never above `onset`.
    configured_offset: f64,
    min_speech: usize,
    min_silence: usize,
    longest: usize,
    evidence: Evidence,
    /// Number of the next frame.
    next: usize,
    /// The unbroken frames above `offset` that lead to now: the first, and the sum of their posteriors.
    rise: Option<(usize, f64)>,
    open: Option<Open>,
    continues: bool,
}

#[derive(Debug)]
struct Open {
    start: usize,
    last_speech: usize,
    speech_frames: usize,
    speech_sum: f64,
    told: bool,
    continues: bool,
}

impl Segmenter {
    /// Durations are rounded to whole frames of 40 ms; `quick` if somebody waits for the onset.
    pub fn new(settings: &config::Cascade, quick: bool) -> Segmenter {
        let frames = |seconds: f64| (seconds * f64::from(SAMPLE_RATE) / SPEECH_HOP as f64).round() as usize;
        let min_speech = frames(settings.min_speech_seconds).max(1);
        Segmenter {
            onset: settings.onset,
            offset: settings.offset,
            configured_offset: settings.offset,
            min_speech,
            min_silence: frames(settings.min_silence_seconds).max(1),
            longest: frames(settings.max_segment_seconds).max(1),
            evidence: Evidence::new(min_speech, quick),
            next: 0,
            rise: None,
            open: None,
            continues: false,
        }
    }

    /// Changes the onset; an offset above it is lowered to it.
    pub fn set_onset(&mut self, onset: f64) {
        self.onset = onset;
        self.offset = self.configured_offset.min(onset);
    }

    /// Frames since the stream began, or broke.
    pub fn frames(&self) -> usize {
        self.next
    }

    /// No span is open.
    pub fn idle(&self) -> bool {
        self.open.is_none()
    }

    /// The open span goes on with one that was cut.
    pub fn continues(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.continues)
    }

    /// The open span, if it was told.
    pub fn so_far(&self) -> Option<SoFar> {
        let open = self.open.as_ref().filter(|open| open.told)?;
        Some(SoFar {
            start: open.start,
            end: open.last_speech + 1,
            longest: open.start + self.longest,
            speech_mean: open.speech_sum / open.speech_frames.max(1) as f64,
        })
    }

    /// Whether a span would begin if the next frames had these speech posteriors.
    pub fn begins(&self, ahead: impl IntoIterator<Item = f64>) -> bool {
        let mut evidence = self.evidence.clone();
        let mut continues = self.continues;
        self.idle()
            && ahead.into_iter().any(|posterior| {
                if posterior < self.offset {
                    evidence.clear();
                    continues = false;
                    return false;
                }
                continues || evidence.push(posterior).is_some_and(|mean| mean >= self.onset)
            })
    }

    /// Whether a span that has ended is believed in hindsight: by its frames' posteriors with the votes of all windows.
    pub fn confirms(&self, span: &Span, hindsight: impl IntoIterator<Item = f64>) -> bool {
        // What goes on after a cut has been believed already.
        span.continues || self.evidence.best(hindsight) >= surer(self.onset)
    }

    /// The next frame's speech posterior.
    pub fn push(&mut self, posterior: f64) -> Option<Change> {
        let frame = self.next;
        self.next += 1;
        let speech = posterior >= self.offset;
        if !speech {
            self.no_rise();
        }
        let Some(open) = &mut self.open else {
            if !speech {
                self.continues = false;
                return None;
            }
            let (mut start, mut sum) =
                self.rise.map_or((frame, posterior), |(start, sum)| (start, sum + posterior));
            // Of music that has resembled speech for a minute, the voice that follows it has only the end.
            let (risen, most) = (frame + 1 - start, (self.longest / 2).max(1));
            if risen > most {
                sum *= most as f64 / risen as f64;
                start = frame + 1 - most;
            }
            self.rise = Some((start, sum));
            let begins = self.evidence.push(posterior).is_some_and(|mean| mean >= self.onset);
            // What goes on after a cut has been believed already.
            if begins || self.continues {
                self.open = Some(Open {
                    start,
                    last_speech: frame,
                    speech_frames: frame + 1 - start,
                    speech_sum: sum,
                    told: false,
                    continues: std::mem::take(&mut self.continues),
                });
                self.no_rise();
                return self.tell_if_long_enough();
            }
            return None;
        };
        if speech {
            open.last_speech = frame;
            open.speech_frames += 1;
            open.speech_sum += posterior;
        } else if frame - open.last_speech >= self.min_silence {
            return self.end(false);
        }
        if open.told && frame + 1 - open.start >= self.longest {
            return self.end(true);
        }
        self.tell_if_long_enough()
    }

    /// The stream broke off: ends an open span, and counts frames from 0 again.
    pub fn finish(&mut self) -> Option<Change> {
        self.no_rise();
        let change = self.end(false);
        self.next = 0;
        self.continues = false;
        change
    }

    /// Whether what follows the span that has just ended needs no evidence of its own: that span was cut, and is believed.
    pub fn believe(&mut self, cut: bool) {
        self.continues = cut;
    }

    fn no_rise(&mut self) {
        self.rise = None;
        self.evidence.clear();
    }

    fn tell_if_long_enough(&mut self) -> Option<Change> {
        let open = self.open.as_mut().filter(|open| !open.told && open.speech_frames >= self.min_speech)?;
        open.told = true;
        Some(Change::Started { frame: open.start })
    }

    fn end(&mut self, cut: bool) -> Option<Change> {
        let open = self.open.take().filter(|open| open.told)?;
        self.continues = cut;
        Some(Change::Ended(Span {
            start: open.start,
            end: open.last_speech + 1,
            speech_frames: open.speech_frames,
            speech_sum: open.speech_sum,
            cut,
            continues: open.continues,
            decided: self.next,
        }))
    }
}

/// What hindsight asks for: four times the odds of the onset, as far as models are that sure of speech.
fn surer(onset: f64) -> f64 {
    (4.0 * onset / (1.0 + 3.0 * onset)).min(SURE).max(onset)
}

#[cfg(test)]
mod tests;
