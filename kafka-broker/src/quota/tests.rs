use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{FetchPartition, NO_HIGH_WATERMARK};
use kafka_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_wire::messages::describe_client_quotas_request::ComponentData;
use kafka_wire::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, DescribeClientQuotasRequest, MetadataRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest, StrBytes,
};
use kafka_wire::{Api, produce};
use tokio::time::Instant;

use super::enforce::Recent;
use super::limits::{Kind, Quotas};
use super::rate::{Rate, Windows};
use super::{Entity, Part};
use crate::cluster::Cluster;
use crate::testing::Bench;
use crate::wire_test::{Wire, batch_of, fetch_request, memory_cluster, named};
use crate::{ListenerSpec, SaslMechanism};

const WINDOWS: Windows = Windows { size: Duration::from_secs(1), count: 11 };

/// The numbers of Kafka's ClientQuotaManagerTest.
#[tokio::test(start_paused = true)]
async fn a_burst_has_to_be_waited_out_as_in_kafka() {
    let mut rate = Rate::default();
    let start = Instant::now();
    let mut charge = |used, milliseconds| {
        let now = start + Duration::from_millis(milliseconds);
        rate.record(used, now, WINDOWS);
        rate.excess(500.0, now, WINDOWS)
    };
    for second in 0..10 {
        assert_eq!(charge(400.0, second * 1000), Duration::ZERO);
    }
    // 6300 bytes in 10.5 seconds are 600 a second: 100 too many, for which 2.1 seconds have to pass.
    assert_eq!(charge(2300.0, 10_500).as_millis(), 2100);
    for second in 0..10 {
        charge(400.0, 12_600 + second * 1000);
    }
    assert_eq!(charge(0.0, 22_600), Duration::ZERO, "the burst is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_forgotten_once_its_windows_are_over() {
    let mut rate = Rate::default();
    let start = Instant::now();
    rate.record(1e6, start, WINDOWS);
    assert!(rate.excess(1.0, start, WINDOWS) > Duration::from_secs(900_000));
    assert!(!rate.is_over(start + Duration::from_millis(10_999), WINDOWS));
    assert!(rate.is_over(start + Duration::from_secs(11), WINDOWS));
    assert_eq!(rate.excess(1.0, start + Duration::from_secs(11), WINDOWS), Duration::ZERO);
}

#[test]
fn the_most_specific_of_eight_levels_is_in_force() {
    let alice: Arc<str> = "alice".into();
    let app: Arc<str> = "app".into();
    let (user, id) = (Part::Named(Arc::clone(&alice)), Part::Named(Arc::clone(&app)));
    let levels = [
        (Part::Absent, Part::Default, ("", "app")),
        (Part::Absent, id.clone(), ("", "app")),
        (Part::Default, Part::Absent, ("alice", "")),
        (Part::Default, Part::Default, ("alice", "app")),
        (Part::Default, id.clone(), ("alice", "app")),
        (user.clone(), Part::Absent, ("alice", "")),
        (user.clone(), Part::Default, ("alice", "app")),
        (user, id, ("alice", "app")),
    ];
    let mut quotas = Quotas::default();
    let others = Entity { user: Part::Named("bob".into()), client_id: Part::Absent, ip: Part::Absent };
    quotas.alter(&(others, vec![("producer_byte_rate".into(), Some(1.0))])).unwrap();
    for (rate, (user, client_id, (shared_user, shared_id))) in (2..).map(f64::from).zip(levels) {
        let entity = Entity { user, client_id, ip: Part::Absent };
        quotas.alter(&(entity, vec![("producer_byte_rate".into(), Some(rate))])).unwrap();
        let sharers = (Arc::from(shared_user), Arc::from(shared_id));
        assert_eq!(quotas.limit(Kind::Produce, &alice, &app), Some((sharers, rate)));
        assert_eq!(quotas.limit(Kind::Fetch, &alice, &app), None, "of another kind");
    }
    // Without an id only the user's quotas count.
    let sharers = (Arc::clone(&alice), Arc::from(""));
    assert_eq!(quotas.limit(Kind::Produce, &alice, &Arc::from("")), Some((sharers, 7.0)));
}

fn entity(parts: &[(&str, Option<&str>)]) -> Vec<EntityData> {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    parts.iter().map(part).collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn entry(parts: &[(&str, Option<&str>)], changes: &[(&str, Option<f64>)]) -> EntryData {
    let change = |(key, value): &(&str, Option<f64>)| {
        let change = OpData::default().with_key(text(key)).with_value(value.unwrap_or_default());
        change.with_remove(value.is_none())
    };
    EntryData::default().with_entity(entity(parts)).with_ops(changes.iter().map(change).collect())
}

async fn alter(bench: &Bench, entries: Vec<EntryData>, validate_only: bool) -> Vec<(ErrorCode, String)> {
    let request = AlterClientQuotasRequest::default().with_entries(entries).with_validate_only(validate_only);
    let response = bench.call(1, 1, request).await;
    let told = response.entries.into_iter();
    told.map(|one| (ErrorCode(one.error_code), one.error_message.unwrap_or_default().to_string())).collect()
}

/// A filter's type of entity, match type and name.
type Component = (&'static str, i8, Option<&'static str>);

async fn describe(bench: &Bench, components: &[Component], strict: bool) -> Result<Vec<String>, ErrorCode> {
    let component = |(kind, match_type, name): &Component| {
        let component = ComponentData::default().with_entity_type(text(kind)).with_match_type(*match_type);
        component.with_match(name.map(text))
    };
    let request = DescribeClientQuotasRequest::default().with_strict(strict);
    let request = request.with_components(components.iter().map(component).collect());
    let response = bench.call(1, 1, request).await;
    ErrorCode(response.error_code).check()?;
    let entries = response.entries.into_iter().flatten().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            let name = part.entity_name.as_ref().map_or("<default>", |name| name.as_str());
            format!("{}={name}", part.entity_type.as_str())
        });
        parts.collect::<Vec<_>>().join(" ")
    });
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    Ok(entries)
}

