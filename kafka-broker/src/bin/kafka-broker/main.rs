//! The `kafka-broker` binary: starts a cluster, says where it listens, and stops on SIGINT or SIGTERM.

mod commands;
mod file;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kafka_broker::{
    ClientAuth, Cluster, ClusterBuilder, Compression, ListenerSpec, NullBatch, SaslMechanism, TestCa,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::file::{File, Oauth, Password, Tls};

/// A small Kafka-compatible broker for tests: everything is in memory and gone when it stops.
///
/// The first line on stdout says where it listens, and one line for each further listener follows with its name; logs go
/// to stderr (RUST_LOG sets their level). To a line `requests` on stdin it answers with a line of JSON on stdout: how many
/// requests of each API have come.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// File that says all this in TOML; what is given beside it replaces or adds to it
    #[arg(long, value_name = "BROKER.TOML")]
    file: Option<PathBuf>,
    /// Port of the first broker; others take the ports after it, and 0 picks free ones [default: 9092]
    #[arg(long)]
    port: Option<u16>,
    /// How many brokers to start [default: 1]
    #[arg(long)]
    brokers: Option<i32>,
    /// Topic to create, as name:partitions:replication (repeatable)
    #[arg(long = "topic", value_name = "NAME:PARTITIONS:REPLICATION", value_parser = parse_topic)]
    topics: Vec<Topic>,
    /// IP address to listen on [default: 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Host that clients are told to connect to, for containers and other machines [default: the --host]
    #[arg(long)]
    advertise: Option<String>,
    /// Broker setting by its Kafka name (repeatable)
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Listener, as NAME=PROTOCOL://HOST:PORT with a protocol of Kafka's, and behind a comma the host or host:port that
    /// clients are told (repeatable)
    #[arg(long = "listener", value_name = "NAME=PROTOCOL://HOST:PORT", value_parser = parse_listener)]
    listeners: Vec<ListenerSpec>,
    /// The brokers' certificate in PEM, with those that lead to its authority behind it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The authorities that clients' certificates must come from, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_client_ca: Option<PathBuf>,
    /// Whether clients of SSL listeners are asked for certificates: none, requested or required [default: none]
    #[arg(long, value_name = "WORD", value_parser = parse_client_auth)]
    client_auth: Option<ClientAuth>,
    /// The mechanisms by which clients authenticate, such as PLAIN,SCRAM-SHA-512
    #[arg(long, value_name = "MECHANISMS", value_delimiter = ',', value_parser = parse_mechanism)]
    sasl: Vec<SaslMechanism>,
    /// User who may authenticate by a password (repeatable); other users of the machine can see it, so see --users
    #[arg(long = "user", value_name = "NAME=PASSWORD", value_parser = parse_user)]
    users: Vec<User>,
    /// File with a line name=password for each user
    #[arg(long = "users", value_name = "FILE")]
    users_file: Option<PathBuf>,
    /// JSON web key set whose keys sign the tokens of OAUTHBEARER
    #[arg(long, value_name = "FILE")]
    oauth_jwks: Option<PathBuf>,
    /// Take tokens of OAUTHBEARER that nobody signed
    #[arg(long, conflicts_with = "oauth_jwks")]
    oauth_unsecured: bool,
    /// Principal who may do everything, such as User:admin; turns authorization on (repeatable)
    #[arg(long = "super-user", value_name = "PRINCIPAL")]
    super_users: Vec<String>,
    /// Store nothing, to measure clients: what is produced is counted and forgotten, unchecked, and every partition gives
    /// consumers one batch again and again, for ever, at the offsets that come next
    #[arg(long)]
    null: bool,
    /// With --null: records of that batch
    #[arg(long, value_name = "COUNT", default_value_t = NullBatch::default().records, requires = "null")]
    null_records: u32,
    /// With --null: bytes of each value, which is text like JSON
    #[arg(long, value_name = "BYTES", default_value_t = NullBatch::default().value_bytes, requires = "null")]
    null_size: usize,
    /// With --null: bytes of each key, 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = NullBatch::default().key_bytes, requires = "null")]
    null_key: usize,
    /// With --null: codec of that batch: none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value_t = NullBatch::default().compression, requires = "null")]
    null_codec: Compression,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write certificates for tests, in PEM: ca.pem, server.pem and server.key for this machine, and NAME.pem and NAME.key
    /// for each client
    TestCa {
        /// Directory to write to, made if need be
        dir: PathBuf,
        /// Client to write a certificate for (repeatable)
        #[arg(long = "client", value_name = "NAME")]
        clients: Vec<String>,
    },
}

