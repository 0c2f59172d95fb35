//! A program of reads over any bytes: each read stays in bounds, and what it read survives a round trip.
#![no_main]

use kafka_wire::primitives::{self, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((program, bytes)) = data.split_at_checked(16) else { return };
    let mut reader = Reader::new(bytes);
    for operation in program {
        let before = reader.remaining();
        let flexible = operation & 0x10 != 0;
        let mut out = Vec::new();
        let read = match operation & 0x0f {
            0 => reader.unsigned_varint().map(|value| primitives::put_unsigned_varint(&mut out, value)),
            1 => reader.unsigned_varlong().map(|value| primitives::put_unsigned_varlong(&mut out, value)),
            2 => reader.varint().map(|value| primitives::put_varint(&mut out, value)),
            3 => reader.varlong().map(|value| primitives::put_varlong(&mut out, value)),
            4 => reader.nullable_string(flexible).and_then(|value| {
                // A compact length can announce more than the 32767 bytes that Kafka lets us write.
                if value.is_some_and(|value| value.len() > 32767) {
                    return Ok(());
                }
                primitives::put_nullable_string(&mut out, value, flexible)
            }),
            5 => reader
                .nullable_bytes(flexible)
                .and_then(|value| primitives::put_nullable_bytes(&mut out, value, flexible)),
            6 => reader
                .nullable_count(flexible, 1)
                .and_then(|count| primitives::put_length(&mut out, count, flexible)),
            7 => reader.skip_tagged_fields(),
            8 => reader.uuid().map(|_| ()),
            9 => reader.f64().map(|_| ()),
            10 => reader.i16().map(|_| ()),
            _ => reader.u8().map(|_| ()),
        };
        assert!(reader.remaining() <= before);
        if read.is_err() {
            return;
        }
        // Overlong varints read, and are written in their short form.
        assert!(out.len() <= before - reader.remaining());
    }
});
