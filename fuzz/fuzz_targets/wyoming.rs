//! What a Wyoming server may send: no panic, and no more kept than the limits say. The first byte chooses
//! the size of the pieces in which the rest arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use undertone::asr::wyoming::wire::{Decoder, MAX_DATA_BYTES, MAX_HEADER_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let size = usize::from(*size).max(1);
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => drop(event.text("text").map(str::len)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.buffered() <= MAX_HEADER_BYTES.max(MAX_DATA_BYTES) + piece.len());
    }
});
