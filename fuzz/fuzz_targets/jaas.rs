//! Any text as a JAAS line: it is read or refused, an error has nothing of it, and what was read can be written and read
//! again.
#![no_main]

use kafka_client::properties::jaas::LoginModule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(module) = text.parse::<LoginModule>() else { return };
    let mut line = format!("{} required", quoted(module.class()));
    for (key, value) in module.options() {
        line += &format!(" {}={}", quoted(key), quoted(value.expose()));
    }
    line += ";";
    let again: LoginModule = line.parse().unwrap();
    assert_eq!(again.class(), module.class());
    let options = |module: &LoginModule| -> Vec<(String, String)> {
        module.options().map(|(key, value)| (key.to_owned(), value.expose().to_owned())).collect()
    };
    assert_eq!(options(&again), options(&module));
});

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            other => quoted.push(other),
        }
    }
    quoted + "\""
}
