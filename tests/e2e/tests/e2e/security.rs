//! Who may come in, and what they may do there: every security protocol with every mechanism, ACLs, quotas, sessions that end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use e2e::secured::{Listener, SESSION, Secured};
use e2e::{Outcome, eventually, read, text, unique, within};
use futures::TryStreamExt as _;
use kafka_admin::{
    AccessControlEntry, AclBinding, AclBindingFilter, AclOperation, Admin, ClientQuotaAlteration,
    ClientQuotaEntity, NewTopic, ResourcePattern, ScramMechanism, UserScramCredentialAlteration,
};
use kafka_broker::{Api, ErrorCode, SaslMechanism};
use kafka_client::auth::Sasl;
use kafka_client::{Client, ErrorKind, Offset};
use kafka_consumer::Consumer;
use kafka_producer::{Fate, Producer, ProducerRecord};
use tokio::time::{Instant, timeout};

/// Creates a topic, writes to it, and reads it as a group.
async fn use_the_cluster(client: &Client) -> Outcome {
    let topic = unique("secured");
    for (_, outcome) in Admin::new(client).create_topics([NewTopic::new(&topic).partitions(2)]).await? {
        outcome?;
    }
    let producer = Producer::new(client).await?;
    for number in 0..10 {
        producer
            .send(ProducerRecord::to(topic.as_str()).key(number.to_string()).value(number.to_string()))
            .await?;
    }
    let mut consumer = Consumer::builder(client)
        .group(unique("group"))
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    let found: BTreeSet<String> = read(&mut consumer, 10).await?.iter().map(text).collect();
    assert_eq!(found, (0..10).map(|number| number.to_string()).collect());
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// The right credentials come in and can do everything; the wrong ones fail at once, with the reason.
async fn come_in(test: &str, listener: Listener, mechanism: Option<SaslMechanism>) -> Outcome {
    let Some(cluster) = Secured::start(test).await? else { return Ok(()) };
    let Some(mechanism) = mechanism else {
        return use_the_cluster(&cluster.builder(listener).connect().await?).await;
    };
    let sasl = |right| cluster.sasl(mechanism, "alice", right);
    use_the_cluster(&cluster.builder(listener).sasl(sasl(true)?).connect().await?).await?;
    let refused = within("a refusal", cluster.builder(listener).sasl(sasl(false)?).connect()).await?;
    let error = refused.err().ok_or("wrong credentials were accepted")?;
    assert!(error.is_fatal() && !error.is_retriable(), "{error:?}");
    match error.kind() {
        ErrorKind::Authentication { mechanism: used, .. } => assert_eq!(used, mechanism.name()),
        other => return Err(format!("not an authentication failure: {other:?}").into()),
    }
    Ok(())
}

macro_rules! matrix {
    ($($name:ident: $listener:ident $($mechanism:ident)?;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Outcome {
            let mechanisms: [Option<SaslMechanism>; 1] = [None$(.or(Some(SaslMechanism::$mechanism)))?];
            come_in(stringify!($name), Listener::$listener, mechanisms[0]).await
        })*
    };
}

matrix! {
    plaintext: Plaintext;
    tls: Ssl;
    mutual_tls: Mtls;
    sasl_plaintext_plain: SaslPlaintext Plain;
    sasl_plaintext_scram_sha_256: SaslPlaintext ScramSha256;
    sasl_plaintext_scram_sha_512: SaslPlaintext ScramSha512;
    sasl_plaintext_oauthbearer: SaslPlaintext OauthBearer;
    sasl_ssl_plain: SaslSsl Plain;
    sasl_ssl_scram_sha_256: SaslSsl ScramSha256;
    sasl_ssl_scram_sha_512: SaslSsl ScramSha512;
    sasl_ssl_oauthbearer: SaslSsl OauthBearer;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so_and_others_may() -> Outcome {
    let Some(cluster) = Secured::start("who_may_not_is_told_so_and_others_may").await? else { return Ok(()) };
    let (admin, alice, bob) = (
        cluster.client_of("admin").await?,
        cluster.client_of("alice").await?,
        cluster.client_of("bob").await?,
    );
    let admin = Admin::new(&admin);
    let (topic, open, group) = (unique("restricted"), unique("open"), unique("restricted"));
    for (_, outcome) in admin.create_topics([NewTopic::new(&topic), NewTopic::new(&open)]).await? {
        outcome?;
    }
    let may = |operation| AccessControlEntry::allow("User:alice", operation);
    let bindings = [
        AclBinding::new(ResourcePattern::topic(&topic), may(AclOperation::Read)),
        AclBinding::new(ResourcePattern::topic(&topic), may(AclOperation::Write)),
        AclBinding::new(ResourcePattern::group(&group), may(AclOperation::Read)),
    ];
    for (_, outcome) in admin.create_acls(bindings.clone()).await? {
        outcome?;
    }
    // A change reaches the brokers of a real cluster a moment later.
    eventually("both are described", || async {
        let listed = admin.describe_acls(AclBindingFilter::any().name(topic.as_str())).await;
        listed.is_ok_and(|listed| listed.len() == 2).then_some(())
    })
    .await?;

    let read_as = async |client: &Client, topic: &str, group: &str| -> Outcome<String> {
        let mut consumer =
            Consumer::builder(client).group(group).topics([topic]).start_at(Offset::Earliest).build().await?;
        Ok(text(&read(&mut consumer, 1).await?[0]))
    };
    let producer = Producer::new(&bob).await?;
    let refused = eventually("bob's record is refused", || async {
        producer.send(ProducerRecord::to(topic.as_str()).value("bob's")).await.err()
    })
    .await?;
    assert_eq!(refused.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{refused:?}");
    assert_eq!(refused.fate(), Fate::NotWritten);
    let producer = Producer::new(&alice).await?;
    producer.send(ProducerRecord::to(topic.as_str()).value("alice's")).await?;
    within("alice reads", read_as(&alice, &topic, &group)).await??;
    let refused_to_bob = async |topic: &str, group: &str| -> Outcome<Option<ErrorCode>> {
        let refused =
            within("bob is refused", read_as(&bob, topic, group)).await?.err().ok_or("bob may read")?;
        Ok(refused.downcast::<kafka_consumer::Error>()?.error_code())
    };
    assert_eq!(refused_to_bob(&open, &group).await?, Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    assert_eq!(refused_to_bob(&topic, &unique("own")).await?, Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));

    for (_, outcome) in admin.delete_acls([AclBindingFilter::any().name(topic.as_str())]).await? {
        outcome?;
    }
    let producer = Producer::new(&bob).await?;
    eventually("bob may write", || async {
        producer.send(ProducerRecord::to(topic.as_str()).value("bob's")).await.ok()
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_new_password_comes_in_until_it_is_deleted() -> Outcome {
    let test = "a_user_with_a_new_password_comes_in_until_it_is_deleted";
    let Some(cluster) = Secured::start(test).await? else { return Ok(()) };
    let client = cluster.client_of("admin").await?;
    let admin = Admin::new(&client);
    // Both of these characters mean something in SCRAM's messages.
    let user = format!("{},=", unique("user"));
    let password = "p\u{e4}ss,=word";
    let upsert =
        UserScramCredentialAlteration::upsert(&user, ScramMechanism::Sha256, password).iterations(8192);
    for (_, outcome) in admin.alter_user_scram_credentials([upsert]).await? {
        outcome?;
    }
    let connect = async |password: &str| {
        let sasl = Sasl::scram_sha_256(&user, password);
        cluster.builder(Listener::SaslPlaintext).sasl(sasl).connect().await
    };
    eventually("the user comes in", || async { connect(password).await.ok() }).await?;
    let described = admin.describe_user_scram_credentials([user.as_str()]).await?;
    let [(_, Ok(credentials))] = &described[..] else { return Err(format!("{described:?}").into()) };
    assert_eq!((credentials[0].mechanism, credentials[0].iterations), (ScramMechanism::Sha256, 8192));
    assert!(connect("p\u{e4}ss").await.unwrap_err().is_fatal());
    let delete = UserScramCredentialAlteration::delete(&user, ScramMechanism::Sha256);
    for (_, outcome) in admin.alter_user_scram_credentials([delete]).await? {
        outcome?;
    }
    eventually("the user stays out", || async { connect(password).await.err() }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_over_its_quota_waits_and_loses_nothing() -> Outcome {
    let test = "a_producer_over_its_quota_waits_and_loses_nothing";
    let Some(cluster) = Secured::start(test).await? else { return Ok(()) };
    let admin = cluster.client_of("admin").await?;
    let client_id = unique("slow");
    let client = cluster.builder(Listener::Plaintext).client_id(client_id.as_str()).connect().await?;
    let topic = unique("quota");
    for (_, outcome) in Admin::new(&client).create_topics([NewTopic::new(&topic)]).await? {
        outcome?;
    }
    let entity = ClientQuotaEntity::client_id(&client_id);
    let quota = ClientQuotaAlteration::of(entity).set("producer_byte_rate", 200_000.0);
    for (_, outcome) in Admin::new(&admin).alter_client_quotas([quota]).await? {
        outcome?;
    }
    let producer = Producer::builder(&client).batch_size(64 * 1024).build().await?;
    // A change reaches the brokers of a real cluster a moment later; then it is a matter of bytes.
    let value = "x".repeat(10_000);
    eventually("a broker mutes the producer", || async {
        for _ in 0..20 {
            producer
                .send(ProducerRecord::to(topic.as_str()).partition(0).value(value.as_str()))
                .await
                .unwrap();
        }
        (client.metrics().throttles > 0).then_some(())
    })
    .await?;
    let sent = client.metrics().request(Api::Produce).map_or(0, |produce| produce.answered);
    producer.close(e2e::PATIENCE).await?;
    let metrics = client.metrics();
    assert!(metrics.throttled > Duration::ZERO && metrics.disconnects <= 1, "{metrics:?}");
    let ends = e2e::read_all(&client, &topic, 1).await?;
    assert_eq!(ends[&0].len() as u64, sent, "each record once, one for each request");
    Ok(())
}

/// How long the sessions' test runs: `SOAK_SECONDS`, or a little more than three sessions.
fn soak() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(SESSION * 3 + SESSION / 2, Duration::from_secs)
}

/// Of the sessions' test.
const CLIENTS: usize = 5;
const PARTITIONS: usize = 10;

/// Writes numbered records at a steady rate until it is told to stop; says how many.
async fn keep_writing(client: Client, topic: String, writer: usize, stop: Arc<AtomicBool>) -> Outcome<u64> {
    let producer = Producer::builder(&client).linger(Duration::from_millis(5)).build().await?;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut written = 0;
    let mut deliveries = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        for _ in 0..10 {
            let partition = i32::try_from(written % PARTITIONS as u64)?;
            let record = ProducerRecord::to(topic.as_str()).partition(partition);
            deliveries.push(producer.enqueue(record.value(format!("{writer} {written}"))).await?);
            written += 1;
        }
        if deliveries.len() >= 1000 {
            for delivery in deliveries.drain(..) {
                delivery.await?;
            }
        }
    }
    producer.close(e2e::PATIENCE).await?;
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(written)
}

/// Reads as a member of the group until every record that was written has been read by somebody.
async fn keep_reading(
    client: Client,
    (topic, group): (String, String),
    ready: Arc<AtomicUsize>,
    (read, written): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> Outcome<Vec<(i32, String)>> {
    let mut consumer = Consumer::builder(&client)
        .group(group)
        .topics([topic.as_str()])
        .start_at(Offset::Earliest)
        .build()
        .await?;
    let (mut records, mut counted) = (Vec::new(), false);
    while read.load(Ordering::Relaxed) < written.load(Ordering::Relaxed) {
        if let Ok(record) = timeout(Duration::from_millis(50), consumer.try_next()).await
            && let Some(record) = record?
        {
            records.push((record.partition, text(&record)));
            read.fetch_add(1, Ordering::Relaxed);
        }
        if !counted && consumer.assignment().len() == PARTITIONS / CLIENTS {
            counted = true;
            ready.fetch_add(1, Ordering::Relaxed);
        }
    }
    consumer.close(e2e::PATIENCE).await?;
    Ok(records)
}

/// Longer with `SOAK_SECONDS`.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_lose_neither_records_nor_connections() -> Outcome {
    let test = "sessions_that_end_lose_neither_records_nor_connections";
    let Some(cluster) = Secured::start(test).await? else { return Ok(()) };
    let mut clients = Vec::new();
    for mechanism in
        [SaslMechanism::ScramSha512, SaslMechanism::OauthBearer].into_iter().cycle().take(CLIENTS)
    {
        let sasl = cluster.sasl(mechanism, "alice", true)?;
        clients.push(cluster.builder(Listener::Sessions).sasl(sasl).connect().await?);
    }
    let (topic, group) = (unique("sessions"), unique("sessions"));
    let new = NewTopic::new(&topic).partitions(PARTITIONS as i32);
    for (_, outcome) in Admin::new(&clients[0]).create_topics([new]).await? {
        outcome?;
    }
    let (ready, read) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Not known before the writers have stopped.
    let total = Arc::new(AtomicUsize::new(usize::MAX));
    let readers: Vec<_> = clients
        .iter()
        .map(|client| {
            let names = (topic.clone(), group.clone());
            tokio::spawn(keep_reading(client.clone(), names, ready.clone(), (read.clone(), total.clone())))
        })
        .collect();
    // A record that is read before the group has settled may be read again by another member.
    eventually("all members have their partitions", || async {
        (ready.load(Ordering::Relaxed) == CLIENTS).then_some(())
    })
    .await?;
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(writer, client)| {
            tokio::spawn(keep_writing(client.clone(), topic.clone(), writer, stop.clone()))
        })
        .collect();
    // By then every connection that is needed is open.
    tokio::time::sleep(SESSION).await;
    let opened: Vec<_> = clients.iter().map(|client| client.metrics().connects).collect();
    tokio::time::sleep(soak().saturating_sub(SESSION)).await;
    let metrics: Vec<_> = clients.iter().map(Client::metrics).collect();
    stop.store(true, Ordering::Relaxed);
    let mut expected = BTreeSet::new();
    for (writer, task) in writers.into_iter().enumerate() {
        let written = within("the writers' end", task).await???;
        expected.extend((0..written).map(|number| format!("{writer} {number}")));
    }
    total.store(expected.len(), Ordering::Relaxed);
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for reader in readers {
        for (partition, value) in within("the readers' end", reader).await??? {
            found.entry(partition).or_default().push(value);
        }
    }
    let all: Vec<&String> = found.values().flatten().collect();
    assert_eq!(all.len(), expected.len(), "each record once");
    assert_eq!(all.into_iter().cloned().collect::<BTreeSet<_>>(), expected);
    for (partition, values) in &found {
        for writer in 0..CLIENTS {
            let prefix = format!("{writer} ");
            let numbers: Vec<u64> =
                values.iter().filter_map(|value| value.strip_prefix(&prefix)?.parse().ok()).collect();
            assert!(numbers.is_sorted(), "the order of writer {writer} in partition {partition}");
        }
    }
    let (mut connections, mut again) = (0, 0);
    for (metrics, opened) in metrics.iter().zip(opened) {
        // One that was lost would have been replaced; those that nobody has used for minutes may be closed.
        assert_eq!((metrics.failed_connects, metrics.connects), (0, opened), "{metrics:?}");
        connections += metrics.connects;
        again += metrics.reauthentications;
    }
    let sessions = start.elapsed().as_secs() / SESSION.as_secs();
    println!(
        "{} records in {:?} over {connections} connections, which authenticated {again} times again",
        expected.len(),
        start.elapsed()
    );
    assert!(connections >= 20, "{connections} connections");
    // At least those that produce and fetch did so in every session; what is idle waits until it is used.
    let busy = 2 * CLIENTS as u64;
    assert!(again >= busy * (sessions - 1), "{again} times in {sessions} sessions");
    Ok(())
}
