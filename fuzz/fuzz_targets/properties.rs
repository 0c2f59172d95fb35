//! Any text as a properties file: it is read or refused by name, and a client built from it has valid settings.
#![no_main]

use kafka_client::Client;
use kafka_client::properties::Properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(properties) = Properties::parse(text) else { return };
    let (builder, report) = Client::from_properties(&properties);
    let _ = report.to_string();
    if let Ok(client) = builder.build() {
        assert!(report.bad_values().is_empty());
        client.config().validate().unwrap();
    }
});
