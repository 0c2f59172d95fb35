//! read_committed over the Java client's transactions, on a real cluster: the bundled brokers have no transactions yet.

use std::process::Stdio;
use std::time::Duration;

use e2e::{Outcome, PATIENCE, Target, external, partitions, read, same, text};
use kafka_client::{IsolationLevel, Offset};
use kafka_consumer::Consumer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn read_committed_hides_what_was_aborted_and_what_is_open() -> Outcome {
    let libs = std::env::var("KAFKA_LIBS").ok();
    let (Some(_), Some(libs)) = (external(), libs) else {
        let why = "needs a real cluster (KAFKA_BOOTSTRAP) and the Java client's jars (KAFKA_LIBS)";
        e2e::say_skipped("read_committed_hides_what_was_aborted_and_what_is_open", why);
        return Ok(());
    };
    let target = Target::start().await?;
    let client = target.client().await?;
    let topic = target.topic(&client, 1).await?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/apache-kafka/Transactions.java");
    let mut java = Command::new("java")
        .args(["-cp", &format!("{libs}/*"), source, &target.bootstrap, &topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(java.stdout.take().ok_or("no output")?).lines();
    let rounds = tokio::time::timeout(PATIENCE, lines.next_line()).await??.ok_or("the Java client failed")?;
    let rounds: usize = rounds.strip_prefix("rounds ").ok_or("unexpected output")?.parse()?;

    let expected: Vec<String> = (0..rounds)
        .filter(|round| round % 3 != 2)
        .flat_map(|round| (0..10).map(move |n| format!("committed-{round}-{n}")))
        .collect();
    let mut consumer = Consumer::builder(&client)
        .assign(partitions(&topic, 1))
        .start_at(Offset::Earliest)
        .isolation(IsolationLevel::ReadCommitted)
        .build()
        .await?;
    let records = read(&mut consumer, expected.len()).await?;
    same("values", records.iter().map(text).collect::<Vec<_>>(), expected)?;
    let more = tokio::time::timeout(Duration::from_secs(2), read(&mut consumer, 1)).await;
    same("what is open is not handed out", more.is_err(), true)?;
    let end = consumer.end_offsets(partitions(&topic, 1)).await?;
    same(
        "the end is the open transaction's start",
        end.into_values().next(),
        consumer.position(&partitions(&topic, 1)[0])?,
    )?;

    let mut everything =
        Consumer::builder(&client).assign(partitions(&topic, 1)).start_at(Offset::Earliest).build().await?;
    let all = read(&mut everything, rounds * 10 + 1).await?;
    same(
        "aborted records, read uncommitted",
        all.iter().filter(|r| text(r).starts_with("aborted")).count(),
        rounds / 3 * 10,
    )?;
    same("the open one", text(&all[rounds * 10]), "open".to_owned())?;
    drop(java.stdin.take());
    tokio::time::timeout(PATIENCE, java.wait()).await??;
    Ok(())
}
