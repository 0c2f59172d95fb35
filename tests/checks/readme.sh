#!/usr/bin/env bash
# Does what a new user does: a fresh crate with README's dependencies, in which README's Rust is compiled and run as it stands.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD crate=$PWD/target/readme
rm -rf "$crate"; mkdir -p "$crate/src" "$crate/tests"

# block LANGUAGE N: README's Nth block in LANGUAGE.
block() { awk -v language="\`\`\`$1" -v n="$2" '$0 == "```" { inside = 0 } inside; $0 == language { inside = ++seen == n }' README.md; }

{
  printf '[package]\nname = "readme"\nversion = "0.1.0"\nedition = "2024"\n\n[workspace]\n\n'
  # From this checkout instead of the repository's address.
  # The same profile, so that what is built already need not be built again.
  awk '/^\[/ { inside = /^\[profile\.dev/ } inside' Cargo.toml
  block toml 1 | sed -E "s|^(kafka-[a-z]+) = \{ git = \"[^\"]*\"|\1 = { path = \"$root/\1\"|"
} > "$crate/Cargo.toml"
touch "$crate/src/lib.rs"
cp Cargo.lock "$crate/Cargo.lock"

{
  echo "#![allow(unused_variables)]"
  block rust 1
  cat <<'RUST'
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

static HANDLED: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);

async fn handle(record: &kafka_consumer::ConsumerRecord) -> std::result::Result<(), Error> {
    println!("{record:?}");
    HANDLED.add_permits(1);
    Ok(())
}

async fn handled(records: u32) {
    HANDLED.acquire_many(records).await.unwrap().forget();
}

async fn place_order(client: &Client) -> Result {
    Producer::new(client).await?.send(ProducerRecord::to("orders").key("42").value("created")).await?;
    Ok(())
}

async fn produce(bootstrap: &str) -> Result {
RUST
  block rust 2 | sed 's/"localhost:9092"/bootstrap/'
  printf '    Ok(())\n}\n\nasync fn consume(client: Client) -> Result {\n'
  block rust 3
  printf '    Ok(())\n}\n\nasync fn by_partition(client: Client) -> Result {\n'
  echo '    let consumer = Consumer::builder(&client).group("g").topics(["orders"]).start_at(Offset::Earliest).build().await?;'
  block rust 4
  printf '    Ok(())\n}\n\n#[tokio::test]\nasync fn readme() -> Result {\n'
  block rust 5
  cat <<'RUST'
    let client = Client::connect(cluster.bootstrap()).await?;
    produce(&cluster.bootstrap()).await?;
    tokio::select! { ended = consume(client.clone()) => ended?, () = handled(3) => {} }
    tokio::select! { ended = by_partition(client) => ended?, () = handled(3) => {} }
    Ok(())
}

#[tokio::test]
async fn secured() -> Result {
RUST
  block rust 6
  printf '    Ok(())\n}\n'
} > "$crate/tests/readme.rs"

timeout 600 cargo test -q --manifest-path "$crate/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-target}"