#[tokio::test]
async fn quotas_are_set_described_by_filters_and_removed() {
    let bench = Bench::new(1);
    let rate = [("producer_byte_rate", Some(1000.0))];
    let entries = vec![
        entry(&[("user", Some("alice"))], &rate),
        entry(&[("user", None)], &rate),
        entry(&[("user", Some("alice")), ("client-id", Some("app"))], &rate),
        entry(&[("client-id", Some("app"))], &rate),
        entry(&[("ip", Some("10.0.0.1"))], &[("connection_creation_rate", Some(5.0))]),
    ];
    assert!(alter(&bench, entries.clone(), true).await.iter().all(|(code, _)| code.is_ok()));
    assert_eq!(describe(&bench, &[], false).await, Ok(vec![]), "only validated");
    assert!(alter(&bench, entries, false).await.iter().all(|(code, _)| code.is_ok()));
    let (alice, default, both) = ("user=alice", "user=<default>", "user=alice client-id=app");
    let (app, ip) = ("client-id=app", "ip=10.0.0.1");
    let cases: &[(&[Component], bool, &[&str])] = &[
        (&[], false, &[app, ip, default, alice, both]),
        (&[], true, &[]),
        (&[("user", 0, Some("alice"))], false, &[alice, both]),
        (&[("user", 0, Some("alice"))], true, &[alice]),
        (&[("user", 1, None)], false, &[default]),
        (&[("user", 2, None)], true, &[default, alice]),
        (&[("user", 2, None), ("client-id", 2, None)], true, &[both]),
        (&[("ip", 2, None)], false, &[ip]),
    ];
    for (components, strict, expected) in cases {
        let mut expected: Vec<String> = expected.iter().map(|one| (*one).to_owned()).collect();
        expected.sort();
        assert_eq!(describe(&bench, components, *strict).await, Ok(expected), "{components:?} {strict}");
    }
    let gone = vec![entry(&[("user", None)], &[("producer_byte_rate", None), ("consumer_byte_rate", None)])];
    assert!(alter(&bench, gone, false).await[0].0.is_ok());
    assert_eq!(describe(&bench, &[("user", 1, None)], false).await, Ok(vec![]));
}

