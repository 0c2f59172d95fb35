//! The `kafka-broker` binary as a script sees it: its flags, its first line, its end.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Stops the broker even if the test fails.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> (Broker, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-broker"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut broker = Broker(child);
    let mut line = String::new();
    BufReader::new(broker.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let addresses = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
    let addresses = addresses.trim_end().split(',').map(str::to_owned).collect();
    (broker, addresses)
}

/// The answer to an ApiVersions request, as far as its correlation id.
fn hello(address: &str) -> [u8; 4] {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff]).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    [answer[4], answer[5], answer[6], answer[7]]
}

/// A free port with a free one after it.
fn two_free_ports() -> u16 {
    use std::net::TcpListener;
    loop {
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        // Far from where the system takes the next ones for connections of other tests.
        let port = 10_000 + port % 20_000;
        if TcpListener::bind(("0.0.0.0", port)).and(TcpListener::bind(("0.0.0.0", port + 1))).is_ok() {
            return port;
        }
    }
}

fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kafka-broker")).args(arguments).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn it_says_where_it_listens_and_stops_on_either_signal() {
    for signal in ["-INT", "-TERM"] {
        let (mut broker, addresses) = start(&["--port", "0", "--brokers", "3", "--topic", "orders:6:3"]);
        assert_eq!(addresses.len(), 3);
        for address in &addresses {
            assert_eq!(hello(address), [0, 0, 0, 9], "{address}");
        }
        // One that is in the middle of a request does not keep it.
        let mut busy = TcpStream::connect(&addresses[1]).unwrap();
        busy.write_all(&[0, 0, 0, 10, 0, 18]).unwrap();
        let killed = Command::new("kill").args([signal, &broker.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(broker.0.wait().unwrap().success(), "{signal}");
        let mut rest = String::new();
        broker.0.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        broker.0.stderr.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing after the first line, nothing to complain about");
        assert!(TcpStream::connect(&addresses[0]).is_err());
    }
}

#[test]
fn brokers_take_ports_in_a_row_and_advertise_what_they_are_told() {
    let free = two_free_ports();
    let port = free.to_string();
    let (_broker, addresses) =
        start(&["--port", &port, "--brokers", "2", "--host", "0.0.0.0", "--advertise", "kafka.test"]);
    assert_eq!(addresses, [format!("kafka.test:{free}"), format!("kafka.test:{}", free + 1)]);
    assert_eq!(hello(&format!("127.0.0.1:{}", free + 1)), [0, 0, 0, 9]);
}

#[test]
fn what_makes_no_sense_is_refused_with_setting_value_and_remedy() {
    let unknown = refused(&["--port", "0", "--config", "no.such=1"]);
    assert_eq!(unknown, "kafka-broker: no.such = 1: no broker setting has this name\n");
    let topic = refused(&["--port", "0", "--topic", "orders:six"]);
    assert!(topic.contains("name:partitions:replication, like orders:6:3"), "{topic}");
    let (_broker, addresses) = start(&["--port", "0"]);
    let port = addresses[0].rsplit(':').next().unwrap();
    let taken = refused(&["--port", port]);
    assert!(taken.starts_with(&format!("kafka-broker: cannot listen at 127.0.0.1:{port}: ")), "{taken}");
}
