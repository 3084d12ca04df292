//! The hook of kind `http`: a segment is posted as multipart WAV to an OpenAI-style server.
//!
//! One connection serves one request. Redirects are not followed and no proxy is used: audio goes where
//! the configuration says, or nowhere.

use super::cut::Cut;
use super::dial::dial;
use super::json::{self, Json};
use super::{Answer, AsrError, AsrHook, Clip, Complaint, MAX_TRANSCRIPT_BYTES, pcm, within};
use crate::config::{self, asr::HttpAddress};
use crate::state;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_native_tls::{TlsConnector, native_tls};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// Names the key when `asr.http.key_file` does not.
pub const KEY_VARIABLE: &str = "UNDERTONE_ASR_KEY";
/// Most bytes of an answer; some servers add timings to the words.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// More than a part of the form has besides its name, its content and the boundary.
const PART: usize = 128;
/// What stands before the key in its header.
const SCHEME: &[u8] = b"Bearer ";
/// The key of the configuration that names the server.
const KEY: &str = "asr.http.url";

/// An OpenAI-style server.
pub struct Http {
    address: Option<HttpAddress>,
    /// As errors name it.
    peer: String,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
    connect_limit: Duration,
    limit_seconds: f64,
    /// The fields besides the recording.
    fields: Vec<(&'static str, String)>,
}

impl Http {
    /// The server of `asr.http`.
    ///
    /// # Errors
    /// When the key or the certificate cannot be read.
    pub fn new(config: &config::Asr) -> Result<Http, AsrError> {
        let address = config.http.address();
        let tls = match address.as_ref().is_some_and(|address| address.tls) {
            true => Some(connector(&config.http)?),
            false => None,
        };
        let mut fields = vec![("model", config.http.model.clone()), ("response_format", "json".to_owned())];
        fields.push(("language", config.language.clone()));
        fields.push(("prompt", config.vocabulary.join(", ")));
        fields.retain(|(_, value)| !value.is_empty());
        Ok(Http {
            peer: address.as_ref().map_or_else(String::new, |a| a.authority.clone()),
            address,
            tls,
            authorization: authorization(&config.http)?,
            connect_limit: Duration::from_secs_f64(config.connect_timeout_seconds),
            limit_seconds: config.timeout_seconds,
            fields,
        })
    }

    fn broken(&self, reason: impl ToString) -> AsrError {
        AsrError::Broken { recogniser: format!("at {}", self.peer), reason: reason.to_string() }
    }

    /// No answer: it broke off, or what came is no answer at all.
    fn unheard(&self, error: &hyper::Error) -> AsrError {
        match error.is_parse() {
            true => self.protocol(&format!("its answer is no HTTP ({error})")),
            false => self.broken(error),
        }
    }

    fn unreachable(&self, reason: impl ToString) -> AsrError {
        AsrError::Connect { peer: self.peer.clone(), reason: reason.to_string(), key: KEY }
    }

    /// TLS failed.
    fn untrusted(&self, reason: impl ToString) -> AsrError {
        AsrError::Connect {
            peer: self.peer.clone(),
            reason: reason.to_string(),
            key: "asr.http.url (or asr.http.ca_file)",
        }
    }

    /// Opens the connection, TLS included.
    async fn connect(&self) -> Result<Line, AsrError> {
        let connecting = async {
            let address = self.address.as_ref().ok_or_else(|| self.unreachable("no address"))?;
            let stream = dial(&address.host, address.port).await;
            let stream = stream.map_err(|e| self.unreachable(e))?;
            stream.set_nodelay(true).map_err(|e| self.unreachable(e))?;
            let cut = Cut::of(&stream).map_err(|e| self.unreachable(e))?;
            let opened = match &self.tls {
                None => open(stream, cut).await,
                Some(tls) => {
                    let stream = tls.connect(&address.host, stream).await.map_err(|e| self.untrusted(e))?;
                    open(stream, cut).await
                }
            };
            opened.map_err(|e| self.unreachable(e))
        };
        let late =
            || self.unreachable(format!("no connection within {} s", self.connect_limit.as_secs_f64()));
        timeout(self.connect_limit, connecting).await.unwrap_or_else(|_| Err(late()))
    }

