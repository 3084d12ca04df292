//! What a server may send, and what is made of it.

use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// All events of a stream that is sane, with their texts.
fn events(bytes: &[u8], piece: usize) -> Vec<(String, Option<String>)> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().unwrap() {
            let text = event.data.text.text().map(str::to_owned);
            seen.push((event.kind, text));
        }
    }
    assert_eq!(decoder.buffered(), 0);
    seen
}

fn stream() -> Vec<u8> {
    [
        encode("describe", &Value::Null, &[]).to_vec(),
        encode("audio-chunk", &json!({ "rate": 16000 }), &[b'\n'; 300]).to_vec(),
        b"{\"type\": \"transcript\", \"data\": {\"text\": \"a\", \"language\": \"de\"}, \"data_length\": 14}\n{\"text\": \"\\n\"} ".to_vec(),
        encode("transcript-chunk", &json!({ "text": "žluťoučký\n" }), &[]).to_vec(),
    ]
    .concat()
}

/// `make fuzz` builds this file and `json.rs` without the rest of the program.
#[test]
fn it_stands_alone() {
    for text in [include_str!("../wire.rs"), include_str!("../../json.rs")] {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().replace("super::json", "json");
        assert!(!text.contains("crate::") && !text.contains("super::"), "it cannot be fuzzed");
    }
}

#[test]
fn events_are_the_same_in_whatever_pieces_they_arrive() {
    let whole = events(&stream(), usize::MAX);
    let kinds: Vec<&str> = whole.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["describe", "audio-chunk", "transcript", "transcript-chunk"]);
    assert_eq!(whole[2].1.as_deref(), Some("\n"), "what follows the header counts");
    for piece in 1..60 {
        assert_eq!(events(&stream(), piece), whole, "pieces of {piece}");
    }
}

#[test]
fn an_event_is_written_as_the_library_reads_it() {
    assert_eq!(encode("describe", &Value::Null, &[])[..], *b"{\"type\":\"describe\"}\n");
    let chunk = encode("audio-chunk", &json!({ "rate": 16000 }), &[1, 2]);
    let expected =
        b"{\"data_length\":14,\"payload_length\":2,\"type\":\"audio-chunk\"}\n{\"rate\":16000}\x01\x02";
    assert_eq!(chunk[..], *expected);
}

#[test]
fn what_is_too_long_is_refused_before_it_is_kept() {
    let mut decoder = Decoder::default();
    let mut refused = Ok(None);
    while matches!(refused, Ok(None)) && decoder.buffered() < 2 * MAX_HEADER_BYTES {
        decoder.push(&[b' '; 4096]);
        refused = decoder.next_event();
    }
    assert_eq!(refused, Err(WireError::LongHeader));
    assert!(decoder.buffered() <= MAX_HEADER_BYTES + 4096);
    let announced = |key: &str, length: u64| {
        let mut decoder = Decoder::default();
        decoder.push(format!("{{\"type\":\"x\",\"{key}\":{length}}}\n").as_bytes());
        decoder.next_event()
    };
    assert_eq!(announced("data_length", 1 << 20), Ok(None));
    assert!(matches!(announced("data_length", (1 << 20) + 1), Err(WireError::TooLong { .. })));
    assert!(matches!(announced("payload_length", u64::MAX), Err(WireError::TooLong { .. })));
}

#[test]
fn data_may_be_limited_further() {
    let mut decoder = Decoder::new(12);
    decoder
        .push(b"{\"type\":\"x\",\"data_length\":12}\n{\"text\":\"b\"}{\"type\":\"y\",\"data_length\":13}\n");
    let event = decoder.next_event().unwrap().unwrap();
    assert_eq!((event.kind.as_str(), event.data.text.text()), ("x", Some("b")));
    let refused = WireError::TooLong { what: "data_length", length: 13, limit: 12 };
    assert_eq!(decoder.next_event(), Err(refused));
}

#[test]
fn data_of_the_wrong_kind_is_refused_or_none() {
    let read = |json: &str| {
        let mut decoder = Decoder::default();
        decoder.push(format!("{json}\n").as_bytes());
        decoder.next_event().map(|event| event.unwrap())
    };
    for none in
        ["null", "{}", "{\"text\":null}", "{\"text\":7}", "{\"text\":[\"a\"]}", "{\"text\":{\"a\":\"b\"}}"]
    {
        let event = read(&format!("{{\"type\":\"x\",\"data\":{none}}}")).unwrap();
        assert!(event.data.text.text().is_none(), "{none}");
    }
    for data in ["[]", "[\"a\"]", "\"a\"", "7", "true"] {
        let refused = read(&format!("{{\"type\":\"x\",\"data\":{data}}}"));
        assert_eq!(refused, Err(WireError::NoObject("data")), "{data}");
    }
    assert_eq!(read("{\"data\":{}}"), Err(WireError::NoType));
    assert_eq!(read("[\"x\"]"), Err(WireError::NoObject("header")));
    let length = |value: &str| read(&format!("{{\"type\":\"x\",\"data_length\":{value}}}"));
    assert_eq!(length("null").unwrap().kind, "x");
    for value in ["-1", "1.5", "\"12\"", "[]", "{}", "false"] {
        assert_eq!(length(value), Err(WireError::NoLength("data_length")), "{value}");
    }
}

#[test]
fn a_payload_is_skipped_without_being_kept() {
    let mut decoder = Decoder::default();
    decoder.push(format!("{{\"type\":\"x\",\"payload_length\":{MAX_PAYLOAD_BYTES}}}\n").as_bytes());
    assert_eq!(decoder.next_event().unwrap().unwrap().kind, "x");
    for _ in 0..MAX_PAYLOAD_BYTES / 4096 {
        decoder.push(&[b'{'; 4096]);
        assert_eq!((decoder.next_event(), decoder.buffered()), (Ok(None), 0));
    }
    decoder.push(b"{\"type\":\"y\"}\n");
    assert_eq!(decoder.next_event().unwrap().unwrap().kind, "y");
}

/// Whatever arrives: no panic, and no more kept than the limits say.
fn survive(bytes: &[u8], piece: usize) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.buffered() <= MAX_HEADER_BYTES.max(MAX_DATA_BYTES) + piece.len());
    }
}

#[test]
fn random_and_damaged_bytes_are_survived() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let pieces: [&[u8]; 9] = [
        b"{\"type\":\"transcript\"",
        b",\"data_length\":",
        b",\"payload_length\":",
        b"}\n",
        b"{\"text\":\"x\"}",
        b"18446744073709551615",
        b"-1",
        b"\n",
        b"null",
    ];
    for _ in 0..3000 {
        // Noise; a damaged stream; parts of the protocol in any order.
        let noise: Vec<u8> = (0..random.random_range(0..400)).map(|_| random.random()).collect();
        let mut damaged = stream().repeat(2);
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..damaged.len());
            damaged[at] = random.random();
        }
        let shuffled: Vec<u8> = (0..random.random_range(0..30))
            .flat_map(|_| match random.random_range(0..10) {
                9 => random.random_range(0..40).to_string().into_bytes(),
                i => pieces[i].to_vec(),
            })
            .collect();
        for bytes in [noise, damaged, shuffled] {
            survive(&bytes, random.random_range(1..64));
        }
    }
}
