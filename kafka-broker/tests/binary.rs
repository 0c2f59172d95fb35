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
    let (broker, lines) = start_saying(arguments, 1);
    let addresses = lines[0].strip_prefix("listening on ").unwrap_or_else(|| panic!("{lines:?}"));
    (broker, addresses.split(',').map(str::to_owned).collect())
}

/// Starts a broker, and reads so many lines of it.
fn start_saying(arguments: &[&str], lines: usize) -> (Broker, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-broker"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut broker = Broker(child);
    let said = BufReader::new(broker.0.stdout.as_mut().unwrap()).lines().take(lines).map(Result::unwrap);
    let said = said.collect();
    (broker, said)
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
fn it_tells_on_stdin_and_stdout_how_many_requests_came() {
    for flags in [&["--port", "0"][..], &["--port", "0", "--null", "--null-codec", "lz4"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-broker"));
        let child = command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut broker = Broker(child);
        let mut lines = BufReader::new(broker.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.next().unwrap();
        let address = said.strip_prefix("listening on ").unwrap();
        let mut stdin = broker.0.stdin.take().unwrap();
        for count in 1..3 {
            hello(address);
            writeln!(stdin, "\nrequests").unwrap();
            assert_eq!(lines.next().unwrap(), format!("{{\"ApiVersions\":{count}}}"));
        }
        drop(stdin);
        assert_eq!(hello(address), [0, 0, 0, 9], "the end of stdin is not its end");
    }
}

#[test]
fn the_shape_of_a_null_brokers_batch_is_for_null_brokers() {
    let alone = refused(&["--port", "0", "--null-size", "10"]);
    assert!(alone.contains("--null"), "{alone}");
    let empty = refused(&["--port", "0", "--null", "--null-records", "0"]);
    assert!(empty.contains("give the batch a record at least"), "{empty}");
    let codec = refused(&["--port", "0", "--null", "--null-codec", "zip"]);
    assert!(codec.contains("use none, gzip, snappy, lz4 or zstd"), "{codec}");
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

/// A directory that is gone when the test ends.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Self {
        let number = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let dir = std::env::temp_dir().join(format!("kafka-broker-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn test_ca(dir: &Scratch) {
    let arguments = ["test-ca", dir.0.to_str().unwrap(), "--client", "alice"];
    let status = Command::new(env!("CARGO_BIN_EXE_kafka-broker")).args(arguments).status().unwrap();
    assert!(status.success());
}

/// What a listener answers to a request that only who is known may make: nothing, or an alert of TLS, or an answer.
fn answer_to_metadata(address: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0]).unwrap();
    let mut answer = vec![0; 8];
    match stream.read_exact(&mut answer) {
        Ok(()) => answer,
        // Closed, with what it had to say before.
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it should be closed or answered");
            answer.retain(|byte| *byte != 0);
            answer
        }
    }
}

#[test]
fn certificates_for_other_programs_are_written() {
    let dir = Scratch::new();
    test_ca(&dir);
    for name in ["ca.pem", "server.pem", "alice.pem"] {
        let pem = std::fs::read_to_string(dir.path(name)).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{name}");
    }
    for name in ["server.key", "alice.key"] {
        let pem = std::fs::read_to_string(dir.path(name)).unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{name}");
    }
    let bad = refused(&["test-ca", dir.0.to_str().unwrap(), "--client", "../alice"]);
    assert!(bad.contains("\"../alice\" cannot be the name of a client's files"), "{bad}");
}

#[test]
fn flags_and_a_file_make_the_same_listeners() {
    let dir = Scratch::new();
    test_ca(&dir);
    std::fs::write(dir.path("users"), "# who\nalice=a=secret\n\nbob=other\n").unwrap();
    let flags: Vec<String> = [
        "--brokers=2",
        "--listener=INSIDE=PLAINTEXT://127.0.0.1:0",
        "--listener=MUTUAL=SSL://127.0.0.1:0",
        "--listener=OUTSIDE=SASL_PLAINTEXT://127.0.0.1:0,kafka.test",
        "--client-auth=required",
        "--sasl=PLAIN,SCRAM-SHA-512",
        "--oauth-unsecured",
        "--super-user=User:alice",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("--tls-certificate={}", dir.path("server.pem")),
        format!("--tls-key={}", dir.path("server.key")),
        format!("--tls-client-ca={}", dir.path("ca.pem")),
        format!("--users={}", dir.path("users")),
    ])
    .collect();
    let file = r#"
        brokers = 2
        client_auth = "required"
        sasl = ["PLAIN", "SCRAM-SHA-512"]
        super_users = ["User:alice"]
        [tls]
        certificate = "server.pem"
        key = "server.key"
        client_ca = "ca.pem"
        [oauth]
        unsecured = true
        [users]
        alice = "a=secret"
        bob = "other"
        [config]
        "connections.max.reauth.ms" = 2000
        [[listener]]
        name = "INSIDE"
        protocol = "PLAINTEXT"
        port = 0
        [[listener]]
        name = "MUTUAL"
        protocol = "SSL"
        [[listener]]
        name = "OUTSIDE"
        protocol = "SASL_PLAINTEXT"
        advertise = "kafka.test"
        [[topic]]
        name = "orders"
        partitions = 6
        replication = 2
    "#;
    std::fs::write(dir.path("broker.toml"), file).unwrap();
    let by_file = vec![format!("--file={}", dir.path("broker.toml"))];
    for arguments in [flags, by_file] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (_broker, lines) = start_saying(&arguments, 3);
        let rest = |line: &str, start: &str| -> Vec<String> {
            let rest = line.strip_prefix(start).unwrap_or_else(|| panic!("{line}"));
            rest.split(',').map(str::to_owned).collect()
        };
        let inside = rest(&lines[0], "listening on ");
        let mutual = rest(&lines[1], "listening on MUTUAL ");
        let outside = rest(&lines[2], "listening on OUTSIDE ");
        assert_eq!((inside.len(), mutual.len(), outside.len()), (2, 2, 2));
        assert_eq!(answer_to_metadata(&inside[1])[4..], [0, 0, 0, 9], "served");
        assert_eq!(answer_to_metadata(&mutual[0]).first(), Some(&21), "an alert");
        let outside = outside[0].strip_prefix("kafka.test").unwrap();
        assert_eq!(answer_to_metadata(&format!("127.0.0.1{outside}")), b"", "closed");
    }
}

