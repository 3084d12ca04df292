//! What a Wyoming server may send: no panic, no more kept than the limits say, and the same events in
//! whichever pieces the bytes arrive. The first byte chooses the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The decoder alone, not the whole program: this builds in a minute.
#[allow(dead_code)]
#[path = "../../src/asr/json.rs"]
mod json;
#[allow(dead_code)]
#[path = "../../src/asr/wyoming/wire.rs"]
mod wire;
use wire::{Decoder, Event, MAX_DATA_BYTES, MAX_HEADER_BYTES, WireError};

/// The events in these bytes, up to the error that ends them, if one does.
fn events(bytes: &[u8], size: usize) -> (Vec<Event>, Option<WireError>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => {
                    let _ = event.data.text.text().map(str::len);
                    events.push(event);
                }
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(decoder.buffered() <= MAX_HEADER_BYTES.max(MAX_DATA_BYTES) + piece.len());
    }
    (events, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let in_pieces = events(bytes, usize::from(*size).max(1));
    assert!(in_pieces == events(bytes, bytes.len().max(1)), "other events in pieces of {size}");
});
