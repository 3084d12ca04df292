//! Stage 3: a segment of speech is handed to a recogniser of the user's choice.
//!
//! In: a [`Clip`], offered once its thresholds are passed; complete when its segment is over, or growing
//! from the onset on. Out: [`Told`]: how the hand-over ended, the words if they are to be published, and
//! a problem when the recogniser stops working. Nothing else leaves: transcripts are neither logged nor
//! written to disk, and audio is dropped as soon as the recogniser has answered.
//!
//! One hook works at a time ([`queue`], [`worker`]), and rests when it fails too often ([`breaker`]). The
//! kinds of hook implement [`AsrHook`]: [`command`], [`wyoming`], [`http`].

pub mod breaker;
pub mod clip;
pub mod command;
mod cut;
mod dial;
pub mod error;
pub mod http;
mod json;
pub mod pcm;
mod program;
pub mod queue;
mod worker;
pub mod wyoming;

pub use clip::{Clip, Growing};
pub use error::{AsrError, Complaint};
pub use queue::{Asr, Counts};

use crate::config::{self, asr::Kind};
use crate::events::{AsrWoken, Problem, Transcript};
use std::future::Future;
use std::pin::Pin;

/// Most bytes of a transcript: hours of speech in words.
pub const MAX_TRANSCRIPT_BYTES: usize = 64 * 1024;

/// What the recogniser's side has to tell. Not `Debug`, because it may hold words.
#[derive(Clone, PartialEq)]
pub enum Told {
    /// A hand-over ended; and, where words may be told, why with what the recogniser said of it.
    Woken(AsrWoken, Option<Words<String>>),
    /// What was said; only if `asr.publish_transcript` is set.
    Transcript(Words<Transcript>),
    /// The recogniser stopped working, or works again.
    Problem(Problem),
}

/// What a recogniser said, on its way to be told: [`Asr::standing`] says whether it still may be.
#[derive(Clone, PartialEq)]
pub struct Words<T> {
    /// The words, in whatever they are told.
    pub said: T,
    /// How often all clips had been called back when this one was taken in.
    recalls: u64,
}

/// The words, or why there are none; nothing happens before it is awaited, and dropping it ends the
/// hand-over at once.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<String, AsrError>> + Send + 'a>>;

/// A kind of recogniser.
pub trait AsrHook: Send + Sync {
    /// The kind, as `hook` in the events names it.
    fn name(&self) -> &'static str;

    /// Hands the clip over and waits for the words, trimmed; an empty answer means that none were heard.
    ///
    /// The hook keeps its own time limit, which begins at the end of the audio, and takes nothing from
    /// the clip before the recogniser is there.
    fn transcribe<'a>(&'a self, clip: &'a mut Clip) -> Answer<'a>;

    /// Whether the recogniser is there, without any audio: what it says of itself, in a few words.
    fn probe(&self) -> Answer<'_>;
}

/// The hook that the configuration asks for, or none.
///
/// # Errors
/// When a key or certificate that it names cannot be read.
pub fn configured(config: &config::Asr, node: &str) -> Result<Option<Box<dyn AsrHook>>, AsrError> {
    Ok(match config.kind() {
        None => None,
        Some(Kind::Command) => Some(Box::new(command::Command::new(config, node))),
        Some(Kind::Wyoming) => Some(Box::new(wyoming::Wyoming::new(config))),
        Some(Kind::Http) => Some(Box::new(http::Http::new(config)?)),
    })
}

/// Waits for `work`, but not longer than `expiry`.
async fn within<T>(
    expiry: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, AsrError>>,
    timed_out: impl FnOnce() -> AsrError,
) -> Result<T, AsrError> {
    tokio::select! {
        biased;
        done = work => done,
        () = expiry => Err(timed_out()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_chooses_the_hook() {
        let name = |config: config::Asr| configured(&config, "n").unwrap().map(|hook| hook.name());
        assert_eq!(name(config::Asr::default()), None);
        assert_eq!(name(config::Asr { command: vec!["cat".into()], ..Default::default() }), Some("command"));
        let mut config = config::Asr { hook: config::asr::Hook::Wyoming, ..Default::default() };
        config.wyoming.url = "tcp://hub".into();
        assert_eq!(name(config.clone()), Some("wyoming"));
        config.hook = config::asr::Hook::Http;
        config.http.url = "http://hub".into();
        assert_eq!(name(config), Some("http"));
    }
}
