//! Topics, settings, elections and coordinators, changed one after the other.

use kafka_wire::address::NodeAddress;

use super::*;

fn controller(brokers: i32) -> Controller {
    let broker = |id| Broker {
        id,
        address: NodeAddress::new("b", 9092),
        more_addresses: [].into(),
        rack: None,
        alive: true,
    };
    Controller::new(
        (1..=brokers).map(broker).collect(),
        BrokerConfigs::default(),
        fastrand::Rng::with_seed(7),
        crate::sasl::Credentials::new().unwrap(),
        None,
    )
}

fn topic(name: &str, partitions: i32, replication: i16) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions: Some(partitions),
        replication: Some(replication),
        ..NewTopic::default()
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> ErrorCode {
    outcome.expect_err("refused").code
}

#[test]
fn a_new_topic_has_leaders_spread_over_the_brokers() {
    let controller = controller(3);
    let topic = controller.create_topic(topic("t", 6, 2), false).unwrap();
    let leaders: Vec<i32> = topic.partitions.iter().map(|partition| partition.leader).collect();
    assert_eq!(leaders, [1, 2, 3, 1, 2, 3]);
    assert_eq!(&*topic.partitions[2].replicas, [3, 1]);
    assert_eq!(controller.image().topic_by_id(topic.id).unwrap().name, topic.name);
}

#[test]
fn refused_topics_are_not_created() {
    let controller = controller(1);
    controller.create_topic(topic("a.b", 1, 1), false).unwrap();
    let refused = [
        (topic("a.b", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
        (topic("a_b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("..", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("white space", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic(&"x".repeat(250), 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("t", 0, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("t", 10_000, 1), ErrorCode::POLICY_VIOLATION),
        (topic("t", i32::MAX, 1), ErrorCode::POLICY_VIOLATION),
        (topic("t", 1, 2), ErrorCode::INVALID_REPLICATION_FACTOR),
        (
            NewTopic { assignment: Some(vec![vec![9]]), ..topic("t", 1, 1) },
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            NewTopic { configs: [("retention.ms".into(), "x".into())].into(), ..topic("t", 1, 1) },
            ErrorCode::INVALID_CONFIG,
        ),
    ];
    for (new, expected) in refused {
        let described = format!("{new:?}");
        assert_eq!(code(controller.create_topic(new, false)), expected, "{described}");
    }
    controller.create_topic(topic("dry", 1, 1), true).unwrap();
    assert_eq!(controller.image().topics.len(), 1);
}

#[test]
fn a_stopped_leader_is_replaced_in_a_new_epoch_and_none_is_left_when_all_stop() {
    let controller = controller(2);
    controller.create_topic(topic("t", 1, 2), false).unwrap();
    let leader = |controller: &Controller| {
        let image = controller.image();
        let place = image.partition("t", 0).unwrap();
        let state = place.partition.lock();
        assert_eq!((state.leader, state.leader_epoch), (place.leader, place.leader_epoch));
        (place.leader, place.leader_epoch)
    };
    controller.set_alive(1, false).unwrap();
    assert_eq!(leader(&controller), (2, 1));
    controller.set_alive(2, false).unwrap();
    assert_eq!(leader(&controller), (NO_NODE, 2));
    controller.set_alive(1, true).unwrap();
    assert_eq!(leader(&controller), (1, 3));
    // It already leads: nothing to elect.
    controller.set_alive(2, true).unwrap();
    assert_eq!(leader(&controller), (1, 3));
    controller.move_leader("t", 0, 2).unwrap();
    assert_eq!(leader(&controller), (2, 4));
    assert_eq!(code(controller.move_leader("t", 0, 3)), ErrorCode::REPLICA_NOT_AVAILABLE);
}

#[test]
fn list_settings_grow_and_shrink_and_others_do_not() {
    let controller = controller(1);
    controller.create_topic(topic("t", 1, 1), false).unwrap();
    let alter =
        |name: &str, change| controller.alter_topic_configs("t", &[(name.into(), change)], false, false);
    alter("cleanup.policy", ConfigChange::Append("compact".into())).unwrap();
    assert_eq!(controller.image().topic("t").unwrap().overrides["cleanup.policy"], "delete,compact");
    assert!(controller.image().topic("t").unwrap().config.compacted);
    alter("cleanup.policy", ConfigChange::Subtract("delete".into())).unwrap();
    assert_eq!(controller.image().topic("t").unwrap().overrides["cleanup.policy"], "compact");
    alter("cleanup.policy", ConfigChange::Delete).unwrap();
    assert!(!controller.image().topic("t").unwrap().config.compacted);
    assert_eq!(code(alter("retention.ms", ConfigChange::Append("1".into()))), ErrorCode::INVALID_CONFIG);
    assert_eq!(code(alter("no.such", ConfigChange::Set("1".into()))), ErrorCode::INVALID_CONFIG);
    alter("no.such", ConfigChange::Delete).unwrap();
}

#[test]
fn a_broker_setting_reaches_the_topics_that_inherit_it() {
    let controller = controller(1);
    controller.create_topic(topic("t", 1, 1), false).unwrap();
    let set = [("message.max.bytes".to_owned(), ConfigChange::Set("77".into()))];
    controller.alter_broker_configs(None, &set, false, false).unwrap();
    assert_eq!(controller.image().topic("t").unwrap().config.max_message_bytes, 77);
    let fixed = [("auto.create.topics.enable".to_owned(), ConfigChange::Set("false".into()))];
    assert_eq!(code(controller.alter_broker_configs(None, &fixed, false, false)), ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_group_stays_with_its_hash_until_it_is_moved_or_its_broker_stops() {
    let controller = controller(3);
    let at = |controller: &Controller| controller.image().coordinator("billing").map(|broker| broker.id);
    let home = at(&controller).unwrap();
    controller.set_alive(home, false).unwrap();
    let next = at(&controller).unwrap();
    assert_ne!(next, home);
    controller.set_alive(home, true).unwrap();
    assert_eq!(at(&controller), Some(home));
    controller.move_coordinator("billing", next).unwrap();
    assert_eq!(at(&controller), Some(next));
}

#[test]
fn more_partitions_continue_the_placement_and_fewer_are_refused() {
    let controller = controller(3);
    controller.create_topic(topic("t", 2, 1), false).unwrap();
    let grown = controller.create_partitions("t", 4, None, false).unwrap();
    assert_eq!(grown.partitions.len(), 4);
    assert_eq!(grown.partitions[3].partition.number(), 3);
    assert_eq!(code(controller.create_partitions("t", 4, None, false)), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(code(controller.create_partitions("t", -1, None, false)), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(
        code(controller.create_partitions("no", 4, None, false)),
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
}