    async fn hand_over(&self, clip: &mut Clip) -> Result<String, AsrError> {
        let mut line = self.connect().await?;
        let expiry = clip.expiry(Duration::from_secs_f64(self.limit_seconds));
        let converse = async {
            let request = self.request(&pcm::wav(&clip.rest().await?)?).map_err(|e| self.broken(e))?;
            let response = line.sender.send_request(request).await.map_err(|e| self.unheard(&e))?;
            self.judge(response).await
        };
        let recogniser = format!("at {}", self.peer);
        let timed_out = || AsrError::TimedOut { recogniser, seconds: self.limit_seconds };
        let answer = within(expiry, converse, timed_out).await;
        // What has timed out is cut at once: nobody could take back later what the system still holds of it.
        if !matches!(answer, Err(AsrError::TimedOut { .. })) {
            line.close().await;
        }
        answer
    }

    fn request(&self, wav: &[u8]) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (authority, path) =
            self.address.as_ref().map(|a| (a.authority.as_str(), a.path.as_str())).unwrap_or_default();
        let boundary = format!("undertone-{}", Uuid::now_v7().simple());
        let body = multipart(&boundary, &self.fields, wav);
        let mut request = Request::post(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("undertone/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(Full::new(Bytes::from_owner(body)))
    }

    fn question(&self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let (authority, path) =
            self.address.as_ref().map(|a| (a.authority.as_str(), a.path.as_str())).unwrap_or_default();
        Request::options(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("undertone/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::new()))
    }

    /// Whether the server repeats the key that it was sent, which the events then would tell everybody.
    fn repeats_the_key(&self, said: &[u8]) -> bool {
        let key = self.authorization.as_ref().and_then(|value| value.as_bytes().strip_prefix(SCHEME));
        key.is_some_and(|key| said.windows(key.len()).any(|part| part == key))
    }

    /// The words in an answer.
    async fn judge(&self, response: Response<Incoming>) -> Result<String, AsrError> {
        let status = response.status();
        let plain = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("text/plain"));
        let collected = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = collected.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => self.flooded(MAX_ANSWER_BYTES),
            false => self.broken(error),
        })?;
        let body = body.to_bytes();
        let reply: Reply = json::object(&body).unwrap_or_default();
        if !status.is_success() {
            let complaint = complaint(reply.error.or(reply.detail));
            let said = complaint.as_deref().map_or(&body[..], str::as_bytes);
            return Err(AsrError::Refused {
                peer: self.peer.clone(),
                what: match status.is_redirection() {
                    true => format!(
                        "HTTP status {status}; redirects are not followed: let asr.http.url name where it leads to"
                    ),
                    false => format!("HTTP status {status}"),
                },
                complaint: Complaint::last_line(said).filter(|_| !self.repeats_the_key(said)),
            });
        }
        let text = match reply.text {
            Json::Text(text) => text,
            _ if plain => String::from_utf8_lossy(&body).into_owned(),
            _ => return Err(self.protocol("its answer is no JSON object with a `text`")),
        };
        match text.len() > MAX_TRANSCRIPT_BYTES {
            true => Err(self.flooded(MAX_TRANSCRIPT_BYTES)),
            false => Ok(text.trim().to_owned()),
        }
    }

    fn flooded(&self, limit: usize) -> AsrError {
        AsrError::Flooded { recogniser: format!("at {}", self.peer), limit }
    }

    fn protocol(&self, reason: &str) -> AsrError {
        let (peer, protocol) = (self.peer.clone(), "OpenAI's transcription protocol");
        AsrError::Protocol { peer, protocol, reason: reason.into(), key: KEY }
    }
}

impl AsrHook for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn transcribe<'a>(&'a self, clip: &'a mut Clip) -> Answer<'a> {
        Box::pin(self.hand_over(clip))
    }

