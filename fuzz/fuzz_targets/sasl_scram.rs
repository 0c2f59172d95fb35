//! SCRAM's four messages: what is read is written as it was, within its bounds, and proves nothing by chance.
#![no_main]

use kafka_wire::sasl::scram::{
    ClientFinal, ClientFirst, MAX_ITERATIONS, MAX_SALT, MIN_ITERATIONS, ScramHash, ScramKeys, ServerFinal,
    ServerFirst,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, message @ ..] = data else { return };
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let server = ServerFirst::new(&client, "def", b"salt", MIN_ITERATIONS).unwrap();
    let keys = ScramKeys::from_salted_password(ScramHash::Sha256, b"salted");
    match kind % 4 {
        0 => {
            let Ok(first) = ClientFirst::parse(message) else { return };
            assert_eq!(first.to_bytes(), message);
            let extensions: Vec<_> =
                first.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let again = ClientFirst::new(&first.user, &first.nonce, &extensions).unwrap();
            assert_eq!(ClientFirst::parse(&again.to_bytes()).unwrap(), again);
        }
        1 => {
            let Ok(first) = ServerFirst::parse(message, &client) else { return };
            assert_eq!(first.to_bytes(), message);
            assert!(first.nonce.starts_with("abc") && first.nonce.len() > 3);
            assert!((1..=MAX_SALT).contains(&first.salt.len()));
            assert!((MIN_ITERATIONS..=MAX_ITERATIONS).contains(&first.iterations));
        }
        2 => {
            let Ok(last) = ClientFinal::parse(message) else { return };
            assert_eq!(ClientFinal::parse(&last.to_bytes()).unwrap(), last);
            assert!(last.verify(&keys, &client, &server).is_err());
        }
        _ => {
            let Ok(last) = ServerFinal::parse(message) else { return };
            let (_, expected) = ClientFinal::prove(ScramHash::Sha512, b"salted", &client, &server);
            assert!(last.verify(&expected).is_err());
            assert!(ServerFinal::parse(&last.to_bytes()).is_ok());
        }
    }
});