#[tokio::test]
async fn bad_filters_and_bad_quotas_are_refused_as_by_kafka() {
    let bench = Bench::new(1);
    let invalid = ErrorCode::INVALID_REQUEST;
    let cases: &[(&[Component], ErrorCode)] = &[
        (&[("", 0, Some("a"))], invalid),
        (&[("group", 0, Some("a"))], ErrorCode::UNSUPPORTED_VERSION),
        (&[("user", 0, None)], invalid),
        (&[("user", 1, Some("a"))], invalid),
        (&[("user", 2, Some("a"))], invalid),
        (&[("user", 3, None)], invalid),
        (&[("user", 2, None), ("user", 1, None)], invalid),
        (&[("user", 2, None), ("ip", 1, None)], invalid),
    ];
    for (components, expected) in cases {
        assert_eq!(describe(&bench, components, false).await, Err(*expected), "{components:?}");
    }
    let alice = [("user", Some("alice"))];
    let bad = [
        (entry(&[], &[]), "empty client quota entity"),
        (entry(&[("group", Some("a"))], &[]), "Unhandled client quota entity type"),
        (entry(&[("user", Some(""))], &[]), "Empty user not supported"),
        (entry(&[("user", None), ("user", Some("a"))], &[]), "duplicate entity entry"),
        (entry(&[("user", None), ("ip", None)], &[]), "combination"),
        (entry(&[("ip", Some("not an address"))], &[]), "not a valid IP"),
        (entry(&alice, &[("burn_rate", Some(1.0))]), "Invalid configuration key"),
        (entry(&alice, &[("producer_byte_rate", Some(0.0))]), "must be greater than 0"),
        (entry(&alice, &[("producer_byte_rate", Some(f64::NAN))]), "must be greater than 0"),
        (entry(&alice, &[("producer_byte_rate", Some(1.5))]), "fractional"),
        (entry(&alice, &[("producer_byte_rate", Some(1e30))]), "too large"),
        (
            entry(&alice, &[("producer_byte_rate", Some(1.0)), ("producer_byte_rate", None)]),
            "Duplicate quota key",
        ),
    ];
    for (entry, words) in bad {
        let (code, message) = alter(&bench, vec![entry], false).await.remove(0);
        assert!(code == invalid && message.contains(words), "{code}: {message:?} should say {words:?}");
    }
    let rate = [("producer_byte_rate", Some(1.0))];
    let told = alter(&bench, vec![entry(&alice, &rate), entry(&alice, &rate)], false).await;
    assert!(told.iter().all(|(code, _)| *code == invalid), "{told:?}");
    assert_eq!(describe(&bench, &[], false).await, Ok(vec![]), "nothing was set");
}

async fn limit(wire: &mut Wire, key: &str, value: f64) {
    let entry = entry(&[("client-id", Some("wire"))], &[(key, Some(value))]);
    let answer = wire.call(1, AlterClientQuotasRequest::default().with_entries(vec![entry])).await;
    assert_eq!(answer.entries[0].error_code, 0);
}

/// 1,000 bytes of records, more or less.
fn batch() -> Bytes {
    batch_of(&["v".repeat(1000).as_str()], None)
}