    /// The server answers in HTTP: what it answers says nothing, because no question is answered alike by all of
    /// them. `OPTIONS` changes nothing anywhere, and the key stays here.
    fn probe(&self) -> Answer<'_> {
        Box::pin(async {
            let mut line = self.connect().await?;
            let question = self.question().map_err(|e| self.broken(e))?;
            let asked = timeout(self.connect_limit, line.sender.send_request(question)).await;
            line.cut.spare();
            let limit = self.connect_limit.as_secs_f64();
            let answer =
                asked.map_err(|_| self.protocol(&format!("it has not answered within {limit} s")))?;
            let status = answer.map_err(|e| self.unheard(&e))?.status();
            let key = if self.authorization.is_some() { "with a key" } else { "without a key" };
            Ok(format!(
                "{} answers in HTTP (OPTIONS: {}); segments are posted {key}",
                self.peer,
                status.as_u16()
            ))
        })
    }
}

/// An open connection. Dropping it closes it.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    cut: Cut,
    driver: AbortOnDropHandle<()>,
}

impl Line {
    /// After a hand-over.
    async fn close(self) {
        // First it must give no more to the system.
        self.driver.abort();
        let _ = self.driver.await;
        self.cut.close().await;
    }
}

async fn open<S>(stream: S, cut: Cut) -> hyper::Result<Line>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // `writev`: else the recording is copied into a buffer of the connection, which nobody overwrites.
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.writev(true);
    let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
    // How it ends shows in what the sender returns.
    let driver = tokio::spawn(async { drop(driver.await) });
    Ok(Line { sender, cut, driver: AbortOnDropHandle::new(driver) })
}

/// What is looked at of an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    text: Json,
    error: Json<Failure>,
    detail: Json<Failure>,
}

/// An error that is an object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Failure {
    message: Json,
}

/// What a server says in the errors that are in use.
fn complaint(error: Json<Failure>) -> Option<String> {
    match error {
        Json::Text(said) | Json::Object(Failure { message: Json::Text(said) }) => Some(said),
        _ => None,
    }
}

/// The key as a header that is never printed.
fn authorization(config: &config::asr::Http) -> Result<Option<HeaderValue>, AsrError> {
    let path = &config.key_file;
    let refuse = |reason: String| AsrError::Key { path: path.clone(), reason };
    let key = if path.as_os_str().is_empty() {
        std::env::var(KEY_VARIABLE).unwrap_or_default()
    } else {
        let text = state::read(path, state::LONGEST).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let key = text.lines().next().unwrap_or_default().trim().to_owned();
        if key.is_empty() {
            return Err(refuse("its first line must hold the key".into()));
        }
        key
    };
    if key.is_empty() {
        return Ok(None);
    }
    let mut value = HeaderValue::try_from([SCHEME, key.as_bytes()].concat())
        .map_err(|_| refuse("the key holds characters that no header can".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn connector(config: &config::asr::Http) -> Result<TlsConnector, AsrError> {
    let path = &config.ca_file;
    let refuse = |reason: String| AsrError::Authority { path: path.clone(), reason };
    let mut builder = native_tls::TlsConnector::builder();
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    if !path.as_os_str().is_empty() {
        let pem =
            state::read_bytes(path, state::LONGEST).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let authorities = native_tls::Certificate::stack_from_pem(&pem).ok().filter(|all| !all.is_empty());
        builder.disable_built_in_roots(true);
        for authority in authorities.ok_or_else(|| refuse("it must hold a certificate in PEM form".into()))? {
            builder.add_root_certificate(authority);
        }
    }
    builder.build().map(Into::into).map_err(|e| refuse(e.to_string()))
}

/// A form with its fields and the recording, which comes last.
fn multipart(boundary: &str, fields: &[(&'static str, String)], wav: &[u8]) -> pcm::Bytes {
    // A recording that outgrows its memory leaves a copy behind.
    let text: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    let parts = (fields.len() + 2) * (boundary.len() + PART);
    let mut body = pcm::Bytes::new(Vec::with_capacity(wav.len() + text + parts));
    let part = |body: &mut pcm::Bytes, disposition: &str, content: &[u8]| {
        body.extend(format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    for (name, value) in fields {
        part(&mut body, &format!("name=\"{name}\""), value.as_bytes());
    }
    let file = "name=\"file\"; filename=\"segment.wav\"\r\nContent-Type: audio/wav";
    part(&mut body, file, wav);
    body.extend(format!("--{boundary}--\r\n").bytes());
    body
}
