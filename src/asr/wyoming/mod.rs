//! The hook of kind `wyoming`: what Home Assistant's own recognisers speak, over TCP or a Unix socket.
//!
//! Out: `transcribe`, `audio-start`, `audio-chunk`s as the audio comes in, `audio-stop`. In: `transcript`,
//! or its parts, or `error`. One connection serves one segment and is closed with it.

pub mod wire;

use super::cut::Cut;
use super::dial::dial;
use super::json; // `wire` takes it from here, because `make fuzz` builds it alone
use super::{Answer, AsrError, AsrHook, Clip, Complaint, MAX_TRANSCRIPT_BYTES, pcm, within};
use crate::audio::SAMPLE_RATE;
use crate::config::{self, asr::WyomingAddress};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use wire::{Decoder, Event, MAX_DATA_BYTES, Program, encode};

/// Samples in an `audio-chunk` (64 ms), as other clients send them.
const CHUNK: usize = 1024;
/// Most bytes that a server may send for one segment.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Longest `data` of an event while a segment is handed over: a transcript, with room for escapes.
const MAX_WORDS_BYTES: usize = 128 * 1024;
/// What `undertone check` shows of a server's names.
const SHOWN_CHARS: usize = 200;
/// The key that names the server.
const KEY: &str = "asr.wyoming.url";

/// A Wyoming server.
pub struct Wyoming {
    address: Option<WyomingAddress>,
    /// As errors name it.
    peer: String,
    connect_limit: Duration,
    limit_seconds: f64,
    /// The data of `transcribe`.
    request: Value,
}

