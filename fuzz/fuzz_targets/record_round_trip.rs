//! Records of any shape through the writer, every codec and the reader: the same records come out.
#![no_main]

use bytes::BytesMut;
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::record_batch::{BatchWriter, HeaderRef, batches};
use libfuzzer_sys::fuzz_target;

/// Takes fields out of the input: a byte for the length, 255 for null.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let length = match self.byte() {
            255 => return None,
            // Across the boundary between one and two bytes of length, and into larger ones.
            length @ 200.. => usize::from(length - 200) * 64,
            length => usize::from(length),
        };
        let (field, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(field)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let codec = Compression::ALL[usize::from(source.byte()) % Compression::ALL.len()];
    let mut records = Vec::new();
    while !source.0.is_empty() {
        let timestamp = i64::from(source.byte()) << (source.byte() % 40);
        let (key, value) = (source.field(), source.field());
        let headers: Vec<_> = (0..source.byte() % 4)
            .map(|_| HeaderRef { key: source.field().unwrap_or_default(), value: source.field() })
            .collect();
        records.push((timestamp, key, value, headers));
    }
    if records.is_empty() {
        return;
    }
    let mut writer = BatchWriter::new(BytesMut::new());
    for (timestamp, key, value, headers) in &records {
        writer.append(*timestamp, *key, *value, headers).unwrap();
    }
    let mut compressor = Compressor::new(codec, None).unwrap();
    let (sealed, _) = writer.finish_compressed(&mut compressor, BytesMut::new()).unwrap();
    let batch = batches(sealed.freeze()).next().unwrap().unwrap();
    batch.verify().unwrap();
    let decoded = batch.decode(&mut Decompressor::default()).unwrap();
    let mut read = decoded.records();
    for (offset, (timestamp, key, value, headers)) in records.iter().enumerate() {
        let record = read.next().unwrap().unwrap();
        assert_eq!((record.offset, record.timestamp), (offset as i64, *timestamp));
        assert_eq!((record.key, record.value), (*key, *value));
        assert!(record.headers().eq(headers.iter().copied()));
    }
    assert!(read.next().is_none());
});
