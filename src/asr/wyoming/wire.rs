//! The Wyoming protocol as bytes: events are written, and read back within strict limits.
//!
//! An event is a line of JSON (`type`, and `data` inline or not), then `data_length` bytes of JSON that
//! are merged over `data`, then `payload_length` raw bytes. What a server sends is not trusted: every
//! length has a limit, payloads are skipped without being kept, of JSON only what is looked at is kept, and
//! nothing here can panic.

use super::json::{Json, object};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Longest header line. Servers that write `info` inline need some.
pub const MAX_HEADER_BYTES: usize = 256 * 1024;
/// Longest `data` after the header that any event needs: an `info`.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;
/// Longest payload that is skipped; a recogniser has no reason to send any.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

/// One event, without its payload.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// Its `type`.
    pub kind: String,
    /// Its `data`, both parts merged.
    pub data: Data,
}

/// What is looked at of an event's data.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Data {
    /// The words, or what is wrong.
    pub text: Json,
    /// The recognisers in an `info`.
    pub asr: Json<Program>,
}

/// A recogniser that a server offers.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Program {
    /// Its name.
    pub name: Json,
    /// Its models.
    pub models: Json<Model>,
}

/// A recogniser's model.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its name.
    pub name: Json,
}

impl Data {
    /// With what was said later, which counts.
    fn then(self, later: Data) -> Data {
        Data { text: later.text.or(self.text), asr: later.asr.or(self.asr) }
    }
}

/// Without the data, which may hold words.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What is wrong with the bytes. Never holds any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No end of line in sight.
    #[error("a header of more than {MAX_HEADER_BYTES} bytes")]
    LongHeader,
    /// A length beyond the limit.
    #[error("{what} of {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Which length.
        what: &'static str,
        /// What was announced.
        length: u64,
        /// What is allowed.
        limit: usize,
    },
    /// Not a JSON object where there should be one.
    #[error("the {0} is no JSON object")]
    NoObject(&'static str),
    /// `type` is missing.
    #[error("an event without a type")]
    NoType,
    /// A length that is none.
    #[error("`{0}` is no length")]
    NoLength(&'static str),
}

/// Bytes in, events out. After an error it is of no more use.
pub struct Decoder {
    /// Longest `data` after a header.
    most_data: usize,
    buffer: Vec<u8>,
    /// So much of the buffer holds no end of line.
    scanned: usize,
    /// A header whose data has not all arrived.
    header: Option<Header>,
    /// Bytes of payload still to be skipped.
    skip: usize,
}

struct Header {
    event: Event,
    data_length: usize,
    payload_length: usize,
}

/// A header's fields.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "type")]
    kind: Json,
    data: Json<Data>,
    data_length: Json,
    payload_length: Json,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new(MAX_DATA_BYTES)
    }
}

impl Decoder {
    /// For events with so much `data` after the header at most.
    pub fn new(most_data: usize) -> Decoder {
        Decoder { most_data, buffer: Vec::new(), scanned: 0, header: None, skip: 0 }
    }

    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(&bytes[skipped..]);
    }

    /// Bytes that wait for the rest of their event.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next event, or none until more has arrived.
    ///
    /// # Errors
    /// When the bytes are not the protocol's, or too many.
    pub fn next_event(&mut self) -> Result<Option<Event>, WireError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => match self.line()? {
                Some(line) => Header::read(&line, self.most_data)?,
                None => return Ok(None),
            },
        };
        if self.buffer.len() < header.data_length {
            self.header = Some(header);
            return Ok(None);
        }
        let Header { mut event, data_length, payload_length } = header;
        if data_length > 0 {
            let later = object(&self.buffer[..data_length]).ok_or(WireError::NoObject("data"))?;
            event.data = event.data.then(later);
            self.buffer.drain(..data_length);
        }
        let here = payload_length.min(self.buffer.len());
        self.buffer.drain(..here);
        self.skip = payload_length - here;
        Ok(Some(event))
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let end = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.buffer.len(), |end| self.scanned + end);
        if length > MAX_HEADER_BYTES {
            return Err(WireError::LongHeader);
        }
        if end.is_none() {
            self.scanned = length;
            return Ok(None);
        }
        self.scanned = 0;
        let mut line: Vec<u8> = self.buffer.drain(..=length).collect();
        line.pop();
        Ok(Some(line))
    }
}

impl Header {
    fn read(line: &[u8], most_data: usize) -> Result<Header, WireError> {
        let fields: Fields = object(line).ok_or(WireError::NoObject("header"))?;
        let data_length = length(&fields.data_length, "data_length", most_data)?;
        let payload_length = length(&fields.payload_length, "payload_length", MAX_PAYLOAD_BYTES)?;
        let Json::Text(kind) = fields.kind else { return Err(WireError::NoType) };
        let data = match fields.data {
            Json::Absent | Json::Null => Data::default(),
            Json::Object(data) => data,
            _ => return Err(WireError::NoObject("data")),
        };
        Ok(Header { event: Event { kind, data }, data_length, payload_length })
    }
}

fn length(said: &Json, what: &'static str, limit: usize) -> Result<usize, WireError> {
    let length = match said {
        Json::Absent | Json::Null => 0,
        Json::Number(length) => *length,
        _ => return Err(WireError::NoLength(what)),
    };
    let allowed = usize::try_from(length).ok().filter(|length| *length <= limit);
    allowed.ok_or(WireError::TooLong { what, length, limit })
}

/// Writes an event in the form that the protocol's own library writes. The bytes are overwritten when they have served.
pub fn encode(kind: &str, data: &Value, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let empty = data.as_object().is_none_or(Map::is_empty);
    let data = if empty { String::new() } else { data.to_string() };
    let mut header = Map::new();
    header.insert("type".into(), kind.into());
    for (key, length) in [("data_length", data.len()), ("payload_length", payload.len())] {
        if length > 0 {
            header.insert(key.into(), length.into());
        }
    }
    let header = Value::Object(header).to_string();
    let length = header.len() + 1 + data.len() + payload.len();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.extend_from_slice(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(data.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests;
