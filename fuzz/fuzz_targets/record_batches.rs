//! Any bytes as record batches, as they are and with their checksums repaired: what is read stays inside the batch.
#![no_main]

use bytes::Bytes;
use kafka_wire::compression::Decompressor;
use kafka_wire::crc::crc32c;
use kafka_wire::record_batch::{BatchMut, ControlRecord, batches, verify_crc};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;

fn read(input: Bytes) {
    let mut decompressor = Decompressor::new(LIMIT);
    let mut walk = batches(input.clone());
    let mut walked = 0;
    for batch in walk.by_ref() {
        let Ok(batch) = batch else { return };
        walked += batch.bytes.len();
        let _ = batch.verify();
        let mut patched = batch.bytes.to_vec();
        BatchMut::new(&mut patched).unwrap().set_append_time(1);
        verify_crc(&patched).unwrap();

        let Ok(decoded) = batch.decode(&mut decompressor) else { continue };
        let borrowed: Vec<_> = decoded.records().collect();
        let mut previous = batch.header.base_offset;
        for record in borrowed.iter().flatten() {
            assert!((previous..=batch.header.last_offset()).contains(&record.offset));
            previous = record.offset;
            assert_eq!(record.headers().count(), record.headers().len());
            let _ = ControlRecord::parse(record);
        }
        let owned: Vec<_> = decoded.clone().into_reader().collect();
        assert_eq!(borrowed.len(), owned.len());
        for (borrowed, owned) in borrowed.iter().zip(&owned) {
            match (borrowed, owned) {
                (Ok(borrowed), Ok(owned)) => assert_eq!(borrowed.value, owned.value.as_deref()),
                (borrowed, owned) => assert_eq!(borrowed.as_ref().err(), owned.as_ref().err()),
            }
        }
    }
    assert_eq!(walked + walk.rest().len(), input.len());
}

fuzz_target!(|data: &[u8]| {
    read(Bytes::copy_from_slice(data));
    if data.len() > 21 {
        let mut repaired = data.to_vec();
        repaired[16] = 2;
        let crc = crc32c(&repaired[21..]);
        repaired[17..21].copy_from_slice(&crc.to_be_bytes());
        let length = repaired.len() as i32 - 12;
        repaired[8..12].copy_from_slice(&length.to_be_bytes());
        read(repaired.into());
    }
});
