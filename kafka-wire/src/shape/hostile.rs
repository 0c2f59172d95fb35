//! Bounded mutation of every message: no panic, no disagreement with the decoder, no more memory than promised.

use bytes::Bytes;
use fastrand::Rng;

use super::check;
use super::sample::{lean_sample, sample};
use super::tests::messages;
use crate::api::recode;
use crate::testing::seeded;

/// What a decoder may ask for, for each byte received.
const BYTES_PER_BYTE: u64 = 512;
/// Mutated bodies of each message in each version; with some 500 of them about ten seconds in a debug build.
const ROUNDS: usize = 1500;

// Lengths and counts at and beyond every limit, in each of the forms that they have on the wire.
const POISON: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0, 0x7f, 0xff, 0xff],
    &[0, 0, 0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0x7f],
    &[0x80, 0x00],
    &[0x7f],
    &[0],
];

#[test]
fn what_passes_the_shape_pass_decodes_within_its_memory() {
    let mut random = seeded();
    let (mut accepted, mut worst) = (0, 0);
    for (api, version, direction) in messages() {
        for round in 0..ROUNDS {
            let mut body = sample(&mut random, api, version, direction);
            for _ in 0..random.usize(..4) {
                mutate(&mut random, &mut body);
            }
            let body = Bytes::from(body);
            let length = body.len() as u64;
            let passes = check(api, version, direction, &body).is_ok();
            let (outcome, asked) = counting_alloc::measure(|| recode(api, version, direction, body.clone()));
            assert_eq!(passes, outcome.is_ok(), "{api} v{version} {direction:?} round {round}: {outcome:?}");
            let Ok(again) = outcome else { continue };
            assert!(
                asked.bytes <= BYTES_PER_BYTE * length,
                "{api} v{version} {direction:?}: {asked:?} for {length}"
            );
            worst = worst.max(asked.bytes / length.max(1));
            accepted += 1;
            // Some mutations only change the form; what was understood must not change again.
            let again = again.freeze();
            assert_eq!(recode(api, version, direction, again.clone()).unwrap(), again, "{api} v{version}");
        }
    }
    println!("{accepted} accepted, at most {worst} bytes asked for per byte");
    assert!(accepted > 1000);
}

#[test]
fn many_elements_of_few_bytes_decode_within_their_memory() {
    let mut random = seeded();
    let mut worst = 0;
    for (api, version, direction) in messages() {
        for _ in 0..40 {
            let body = Bytes::from(lean_sample(&mut random, api, version, direction, 1000));
            let (outcome, asked) = counting_alloc::measure(|| recode(api, version, direction, body.clone()));
            assert!(outcome.is_ok(), "{api} v{version} {direction:?}: {outcome:?}");
            let length = body.len() as u64;
            assert!(
                asked.bytes <= BYTES_PER_BYTE * length,
                "{api} v{version} {direction:?}: {asked:?} for {length}"
            );
            worst = worst.max(asked.bytes / length.max(1));
        }
    }
    println!("at most {worst} bytes asked for per byte");
}

fn mutate(random: &mut Rng, body: &mut Vec<u8>) {
    let at = random.usize(..=body.len());
    match random.u8(..6) {
        0 => body.truncate(at),
        1 => body.insert(at, random.u8(..)),
        2 if at < body.len() => {
            body.remove(at);
        }
        3 => {
            let poison = random.choice(POISON).copied().unwrap_or_default();
            let end = body.len().min(at + poison.len());
            body.splice(at..end, poison.iter().copied());
        }
        4 => {
            let end = random.usize(at..=body.len());
            let copy = body[at..end].to_vec();
            body.splice(at..at, copy);
        }
        _ if at < body.len() => body[at] = random.u8(..),
        _ => {}
    }
}
