//! The refresher on in-memory brokers and paused time.

use std::time::Duration;

use kafka_wire::messages::metadata_response::MetadataResponseTopic;
use kafka_wire::messages::{ListGroupsRequest, ListGroupsResponse};
use tokio::time::sleep;

use super::*;
use crate::client::{Client, ClientBuilder};
use crate::cluster::fake::{Fake, Reply, Seen, asked, failed_topic, metadata, topic};
use crate::cluster::route::Route;
use crate::net::Lane;

fn answer(seen: &Seen, brokers: &[i32], topics: Vec<MetadataResponseTopic>) -> Reply {
    Reply::to::<MetadataRequest>(seen, &metadata(brokers, topics))
}

fn builder(fake: &Fake, bootstrap: &str) -> ClientBuilder {
    Client::builder(bootstrap).connector(fake.clone()).seed(7)
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn building_opens_nothing_and_connecting_waits_for_the_cluster_to_come_up() {
    let fake = Fake::new(|seen| answer(seen, &[1, 2], vec![]));
    fake.stop("b1");
    let client = builder(&fake, "b1:9092").build().unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.connects(), [""; 0]);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.refresher().ready(in_seconds(30)).await }
    });
    sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished());
    fake.start("b1");
    assert_eq!(waiting.await.unwrap().unwrap().brokers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn connecting_to_nobody_times_out_and_tells_the_last_failure() {
    let fake = Fake::new(|_| Reply::Close);
    fake.stop("b1");
    let start = Instant::now();
    let error = builder(&fake, "b1:9092").connect().await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    assert!(error.is_retriable());
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    assert!(cause.to_string().contains("refused"), "{cause}");
    // About one attempt a second: not a storm.
    assert!(fake.connects().len() < 80, "{} attempts", fake.connects().len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_broker_is_told_at_once_unless_another_may_be_one() {
    let fake = Fake::new(|_| Reply::Answer(vec![0x7f; 64].into()));
    let start = Instant::now();
    let error = builder(&fake, "b1:9092").connect().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoBroker { .. }) && !error.is_retriable(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    fake.stop("b2");
    let waiting = tokio::spawn(builder(&fake, "b1:9092,b2:9092").connect());
    sleep(Duration::from_secs(20)).await;
    assert!(!waiting.is_finished());
    fake.start("b2");
    fake.replace(|seen| match seen.host.as_str() {
        "b2" => answer(seen, &[2], vec![]),
        _ => Reply::Answer(vec![0x7f; 64].into()),
    });
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn times_that_mean_for_ever_are_waited_for_and_overflow_nothing() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let builders = [
        builder(&fake, "seed:9092")
            .request_timeout(Duration::MAX)
            .default_api_timeout(Duration::MAX)
            .connection_setup_timeout(Duration::MAX, Duration::MAX)
            .reconnect_backoff(Duration::ZERO, Duration::MAX)
            .retry_backoff(Duration::ZERO, Duration::MAX)
            .connections_max_idle(Duration::MAX)
            .metadata_max_age(Duration::MAX)
            .rebootstrap_trigger(Duration::MAX),
        Client::from_properties(
            &"bootstrap.servers=seed:9092\nmetadata.max.age.ms=9223372036854775807\n\
              request.timeout.ms=9223372036854775807\ndefault.api.timeout.ms=9223372036854775807"
                .parse()
                .unwrap(),
        )
        .0
        .connector(fake.clone()),
    ];
    for builder in builders {
        let client = builder.connect().await.unwrap();
        client.request(Route::Node(1)).send(|_| Ok(MetadataRequest::default())).await.unwrap();
        fake.stop("b1");
        fake.stop("seed");
        let call = client.request(Route::Node(1)).send(|_| Ok(MetadataRequest::default()));
        assert!(tokio::time::timeout(Duration::from_secs(3600), call).await.is_err());
        fake.start("b1");
        fake.start("seed");
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_make_one_refresh() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.seen(Api::Metadata).len(), 1);
    for _ in 0..100 {
        client.refresher().request("test");
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fake.seen(Api::Metadata).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_before_it_is_five_minutes_old() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let _client = builder(&fake, "b1:9092").connect().await.unwrap();
    sleep(Duration::from_secs(3000)).await;
    let times: Vec<Instant> = fake.seen(Api::Metadata).iter().map(|seen| seen.at).collect();
    assert!((10..=12).contains(&times.len()), "{}", times.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_secs(300)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_asked_for_at_once_and_alone_and_may_be_created_if_wanted() {
    let mut exists = false;
    let fake = Fake::new(move |seen| {
        let request = seen.decode::<MetadataRequest>();
        let topics = match asked(seen).unwrap_or_default().as_slice() {
            [name] if exists => vec![topic(name, &[1])],
            [name] => vec![failed_topic(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)],
            _ => vec![],
        };
        exists |= request.allow_auto_topic_creation;
        answer(seen, &[1], topics)
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let error = client.refresher().topic("t", false, in_seconds(5)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnknownTopic(name) if &**name == "t"), "{error:?}");
    let start = Instant::now();
    let found = client.refresher().topic("t", true, in_seconds(5)).await.unwrap();
    assert_eq!(found.partition_count(), 1);
    // Told "unknown" while it was created, asked again after the backoff.
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
    let last = fake.seen(Api::Metadata).pop().unwrap();
    assert_eq!(asked(&last), Some(vec!["t".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_forbidden_is_told_at_once() {
    let fake = Fake::new(|seen| {
        let denied = |name: &String| failed_topic(name, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        answer(seen, &[1], asked(seen).unwrap().iter().map(denied).collect())
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let start = Instant::now();
    let error = client.refresher().topic("t", true, in_seconds(60)).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_forbidden_is_asked_for_again_by_whoever_wants_it_next() {
    let mut asks = 0;
    let fake = Fake::new(move |seen| {
        let names = asked(seen).unwrap();
        asks += usize::from(!names.is_empty());
        let told = |name: &String| match asks {
            1 => failed_topic(name, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            _ => topic(name, &[1]),
        };
        answer(seen, &[1], names.iter().map(told).collect())
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let _tracked = client.refresher().track(["t"], false);
    let error = client.refresher().topic("t", false, in_seconds(60)).await.unwrap_err();
    assert_eq!(error.error_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    // The permission was given meanwhile.
    let found = client.refresher().topic("t", false, in_seconds(60)).await.unwrap();
    assert_eq!(found.partition_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_is_asked_for_again_until_it_has_one() {
    let mut asks = 0;
    let fake = Fake::new(move |seen| {
        let names = asked(seen).unwrap();
        asks += usize::from(!names.is_empty());
        let leader = if asks < 4 { -1 } else { 2 };
        answer(seen, &[1, 2], names.iter().map(|name| topic(name, &[1, leader])).collect())
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let _tracked = client.refresher().track(["t"], false);
    let mut changes = client.refresher().subscribe();
    let partition = TopicPartition::new("t", 1);
    let elected = async {
        while client.metadata().leader(&partition).is_none() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(5), elected).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.seen(Api::Metadata).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_dead_broker_is_passed_over_for_another_without_a_wait() {
    let fake = Fake::new(|seen| answer(seen, &[1, 2, 3], vec![]));
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    fake.stop("b1");
    fake.stop("b2");
    let generation = client.metadata().generation();
    sleep(Duration::from_secs(5)).await;
    for _ in 0..5 {
        let mut changes = client.refresher().subscribe();
        client.refresher().request("test");
        let start = Instant::now();
        changes.changed().await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(client.metadata().generation(), generation + 5);
}

#[tokio::test(start_paused = true)]
async fn when_no_known_broker_can_be_reached_the_bootstrap_addresses_are_used_again() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    // The cluster is replaced: its brokers are gone, and its name leads to others.
    fake.stop("b1");
    fake.replace(|seen| answer(seen, &[8, 9], vec![]));
    client.refresher().request("test");
    let found = async {
        let mut changes = client.refresher().subscribe();
        while client.metadata().broker(9).is_none() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
    assert!(client.metadata().broker(1).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_connection_to_a_bootstrap_address_becomes_that_of_the_broker_who_listens_there() {
    let fake = Fake::new(|seen| answer(seen, &[1, 2], vec![]));
    let client = builder(&fake, "b2:9092").connect().await.unwrap();
    let owner = client.owner();
    let connect = || client.connection(2, Lane::General, &owner);
    let connection = connect().await.unwrap();
    assert_eq!((connection.node(), fake.connects()), (2, vec!["b2".to_owned()]));
    // It is lost like any other: the next one waits for the backoff.
    connection.end(&Error::closed());
    let lost = async {
        while client.metrics().disconnects == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), lost).await.unwrap();
    let start = Instant::now();
    assert!(!connect().await.unwrap().is_closed());
    assert!(start.elapsed() > Duration::from_millis(20), "{:?}", start.elapsed());
    assert_eq!(fake.connects().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_address_that_no_broker_tells_of_keeps_its_connection() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    assert_eq!(client.connection(1, Lane::General, &client.owner()).await.unwrap().node(), 1);
    assert_eq!(fake.connects(), ["seed", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn without_recovery_only_known_brokers_are_asked() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let client =
        builder(&fake, "seed:9092").metadata_recovery(MetadataRecovery::None).connect().await.unwrap();
    fake.stop("b1");
    client.refresher().request("test");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.connects().iter().filter(|host| *host == "seed").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn brokers_that_accept_requests_and_say_nothing_are_given_up() {
    let fake = Fake::new(|seen| answer(seen, &[1, 2], vec![]));
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    let start = Instant::now();
    fake.replace(|seen| match seen.host.as_str() {
        "seed" => answer(seen, &[3], vec![]),
        "b3" => answer(seen, &[3], vec![]),
        _ => Reply::Silence,
    });
    client.refresher().request("test");
    let mut changes = client.refresher().subscribe();
    changes.changed().await.unwrap();
    assert!(client.metadata().broker(3).is_some());
    assert!(start.elapsed() <= Duration::from_secs(61), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn five_minutes_without_metadata_end_the_tour_of_the_known_brokers() {
    let brokers: Vec<i32> = (1..=40).collect();
    let fake = Fake::new(move |seen| answer(seen, &brokers, vec![]));
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    let start = Instant::now();
    fake.replace(|seen| match seen.host.as_str() {
        "seed" => answer(seen, &[3], vec![]),
        _ => Reply::Silence,
    });
    let mut changes = client.refresher().subscribe();
    client.refresher().request("test");
    changes.changed().await.unwrap();
    assert_eq!(client.metadata().brokers().len(), 1);
    assert!(start.elapsed() >= Duration::from_secs(300), "{:?}", start.elapsed());
    assert!(start.elapsed() <= Duration::from_secs(361), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_demands_it_sends_the_client_back_to_the_bootstrap_addresses() {
    let fake = Fake::new(|seen| match seen.host.as_str() {
        "seed" => answer(seen, &[1], vec![]),
        _ => Reply::to::<MetadataRequest>(
            seen,
            &metadata(&[1], vec![]).with_error_code(ErrorCode::REBOOTSTRAP_REQUIRED.0),
        ),
    });
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    let mut changes = client.refresher().subscribe();
    client.refresher().request("test");
    changes.changed().await.unwrap();
    assert_eq!(fake.connects(), ["seed", "b1", "seed"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_while_the_cluster_is_looked_for_anew_is_tried_again() {
    let fake = Fake::new(|seen| answer(seen, &[1, 2], vec![]));
    let client = builder(&fake, "seed:9092").connect().await.unwrap();
    let mut asked = 0;
    fake.replace(move |seen| match (seen.api, seen.host.as_str()) {
        (Api::ListGroups, _) => {
            asked += 1;
            let listed = ListGroupsResponse::default();
            if asked == 1 { Reply::Silence } else { Reply::to::<ListGroupsRequest>(seen, &listed) }
        }
        (_, "seed") => answer(seen, &[1, 2], vec![]),
        _ => Reply::to::<MetadataRequest>(
            seen,
            &metadata(&[1, 2], vec![]).with_error_code(ErrorCode::REBOOTSTRAP_REQUIRED.0),
        ),
    });
    let call = tokio::spawn({
        let client = client.clone();
        // On a connection of its own, as the broker keeps silent on it.
        let owner = client.owner();
        async move {
            let call = client.request(Route::Node(2)).on(&owner, Lane::Group);
            call.send(|_| Ok(ListGroupsRequest::default())).await
        }
    });
    while fake.seen(Api::ListGroups).is_empty() {
        tokio::task::yield_now().await;
    }
    client.refresher().request("test");
    tokio::time::timeout(Duration::from_secs(5), call).await.unwrap().unwrap().unwrap();
    assert_eq!(fake.seen(Api::ListGroups).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_decoded_costs_the_connection_and_not_the_client() {
    let mut asks = 0;
    let fake = Fake::new(move |seen| {
        asks += 1;
        if asks == 2 { Reply::Answer(vec![0x7f; 64].into()) } else { answer(seen, &[1], vec![]) }
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let mut changes = client.refresher().subscribe();
    for _ in 0..2 {
        client.refresher().request("test");
        changes.changed().await.unwrap();
    }
    // To the bootstrap address, which helps out after the mistake, to the broker, and to it anew.
    assert_eq!(fake.connects(), ["b1"; 3]);
}

#[tokio::test(start_paused = true)]
async fn when_the_last_handle_is_dropped_every_task_ends() {
    let fake = Fake::new(|seen| answer(seen, &[1], vec![]));
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let tracked = client.refresher().track(["t"], false);
    let clone = client.clone();
    drop(client);
    clone.refresher().request("test");
    sleep(Duration::from_secs(1)).await;
    assert!(alive() > before);
    drop(clone);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(alive(), before);
    drop(tracked);
}

#[tokio::test(start_paused = true)]
async fn a_leader_hint_is_taken_over_only_if_it_is_news() {
    let fake = Fake::new(|seen| {
        answer(seen, &[1, 2], asked(seen).unwrap().iter().map(|name| topic(name, &[1])).collect())
    });
    let client = builder(&fake, "b1:9092").connect().await.unwrap();
    let _tracked = client.refresher().track(["t"], false);
    client.refresher().topic("t", false, in_seconds(5)).await.unwrap();
    let partition = TopicPartition::new("t", 0);
    let changes = client.refresher().subscribe();
    assert!(!client.refresher().leader_hint(&partition, 2, 0, &[]));
    assert!(!changes.has_changed().unwrap());
    assert!(client.refresher().leader_hint(&partition, 2, 1, &[]));
    assert!(changes.has_changed().unwrap());
    assert_eq!(client.metadata().leader(&partition), Some((2, Some(1))));
}
