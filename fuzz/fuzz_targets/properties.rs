//! Any text as a properties file: it is read or refused by name, and a client built from it has valid settings. Once more
//! with TLS and a mechanism asked for, whose settings are read together; a password is then shown nowhere.
#![no_main]

use kafka_client::Client;
use kafka_client::properties::Properties;
use libfuzzer_sys::fuzz_target;

const SECURE: &str =
    "\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.key.password=pA55w0rd!\n";

fuzz_target!(|text: &str| {
    read(text);
    // Files would be whatever there is on this machine.
    if !text.contains("location") {
        let shown = read(&format!("{text}{SECURE}"));
        assert!(text.contains("pA55w0rd!") || !shown.contains("pA55w0rd!"));
    }
});

fn read(text: &str) -> String {
    let Ok(properties) = Properties::parse(text) else { return String::new() };
    let (builder, report) = Client::from_properties(&properties);
    let mut shown = format!("{report} {report:?} {builder:?}");
    match builder.build() {
        Ok(client) => {
            assert!(report.bad_values().is_empty());
            client.config().validate().unwrap();
            shown += &format!("{client:?}");
        }
        Err(error) => shown += &format!("{error} {error:?}"),
    }
    shown
}