#[test]
fn secrets_are_in_no_log_however_much_is_logged() {
    let dir = Scratch::new();
    test_ca(&dir);
    let (right, wrong) = ("hush-the-password", "hush-another-one");
    std::fs::write(dir.path("users"), format!("alice={right}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-broker"));
    command.env("RUST_LOG", "trace").args(["--port=0", "--listener=A=SASL_PLAINTEXT://127.0.0.1:0"]);
    command.args(["--listener=B=SSL://127.0.0.1:0", "--sasl=PLAIN", "--users", &dir.path("users")]);
    command.args(["--tls-certificate", &dir.path("server.pem"), "--tls-key", &dir.path("server.key")]);
    let child =
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(dir.path("log")).unwrap()).spawn();
    let mut broker = Broker(child.unwrap());
    let mut line = String::new();
    BufReader::new(broker.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on ").unwrap();
    for (password, code) in [(right, 0), (wrong, 58)] {
        let mut stream = TcpStream::connect(address).unwrap();
        let token = format!("\0alice\0{password}");
        let frame = |parts: &[&[u8]]| {
            let body = parts.concat();
            [&(body.len() as u32).to_be_bytes(), &body[..]].concat()
        };
        let handshake = frame(&[&[0, 17, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 5], b"PLAIN"]);
        let length = (token.len() as u32).to_be_bytes();
        let token = frame(&[&[0, 36, 0, 1, 0, 0, 0, 2, 0xff, 0xff], &length, token.as_bytes()]);
        for (request, expected) in [(handshake, 0), (token, code)] {
            stream.write_all(&request).unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer[4..6], [0, expected]);
        }
        if code != 0 {
            // It has said why before it closes.
            assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
        }
    }
    broker.0.kill().unwrap();
    broker.0.wait().unwrap();
    let log = std::fs::read_to_string(dir.path("log")).unwrap();
    assert!(log.contains("authentication by PLAIN failed"), "it is logged:\n{log}");
    let key = std::fs::read_to_string(dir.path("server.key")).unwrap();
    for secret in [right, wrong, key.lines().nth(1).unwrap()] {
        assert!(!log.contains(secret), "{log}");
        // As bytes are shown.
        assert!(!log.contains(&format!("{:?}", secret.as_bytes())[1..20]), "{log}");
    }
}

#[test]
fn mistakes_in_security_are_named_without_the_secrets() {
    let dir = Scratch::new();
    test_ca(&dir);
    let key = dir.path("server.key");
    let cases = [
        (vec!["--listener", "A=SSL://127.0.0.1:0"], "listener = A: give the certificate"),
        (vec!["--listener", "A=TLS://127.0.0.1:0"], "give PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
        (vec!["--sasl", "GSSAPI"], "give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
        (vec!["--client-auth", "maybe"], "give none, requested or required"),
        (vec!["--user", "secret-without-name"], "write it as name=password"),
        (vec!["--tls-certificate", &key], "--tls-key"),
        (vec!["--tls-certificate", &key, "--tls-key", &key], "there is no certificate in the PEM"),
        (vec!["--users", "/no/such/file"], "cannot read /no/such/file"),
        (vec!["--file", "/no/such/file"], "cannot read /no/such/file"),
    ];
    for (arguments, expected) in cases {
        let said = refused(&[&["--port", "0"], &arguments[..]].concat());
        assert!(said.contains(expected), "{said}");
    }
    std::fs::write(dir.path("broker.toml"), "users = { alice = \"hush\" }\nlisteners = []\n").unwrap();
    let said = refused(&["--file", &dir.path("broker.toml")]);
    assert!(said.contains("line 2: unknown field `listeners`"), "{said}");
    std::fs::write(dir.path("broker.toml"), "port = 0\nusers = { alice = \"hush }\n").unwrap();
    let said = refused(&["--file", &dir.path("broker.toml")]);
    assert!(said.contains("line 2: ") && !said.contains("hush"), "{said}");
}