#[derive(Debug, Clone)]
struct Topic {
    name: String,
    partitions: i32,
    replication: i16,
}

#[derive(Clone)]
struct User {
    name: String,
    password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("password", &"***").finish()
    }
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let numbers =
        |partitions: &str, replication: &str| Some((partitions.parse().ok()?, replication.parse().ok()?));
    let (name, numbers) = match parts[..] {
        [name] => (name, Some((1, 1))),
        [name, partitions] => (name, numbers(partitions, "1")),
        [name, partitions, replication] => (name, numbers(partitions, replication)),
        _ => ("", None),
    };
    let (partitions, replication) =
        numbers.ok_or("write it as name:partitions:replication, like orders:6:3")?;
    Ok(Topic { name: name.into(), partitions, replication })
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as key=value, like num.partitions=3")?;
    Ok((name.trim().into(), value.trim().into()))
}

fn parse_user(text: &str) -> Result<User, String> {
    let (name, password) = text.split_once('=').ok_or("write it as name=password")?;
    Ok(User { name: name.into(), password: password.into() })
}

fn parse_listener(text: &str) -> Result<ListenerSpec, String> {
    text.parse()
}

fn parse_client_auth(text: &str) -> Result<ClientAuth, String> {
    text.parse()
}

fn parse_mechanism(text: &str) -> Result<SaslMechanism, String> {
    text.parse()
}

impl Arguments {
    /// The cluster that the file and the rest of the command line ask for.
    fn builder(self) -> Result<ClusterBuilder, String> {
        let mut file = self.file.as_deref().map(File::read).transpose()?.unwrap_or_default();
        file.brokers = self.brokers.or(file.brokers);
        file.host = self.host.or(file.host);
        file.port = self.port.or(file.port);
        file.advertise = self.advertise.or(file.advertise);
        file.super_users.extend(self.super_users);
        if let (Some(certificate), Some(key)) = (self.tls_certificate, self.tls_key) {
            file.tls = Some(Tls { certificate, key, client_ca: self.tls_client_ca });
        }
        if self.oauth_jwks.is_some() || self.oauth_unsecured {
            file.oauth =
                Some(Oauth { jwks: self.oauth_jwks, unsecured: self.oauth_unsecured, ..Oauth::default() });
        }
        if let Some(path) = &self.users_file {
            for line in file::read(path)?.lines().map(str::trim) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let user = parse_user(line).map_err(|remedy| format!("{}: {remedy}", path.display()))?;
                file.users.insert(user.name, Password(user.password));
            }
        }
        for user in self.users {
            file.users.insert(user.name, Password(user.password));
        }
        let mut builder = file.build(Cluster::builder())?;
        for (name, value) in self.configs {
            builder = builder.config(name, value);
        }
        if let Some(client_auth) = self.client_auth {
            builder = builder.client_auth(client_auth);
        }
        if !self.sasl.is_empty() {
            builder = builder.sasl(self.sasl);
        }
        for listener in self.listeners {
            builder = builder.listener(listener);
        }
        for topic in self.topics {
            builder = builder.topic(topic.name, topic.partitions, topic.replication);
        }
        if self.null {
            builder = builder.null(NullBatch {
                records: self.null_records,
                value_bytes: self.null_size,
                key_bytes: self.null_key,
                compression: self.null_codec,
            });
        }
        Ok(builder)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(Command::TestCa { dir, clients }) = arguments.command.take() {
        return match write_certificates(&dir, &clients) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Where nothing is stored, handing requests to other threads costs more than serving them.
    let mut runtime = if arguments.null {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn write_certificates(dir: &std::path::Path, clients: &[String]) -> std::io::Result<()> {
    let ca = TestCa::new();
    ca.write_pem(dir)?;
    clients.iter().try_for_each(|name| ca.write_client_pem(dir, name))
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before anything is said, so that a signal right after the first line stops it cleanly.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cluster = arguments.builder()?.start().await?;
    let mut said = format!("listening on {}\n", cluster.bootstrap());
    for name in cluster.listeners().skip(1) {
        said += &format!("listening on {name} {}\n", cluster.bootstrap_of(name).unwrap_or_default());
    }
    // At once, so that whoever has read the first line has the others too.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(said.as_bytes())?;
    stdout.flush()?;
    drop(stdout);
    let mut commands = commands::read();
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            Some(command) = commands.recv() => match command {
                commands::Command::Requests => commands::tell_requests(&cluster)?,
            },
        }
    }
    cluster.stop().await;
    Ok(())
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kafka-broker: {error}");
    ExitCode::FAILURE
}