#[tokio::test(start_paused = true)]
async fn who_produces_too_much_is_answered_at_once_and_then_not_heard() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    limit(&mut wire, "producer_byte_rate", 10.0).await;
    let start = Instant::now();
    wire.send_produce(9, -1, named("t"), &[(0, batch())]).await;
    let frame = wire.receive_frame().await.unwrap();
    let (_, body) = kafka_wire::header::decode_response_header(Api::Produce, 9, &frame).unwrap();
    let view = produce::ResponseView::decode(9, &body).unwrap();
    assert_eq!(view.partitions().next().unwrap().outcome.error_code, 0, "it is written");
    let throttle = Duration::from_millis(u64::try_from(view.throttle_time_ms).unwrap());
    // Some 1,130 bytes where 10 seconds may have 100.
    assert!((Duration::from_secs(95)..Duration::from_secs(120)).contains(&throttle), "{throttle:?}");
    assert_eq!(start.elapsed(), Duration::ZERO, "answered at once");
    wire.call(9, MetadataRequest::default()).await;
    let waited = start.elapsed();
    assert!((throttle..throttle + Duration::from_secs(1)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_expects_no_answer_is_not_heard_either_and_others_are() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let (mut wire, mut other) = (Wire::to(&cluster, 1), Wire::to(&cluster, 1));
    limit(&mut wire, "producer_byte_rate", 10.0).await;
    let start = Instant::now();
    wire.send_produce(9, 0, named("t"), &[(0, batch())]).await;
    other.call(9, MetadataRequest::default()).await;
    assert_eq!(start.elapsed(), Duration::ZERO, "only what produces is charged");
    wire.call(9, MetadataRequest::default()).await;
    assert!(start.elapsed() > Duration::from_secs(95));
}

#[tokio::test(start_paused = true)]
async fn who_fetches_too_much_gets_nothing_until_the_time_has_passed() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    let size = batch().len();
    wire.produce(9, 1, named("t"), &[(0, batch())]).await;
    let per_second = size as f64 / 20.0;
    limit(&mut wire, "consumer_byte_rate", per_second.ceil()).await;
    let partition = FetchPartition {
        topic: named("t"),
        index: 0,
        current_leader_epoch: -1,
        fetch_offset: 0,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        max_bytes: 1_000_000,
        replica_directory_id: [0; 16],
        high_watermark: NO_HIGH_WATERMARK,
    };
    // The batch is twice what the windows may have: it can never be fetched without throttling.
    let start = Instant::now();
    let partitions = [partition];
    let fetched = wire.fetch(12, fetch_request(&partitions)).await;
    assert_eq!((fetched.code, fetched.partitions.len()), (ErrorCode::NONE, 0));
    assert_eq!(start.elapsed(), Duration::ZERO, "told at once");
    limit(&mut wire, "consumer_byte_rate", 1e6).await;
    assert!(start.elapsed() > Duration::from_secs(9), "not heard meanwhile: {:?}", start.elapsed());
    let fetched = wire.fetch(12, fetch_request(&partitions)).await;
    assert_eq!(fetched.summary(), [(0, ErrorCode::NONE, size)]);
    // What was not sent was not counted: a limit that allows the batch once allows it.
    limit(&mut wire, "consumer_byte_rate", (size as f64 / 5.0).ceil()).await;
    assert_eq!(wire.fetch(12, fetch_request(&partitions)).await.partitions.len(), 1);
    assert_eq!(
        wire.fetch(12, fetch_request(&partitions)).await.partitions.len(),
        0,
        "a third time is too much"
    );
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_broker_busy_stays_away_for_a_window_at_most() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    // So little that any request is too much.
    limit(&mut wire, "request_percentage", 1e-9).await;
    let start = Instant::now();
    for second in 1..4 {
        // The request that set the quota was the first to be charged.
        let told = wire.call(9, MetadataRequest::default()).await;
        assert_eq!(told.throttle_time_ms, 1000);
        assert_eq!(start.elapsed().as_secs(), second);
    }
}