/// A connection, whatever it runs over.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Wyoming {
    /// The server of `asr.wyoming`.
    pub fn new(config: &config::Asr) -> Wyoming {
        let mut request = serde_json::Map::new();
        let wanted = [("language", &config.language), ("name", &config.wyoming.model)];
        for (key, value) in wanted.into_iter().filter(|(_, value)| !value.is_empty()) {
            request.insert(key.into(), value.as_str().into());
        }
        if !config.vocabulary.is_empty() {
            request.insert("transcript_terms".into(), config.vocabulary.clone().into());
        }
        let address = config.wyoming.address();
        Wyoming {
            peer: address.as_ref().map(ToString::to_string).unwrap_or_default(),
            address,
            connect_limit: Duration::from_secs_f64(config.connect_timeout_seconds),
            limit_seconds: config.timeout_seconds,
            request: Value::Object(request),
        }
    }

    async fn connect(&self) -> Result<(Box<dyn Connection>, Option<Cut>), AsrError> {
        let connecting = async {
            Ok(match &self.address {
                Some(WyomingAddress::Tcp(host, port)) => {
                    let stream = dial(host, *port).await?;
                    stream.set_nodelay(true)?;
                    let cut = Cut::of(&stream)?;
                    (Box::new(stream) as Box<dyn Connection>, Some(cut))
                }
                Some(WyomingAddress::Unix(path)) => {
                    (Box::new(UnixStream::connect(path).await?) as Box<dyn Connection>, None)
                }
                None => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
            })
        };
        let reason = match timeout(self.connect_limit, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {} s", self.connect_limit.as_secs_f64()),
        };
        Err(AsrError::Connect { peer: self.peer.clone(), reason, key: KEY })
    }

    fn broken(&self, reason: impl ToString) -> AsrError {
        AsrError::Broken { recogniser: format!("at {}", self.peer), reason: reason.to_string() }
    }

    fn protocol(&self, reason: impl ToString) -> AsrError {
        let peer = self.peer.clone();
        AsrError::Protocol { peer, protocol: "the Wyoming protocol", reason: reason.to_string(), key: KEY }
    }

    async fn hand_over(&self, clip: &mut Clip) -> Result<String, AsrError> {
        let (connection, cut) = self.connect().await?;
        let (reader, writer) = tokio::io::split(connection);
        let expiry = clip.expiry(Duration::from_secs_f64(self.limit_seconds));
        let converse = async {
            let mut listen = std::pin::pin!(self.listen(Incoming::new(reader, MAX_WORDS_BYTES)));
            tokio::select! {
                // A server that has heard enough may answer before the end.
                answer = &mut listen => answer,
                spoken = self.speak(writer, clip) => match spoken {
                    Ok(_open) => listen.await,
                    Err(AsrError::NoSpeech) => Err(AsrError::NoSpeech),
                    // Why it hung up is what it said last, if it said anything.
                    Err(broken) => match listen.await {
                        Err(AsrError::Broken { .. }) => Err(broken),
                        answer => answer,
                    },
                },
            }
        };
        let recogniser = format!("at {}", self.peer);
        let timed_out = || AsrError::TimedOut { recogniser, seconds: self.limit_seconds };
        let answer = within(expiry, converse, timed_out).await;
        // What has timed out, or was no speech, is cut at once: nobody could take back later what the system still holds of it.
        if let (Some(cut), false) =
            (cut, matches!(answer, Err(AsrError::TimedOut { .. } | AsrError::NoSpeech)))
        {
            cut.close().await;
        }
        answer
    }

    /// Sends the audio as it comes in. The open connection is returned, because closing half of it is a
    /// goodbye to some servers.
    async fn speak<W: AsyncWrite + Unpin>(&self, mut writer: W, clip: &mut Clip) -> Result<W, AsrError> {
        let format = json!({ "rate": SAMPLE_RATE, "width": pcm::WIDTH, "channels": 1, "timestamp": null });
        let opening =
            [&encode("transcribe", &self.request, &[])[..], &encode("audio-start", &format, &[])[..]]
                .concat();
        writer.write_all(&opening).await.map_err(|e| self.broken(e))?;
        while let Some(samples) = clip.next().await? {
            for chunk in samples.chunks(CHUNK) {
                let event = encode("audio-chunk", &format, &pcm::raw(chunk));
                writer.write_all(&event).await.map_err(|e| self.broken(e))?;
            }
        }
        let closing = encode("audio-stop", &json!({ "timestamp": null }), &[]);
        writer.write_all(&closing).await.map_err(|e| self.broken(e))?;
        writer.flush().await.map_err(|e| self.broken(e))?;
        Ok(writer)
    }

    /// Reads until there is a transcript.
    async fn listen<R: AsyncRead + Unpin>(&self, mut incoming: Incoming<R>) -> Result<String, AsrError> {
        let mut parts = String::new();
        loop {
            let event = incoming.next(self).await?;
            let text = event.data.text.text();
            let text = match event.kind.as_str() {
                "transcript" => text.ok_or_else(|| self.protocol("a transcript without text"))?.to_owned(),
                "transcript-chunk" => {
                    parts.push_str(text.unwrap_or_default());
                    if parts.len() <= MAX_TRANSCRIPT_BYTES {
                        continue;
                    }
                    parts
                }
                // The whole usually came before it; if not, the parts are the whole.
                "transcript-stop" => parts,
                "error" => {
                    return Err(AsrError::Refused {
                        peer: self.peer.clone(),
                        what: "error".into(),
                        complaint: text.and_then(|text| Complaint::last_line(text.as_bytes())),
                    });
                }
                // Other events are for other clients.
                _ => continue,
            };
            if text.len() > MAX_TRANSCRIPT_BYTES {
                return Err(self.flooded(MAX_TRANSCRIPT_BYTES));
            }
            return Ok(text.trim().to_owned());
        }
    }

    fn flooded(&self, limit: usize) -> AsrError {
        AsrError::Flooded { recogniser: format!("at {}", self.peer), limit }
    }

    /// Asks the server what it is.
    async fn describe(&self) -> Result<String, AsrError> {
        let (connection, cut) = self.connect().await?;
        if let Some(cut) = cut {
            cut.spare();
        }
        let (reader, mut writer) = tokio::io::split(connection);
        let asking = async {
            writer.write_all(&encode("describe", &Value::Null, &[])).await.map_err(|e| self.broken(e))?;
            let mut incoming = Incoming::new(reader, MAX_DATA_BYTES);
            loop {
                let event = incoming.next(self).await?;
                if event.kind == "info" {
                    return self.introduce(&event);
                }
            }
        };
        let silent = || self.protocol("it did not answer `describe` in time");
        timeout(self.connect_limit, asking).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The recognisers in an `info`, by name.
    fn introduce(&self, info: &Event) -> Result<String, AsrError> {
        let describe = |program: &Program| {
            let models: Vec<&str> =
                program.models.list().iter().filter_map(|model| model.name.text()).collect();
            Some(format!("{} ({})", program.name.text()?, models.join(", ")))
        };
        let programs: Vec<String> = info.data.asr.list().iter().filter_map(describe).collect();
        if programs.is_empty() {
            return Err(self.protocol("it offers no speech recognition"));
        }
        let clean =
            programs.join("; ").chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect::<String>();
        Ok(format!("{}, {clean}", self.peer))
    }
}

impl AsrHook for Wyoming {
    fn name(&self) -> &'static str {
        "wyoming"
    }

    fn transcribe<'a>(&'a self, clip: &'a mut Clip) -> Answer<'a> {
        Box::pin(self.hand_over(clip))
    }

    fn probe(&self) -> Answer<'_> {
        Box::pin(self.describe())
    }
}

/// What a server sends, event by event.
struct Incoming<R> {
    reader: R,
    decoder: Decoder,
    received: usize,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    fn new(reader: R, most_data: usize) -> Incoming<R> {
        Incoming { reader, decoder: Decoder::new(most_data), received: 0 }
    }

    async fn next(&mut self, server: &Wyoming) -> Result<Event, AsrError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(event) = self.decoder.next_event().map_err(|e| server.protocol(e))? {
                return Ok(event);
            }
            let count = self.reader.read(&mut bytes).await.map_err(|e| server.broken(e))?;
            if count == 0 {
                return Err(server.broken("it was closed before the transcript"));
            }
            self.received += count;
            if self.received > MAX_ANSWER_BYTES {
                return Err(server.flooded(MAX_ANSWER_BYTES));
            }
            self.decoder.push(&bytes[..count]);
        }
    }
}