async fn authenticate(wire: &mut Wire) {
    wire.call(1, SaslHandshakeRequest::default().with_mechanism(text("PLAIN"))).await;
    let token = kafka_wire::sasl::plain::encode("alice", "secret").unwrap().to_vec();
    let answer = wire.call(1, SaslAuthenticateRequest::default().with_auth_bytes(token.into())).await;
    assert_eq!(answer.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn nobodys_quota_is_used_up_before_authentication() {
    let cluster = Cluster::builder()
        .transport_memory()
        .user("alice", "secret")
        .listener(ListenerSpec::plaintext("OPEN"))
        .listener(ListenerSpec::sasl_plaintext("SASL").sasl([SaslMechanism::Plain]))
        .start()
        .await
        .unwrap();
    limit(&mut Wire::to(&cluster, 1), "request_percentage", 1e-9).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let start = Instant::now();
    let mut wire = Wire::to_listener(&cluster, 1, "SASL");
    for _ in 0..3 {
        assert_eq!(wire.call(1, ApiVersionsRequest::default()).await.throttle_time_ms, 0);
    }
    authenticate(&mut wire).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(wire.call(1, ApiVersionsRequest::default()).await.throttle_time_ms, 1000, "and then it is");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_stays_away_as_well() {
    let cluster = Cluster::builder()
        .transport_memory()
        .super_user("ANONYMOUS")
        .user("alice", "secret")
        .listener(ListenerSpec::plaintext("OPEN"))
        .listener(ListenerSpec::sasl_plaintext("SASL").sasl([SaslMechanism::Plain]))
        .start()
        .await
        .unwrap();
    let mut alice = Wire::to_listener(&cluster, 1, "SASL");
    authenticate(&mut alice).await;
    limit(&mut Wire::to(&cluster, 1), "request_percentage", 1e-9).await;
    let start = Instant::now();
    for second in 0..3 {
        let told = alice.call(1, DescribeClientQuotasRequest::default()).await;
        assert_eq!(ErrorCode(told.error_code), ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        assert_eq!((told.throttle_time_ms, start.elapsed().as_secs()), (1000, second));
    }
}

#[test]
fn ever_new_clients_cost_the_same_each_and_leave_nothing_behind() {
    const CLIENTS: usize = 50_000;
    let mut recent = Recent::default();
    let mut looked = 0;
    for client in 0..CLIENTS {
        recent.entry(
            client,
            |_: &mut ()| {
                looked += 1;
                false
            },
            || (),
        );
    }
    assert!((1..2 * CLIENTS).contains(&looked), "{looked}");
    let mut made = 0;
    for client in 0..2 * CLIENTS {
        recent.entry(CLIENTS + client, |()| true, || made += 1);
    }
    assert_eq!(made, 2 * CLIENTS);
    recent.entry(0, |()| true, || made += 1);
    assert_eq!(made, 2 * CLIENTS + 1, "the first one was forgotten");
}

#[tokio::test(start_paused = true)]
async fn who_changes_too_many_partitions_is_refused_until_there_are_tokens_again() {
    use kafka_wire::messages::create_topics_request::CreatableTopic;
    use kafka_wire::messages::{CreateTopicsRequest, DeleteTopicsRequest, TopicName};
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    // Eleven seconds' worth can be saved up.
    limit(&mut wire, "controller_mutation_rate", 2.0).await;
    let create = |name: &str, partitions| {
        let topic =
            CreatableTopic::default().with_name(TopicName(text(name))).with_num_partitions(partitions);
        CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)])
    };
    let start = Instant::now();
    let made = wire.call(6, create("a", 32)).await;
    assert_eq!(ErrorCode(made.topics[0].error_code), ErrorCode::NONE, "there were tokens when it came");
    assert_eq!((made.throttle_time_ms, start.elapsed()), (5000, Duration::ZERO), "ten tokens of debt");
    // Somebody else with the same quota does not wait, and is refused.
    let mut other = Wire::to(&cluster, 1);
    let refused = other.call(6, create("b", 1)).await;
    assert_eq!(ErrorCode(refused.topics[0].error_code), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert!(refused.throttle_time_ms > 0);
    assert!(cluster.shared().image().topic("b").is_none());
    let mut old = Wire::to(&cluster, 1);
    let made = old.call(5, create("c", 2)).await;
    assert_eq!((ErrorCode(made.topics[0].error_code), made.throttle_time_ms), (ErrorCode::NONE, 6000));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let gone =
        wire.call(5, DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("c"))])).await;
    assert_eq!(ErrorCode(gone.responses[0].error_code), ErrorCode::NONE, "the debt is paid");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_client_that_goes_away_leaves_nothing_behind() {
    let cluster = memory_cluster(1, "t", 1, 1).await;
    let mut wire = Wire::to(&cluster, 1);
    limit(&mut wire, "producer_byte_rate", 1.0).await;
    wire.produce(9, -1, named("t"), &[(0, batch())]).await;
    assert_eq!(cluster.snapshot().brokers[0].connections, 1);
    drop(wire);
    // Its throttle time is a quarter of an hour.
    let gone = |cluster: &Cluster| cluster.snapshot().brokers[0].connections == 0;
    cluster.wait_until(Duration::from_secs(60), gone).await.unwrap();
}
