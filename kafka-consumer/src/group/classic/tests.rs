//! What the machine does with each answer, on a clock held by hand.

mod fixture;

use std::time::Duration;

use bytes::Bytes;
use kafka_client::types::OffsetAndMetadata;
use kafka_wire::consumer_protocol::encode_assignment;
use kafka_wire::error_code::ErrorCode;

use fixture::*;

use super::*;
use crate::group::assignor::by_name;
use crate::group::messages::{JoinRejected, Joined, JoinedMember, SyncRequest, Synced};
use crate::group::seeds;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn join_errors_do_what_the_table_says() {
    let rejected = |code| Answer::Join(Err(JoinRejected { code, member_id: "given".into() }));
    // Code; the member id in the next JoinGroup, if there is one within a second; whether it is sent at once.
    let cases = [
        (rejected(ErrorCode::MEMBER_ID_REQUIRED), Some("given"), true),
        (rejected(ErrorCode::UNKNOWN_MEMBER_ID), Some(""), true),
        (rejected(ErrorCode::REBALANCE_IN_PROGRESS), Some("m"), false),
        (rejected(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), Some("m"), false),
        (rejected(ErrorCode::NOT_COORDINATOR), Some("m"), false),
        (silence(), Some("m"), false),
        (rejected(ErrorCode::FENCED_INSTANCE_ID), None, false),
        (rejected(ErrorCode::GROUP_MAX_SIZE_REACHED), None, false),
        (rejected(ErrorCode::INCONSISTENT_GROUP_PROTOCOL), None, false),
        (rejected(ErrorCode::GROUP_AUTHORIZATION_FAILED), None, false),
        (rejected(ErrorCode::UNKNOWN_SERVER_ERROR), None, false),
        (too_old(), None, false),
    ];
    for (answer, next, at_once) in cases {
        let described = format!("{answer:?}");
        let mut fixture = Fixture::stable(cooperative());
        let heartbeat = fixture.heartbeat();
        fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
        let (request, join) = fixture.join();
        assert_eq!(&*join.member_id, "m");
        fixture.answer(request, answer);
        assert_eq!(
            fixture.sent.iter().any(|(_, sent)| matches!(sent, Request::Join(_))),
            at_once,
            "{described}"
        );
        if !at_once && next.is_some() {
            fixture.pass(SECOND);
        }
        match next {
            Some(member_id) => {
                assert_eq!(&*fixture.join().1.member_id, member_id, "{described}");
                let lost = if member_id.is_empty() { "lost t-0 t-1" } else { "" };
                assert_eq!(fixture.told(), lost, "{described}");
            }
            None => {
                assert!(fixture.told().starts_with("lost t-0 t-1, failed "), "{described}");
                fixture.pass(60 * SECOND);
                let goodbyes = fixture.sent.iter().filter(|(_, sent)| matches!(sent, Request::Leave(_)));
                assert_eq!((goodbyes.count(), fixture.sent.len()), (1, 1), "{described}");
            }
        }
    }
}

#[test]
fn sync_errors_do_what_the_table_says() {
    let cases = [
        (Answer::Sync(Err(ErrorCode::UNKNOWN_MEMBER_ID)), Some(""), "lost t-0 t-1"),
        (Answer::Sync(Err(ErrorCode::ILLEGAL_GENERATION)), Some("m"), "lost t-0 t-1"),
        (Answer::Sync(Err(ErrorCode::REBALANCE_IN_PROGRESS)), Some("m"), ""),
        (Answer::Sync(Err(ErrorCode::NOT_COORDINATOR)), Some("m"), ""),
        (silence(), Some("m"), ""),
        (Answer::Sync(Err(ErrorCode::FENCED_INSTANCE_ID)), None, "lost t-0 t-1, failed FENCED_INSTANCE_ID"),
        (
            Answer::Sync(Err(ErrorCode::GROUP_AUTHORIZATION_FAILED)),
            None,
            "lost t-0 t-1, failed GROUP_AUTHORIZATION_FAILED",
        ),
    ];
    for (answer, next, told) in cases {
        let described = format!("{answer:?}");
        let mut fixture = Fixture::stable(cooperative());
        let heartbeat = fixture.heartbeat();
        fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
        let (request, _) = fixture.join();
        fixture.answer(request, Answer::Join(Ok(joined("m", 6, "x", Vec::new()))));
        let (request, sync) = fixture.sync();
        assert_eq!((&*sync.member_id, sync.generation), ("m", 6));
        fixture.answer(request, answer);
        fixture.pass(SECOND);
        assert_eq!(fixture.told(), told, "{described}");
        fixture.sent.retain(|(_, sent)| !matches!(sent, Request::Leave(_)));
        match next {
            Some(member_id) => assert_eq!(&*fixture.join().1.member_id, member_id, "{described}"),
            None => assert!(fixture.sent.is_empty(), "{described}"),
        }
    }
}

#[test]
fn heartbeat_errors_do_what_the_table_says() {
    let cases = [
        (Answer::Heartbeat(Ok(())), "", "heartbeat"),
        (Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)), "revoked #1 t-0 t-1", "heartbeat"),
        (Answer::Heartbeat(Err(ErrorCode::UNKNOWN_MEMBER_ID)), "lost t-0 t-1", "join as ''"),
        (Answer::Heartbeat(Err(ErrorCode::ILLEGAL_GENERATION)), "lost t-0 t-1", "join as 'm'"),
        (Answer::Heartbeat(Err(ErrorCode::NOT_COORDINATOR)), "", "heartbeat"),
        (silence(), "", "heartbeat"),
        (
            Answer::Heartbeat(Err(ErrorCode::FENCED_INSTANCE_ID)),
            "lost t-0 t-1, failed FENCED_INSTANCE_ID",
            "",
        ),
    ];
    for (answer, told, next) in cases {
        let described = format!("{answer:?}");
        let mut fixture = Fixture::stable(eager());
        let heartbeat = fixture.heartbeat();
        fixture.answer(heartbeat, answer);
        assert_eq!(fixture.told(), told, "{described}");
        fixture.pass(3 * SECOND);
        fixture.sent.retain(|(_, sent)| !matches!(sent, Request::Leave(_)));
        let sent = fixture.sent.iter().map(|(_, sent)| match sent {
            Request::Heartbeat(_) => "heartbeat".to_owned(),
            Request::Join(join) => format!("join as '{}'", join.member_id),
            other => format!("{other:?}"),
        });
        assert_eq!(sent.collect::<Vec<_>>().join(", "), next, "{described}");
    }
}

#[test]
fn commit_errors_do_what_the_table_says() {
    for (code, told, retried) in [
        (ErrorCode::UNKNOWN_MEMBER_ID, "lost t-0 t-1", false),
        (ErrorCode::ILLEGAL_GENERATION, "lost t-0 t-1", false),
        (ErrorCode::REBALANCE_IN_PROGRESS, "revoked #1 t-0 t-1", false),
        (ErrorCode::FENCED_INSTANCE_ID, "lost t-0 t-1, failed FENCED_INSTANCE_ID", false),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, "", false),
        (ErrorCode::OFFSET_METADATA_TOO_LARGE, "", false),
        (ErrorCode::NOT_COORDINATOR, "", true),
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, "", true),
        (ErrorCode::REQUEST_TIMED_OUT, "", true),
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "", true),
    ] {
        let mut fixture = Fixture::stable(eager());
        let commit = fixture.commit(0, 10);
        let (request, sent) = fixture.commit_request();
        assert_eq!((&*sent.member_id, sent.generation, committed(&sent)), ("m", 5, vec![(0, 10)]));
        fixture.answer(request, codes(&[(0, code)]));
        assert_eq!(fixture.told(), told, "{code}");
        if retried {
            assert!(fixture.outcomes.is_empty(), "{code}");
            fixture.pass(SECOND);
            let (request, sent) = fixture.commit_request();
            assert_eq!(committed(&sent), [(0, 10)]);
            fixture.answer(request, codes(&[(0, ErrorCode::NONE)]));
            assert!(fixture.outcome(commit).is_ok());
            continue;
        }
        let error = fixture.outcome(commit).unwrap_err();
        let expected = match code {
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                matches!(error.kind(), ErrorKind::NotAMember { .. })
            }
            ErrorCode::REBALANCE_IN_PROGRESS => {
                matches!(error.kind(), ErrorKind::RebalanceInProgress { .. }) && error.is_retriable()
            }
            code => error.error_code() == Some(code) && !error.is_retriable(),
        };
        assert!(expected, "{code}: {error:?}");
    }
}

#[test]
fn a_join_that_keeps_failing_is_repeated_at_once_three_times_and_then_waits() {
    let mut fixture = Fixture::new(eager());
    fixture.input(Input::Subscribe(topics(&["t"])));
    for attempt in 0..10 {
        let (request, _) = fixture.join();
        let rejected = JoinRejected { code: ErrorCode::MEMBER_ID_REQUIRED, member_id: "x".into() };
        fixture.answer(request, Answer::Join(Err(rejected)));
        assert_eq!(fixture.sent.is_empty(), attempt >= 3, "attempt {attempt}");
        if attempt >= 3 {
            fixture.pass(2 * SECOND);
        }
    }
}

#[test]
fn an_answer_that_a_new_generation_has_overtaken_changes_nothing() {
    let mut fixture = Fixture::stable(eager());
    let late = fixture.heartbeat();
    let commit = fixture.commit(0, 3);
    let (request, _) = fixture.commit_request();
    fixture.answer(request, codes(&[(0, ErrorCode::REBALANCE_IN_PROGRESS)]));
    assert!(fixture.outcome(commit).is_err());
    assert_eq!(fixture.told(), "revoked #1 t-0 t-1");
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    fixture.join_and_sync("m", 6, &[("t", &[0])]);
    assert_eq!(fixture.told(), "assigned t-0");
    fixture.answer(late, Answer::Heartbeat(Err(ErrorCode::ILLEGAL_GENERATION)));
    fixture.answer(request, codes(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]));
    assert_eq!(fixture.told(), "");
    assert_eq!(fixture.machine.membership(), Membership { member_id: "m".into(), generation: 6 });
}

#[test]
fn no_commit_is_sent_between_join_and_the_end_of_sync() {
    let mut fixture = Fixture::stable(cooperative());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    let (request, _) = fixture.join();
    let (kept, gone) = (fixture.commit(0, 7), fixture.commit(1, 8));
    fixture.answer(request, Answer::Join(Ok(joined("m", 6, "x", Vec::new()))));
    let (request, _) = fixture.sync();
    assert!(fixture.sent.is_empty() && fixture.outcomes.is_empty());
    fixture.answer(request, Answer::Sync(Ok(synced(&[("t", &[0])]))));
    // What is being let go of may still be committed, in the new generation.
    let (request, sent) = fixture.commit_request();
    assert_eq!((sent.generation, committed(&sent)), (6, vec![(0, 7), (1, 8)]));
    fixture.answer(request, codes(&[(0, ErrorCode::NONE), (1, ErrorCode::NONE)]));
    assert!(fixture.outcome(kept).is_ok() && fixture.outcome(gone).is_ok());
}

#[test]
fn a_commit_that_waits_fails_if_its_partition_goes_to_another() {
    let mut fixture = Fixture::stable(cooperative());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    let (request, _) = fixture.join();
    let commit = fixture.commit(1, 8);
    fixture.answer(
        request,
        Answer::Join(Err(JoinRejected { code: ErrorCode::UNKNOWN_MEMBER_ID, member_id: "".into() })),
    );
    assert!(matches!(fixture.outcome(commit).unwrap_err().kind(), ErrorKind::NotAMember { .. }));
}

#[test]
fn a_join_waits_for_the_commit_that_is_out_and_for_what_a_release_brings() {
    let mut fixture = Fixture::stable(eager());
    let early = fixture.commit(0, 1);
    let (first, _) = fixture.commit_request();
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(fixture.told(), "revoked #1 t-0 t-1");
    fixture.input(Input::Released { revocation: 1, offsets: offsets_of(&[(0, 2), (1, 9)]) });
    assert!(fixture.sent.is_empty());
    fixture.answer(first, codes(&[(0, ErrorCode::NONE)]));
    assert!(fixture.outcome(early).is_ok());
    let (second, sent) = fixture.commit_request();
    assert_eq!((sent.generation, committed(&sent)), (5, vec![(0, 2), (1, 9)]));
    fixture.answer(second, codes(&[(0, ErrorCode::NONE), (1, ErrorCode::NONE)]));
    let (_, join) = fixture.join();
    assert_eq!(join.reason, "group is already rebalancing");
}

/// KAFKA-14024: the commit before a rebalance must end, or the member never rejoins.
#[test]
fn a_deleted_topic_does_not_hold_up_a_rebalance() {
    let mut fixture = Fixture::stable(eager());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    fixture.input(Input::Released { revocation: 1, offsets: offsets_of(&[(0, 2)]) });
    let (request, _) = fixture.commit_request();
    fixture.answer(request, codes(&[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
    fixture.join();
}

#[test]
fn a_coordinator_that_does_not_answer_holds_up_a_rebalance_for_the_rebalance_timeout_at_most() {
    let mut fixture = Fixture::stable(eager());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    fixture.input(Input::Released { revocation: 1, offsets: offsets_of(&[(0, 2)]) });
    let started = fixture.now;
    while !fixture.sent.iter().any(|(_, sent)| matches!(sent, Request::Join(_))) {
        for (request, sent) in std::mem::take(&mut fixture.sent) {
            match sent {
                Request::Commit(_) => fixture.answer(request, silence()),
                Request::Heartbeat(_) => fixture.answer(request, Answer::Heartbeat(Ok(()))),
                other => panic!("{other:?}"),
            }
        }
        fixture.input(Input::Polled);
        fixture.pass(SECOND);
        assert!(fixture.now - started <= 301 * SECOND);
    }
}

/// Seed 457 of the simulation: the newer commit's caller had stopped waiting when the older one was tried again.
#[test]
fn an_older_commit_tried_again_does_not_undo_a_newer_one() {
    let mut fixture = Fixture::stable(eager());
    let blocker = fixture.commit(1, 1);
    let (request, _) = fixture.commit_request();
    let older = fixture.commit_for(&[(0, 10)], 60 * SECOND);
    let newer = fixture.commit_for(&[(0, 20)], 5 * SECOND);
    fixture.answer(request, codes(&[(1, ErrorCode::NONE)]));
    assert!(fixture.outcome(blocker).is_ok());
    let (request, sent) = fixture.commit_request();
    assert_eq!(committed(&sent), [(0, 20)]);
    fixture.pass(5 * SECOND);
    assert!(matches!(fixture.outcome(newer).unwrap_err().kind(), ErrorKind::Client(_)));
    fixture.sent.clear();
    fixture.answer(request, silence());
    fixture.pass(SECOND);
    let (request, sent) = fixture.commit_request();
    assert_eq!(committed(&sent), [(0, 20)]);
    fixture.answer(request, codes(&[(0, ErrorCode::NONE)]));
    assert!(fixture.outcome(older).is_ok());
}

#[test]
fn only_what_was_not_stored_is_sent_again() {
    let mut fixture = Fixture::stable(eager());
    let both = fixture.commit_for(&[(0, 10), (1, 11)], 60 * SECOND);
    let (request, _) = fixture.commit_request();
    fixture.answer(request, codes(&[(0, ErrorCode::NONE), (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
    let newer = fixture.commit(0, 20);
    fixture.pass(SECOND);
    let (request, sent) = fixture.commit_request();
    assert_eq!(committed(&sent), [(0, 20), (1, 11)]);
    fixture.answer(request, codes(&[(0, ErrorCode::NONE), (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
    assert!(fixture.outcome(newer).is_ok());
    fixture.pass(SECOND);
    let (request, sent) = fixture.commit_request();
    assert_eq!(committed(&sent), [(1, 11)]);
    // An answer that leaves a partition out is no answer about it.
    fixture.answer(request, codes(&[]));
    assert!(fixture.outcomes.is_empty());
    fixture.pass(60 * SECOND);
    assert!(fixture.outcome(both).unwrap_err().to_string().contains("timed out"));
}

#[test]
fn a_member_whose_subscription_cannot_be_read_gets_nothing_and_stops_nobody() {
    let mut fixture = Fixture::new(eager());
    fixture.input(Input::Subscribe(topics(&["t"])));
    let (request, _) = fixture.join();
    let broken =
        JoinedMember { id: "b".into(), instance_id: None, metadata: Bytes::from_static(b"\x00\x03\xff") };
    let members = vec![subscriber("a", &["t"]), broken, subscriber("m", &["t", "u"])];
    fixture.answer(request, Answer::Join(Ok(joined("m", 1, "m", members))));
    assert_eq!(fixture.told(), r#"look up {"t", "u"}"#);
    fixture.input(Input::Topics([("t", 3)].into_iter().collect()));
    let (_, sync) = fixture.sync();
    let assigned = |id: &str| {
        let (_, bytes) = sync.assignments.iter().find(|(member, _)| &**member == id).unwrap();
        let assignment = kafka_wire::consumer_protocol::Assignment::parse(bytes).unwrap();
        assignment.partitions.iter().map(|(_, of)| of.count()).sum::<usize>()
    };
    assert_eq!((assigned("a"), assigned("b"), assigned("m")), (2, 0, 1));
}

#[test]
fn whatever_other_members_write_the_leader_assigns_and_the_member_reads_on() {
    for (seed, mut random) in seeds(2_000) {
        let names = ["range", "roundrobin", "sticky", "cooperative-sticky"];
        let name = names[random.usize(..names.len())];
        let config = GroupConfig { assignors: vec![by_name(name).unwrap()], ..GroupConfig::new("g") };
        let mut fixture = Fixture::new(config);
        fixture.input(Input::Subscribe(topics(&["t"])));
        let (request, _) = fixture.join();
        let mut members = vec![subscriber("m", &["t"])];
        for number in 0..random.usize(1..5) {
            let owned: Vec<(&str, Vec<i32>)> = vec![("t", (0..random.i32(..4)).collect())];
            let user_data: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..3)).collect();
            let generation = random.i32(-1..3);
            let metadata =
                encode_subscription(3, &["t", "u"], Some(&user_data), &owned, generation, None).unwrap();
            let metadata = mutated(&metadata, &mut random);
            members.push(JoinedMember { id: format!("other-{number}").into(), instance_id: None, metadata });
        }
        let count = members.len();
        fixture.answer(request, Answer::Join(Ok(joined("m", 3, "m", members))));
        fixture.input(Input::Topics([("t", 3), ("u", 2)].into_iter().collect()));
        let (request, sync) = fixture.sync();
        assert_eq!(sync.assignments.len(), count, "seed {seed}");
        let assignment = mutated(&sync.assignments[0].1, &mut random);
        fixture.answer(request, Answer::Sync(Ok(Synced { protocol_type: None, protocol: None, assignment })));
        fixture.pass(SECOND);
        assert!(!fixture.told().contains("failed"), "seed {seed}");
    }
}

fn mutated(bytes: &[u8], random: &mut Rng) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(..3) {
        let value = [0, 1, 0x7f, 0x80, 0xff][random.usize(..5)];
        if let Some(byte) = random.choice(&mut bytes[..]) {
            *byte = value;
        }
    }
    if random.u8(..4) == 0 {
        bytes.truncate(random.usize(..=bytes.len()));
    }
    bytes.into()
}

#[test]
fn an_assignment_that_cannot_be_read_is_asked_for_again_after_a_while() {
    for (assignment, told) in [(&b"\x00"[..], ""), (b"\x00\x01\x7f\xff\xff\xff", ""), (b"", "assigned")] {
        let mut fixture = Fixture::new(eager());
        fixture.input(Input::Subscribe(topics(&["t"])));
        let (request, _) = fixture.join();
        fixture.answer(request, Answer::Join(Ok(joined("m", 1, "x", Vec::new()))));
        let (request, _) = fixture.sync();
        let assignment = Bytes::from_static(assignment);
        fixture.answer(request, Answer::Sync(Ok(Synced { protocol_type: None, protocol: None, assignment })));
        assert_eq!(fixture.told(), told);
        assert!(fixture.sent.is_empty());
        if told.is_empty() {
            fixture.pass(SECOND);
            fixture.join();
        }
    }
}

#[test]
fn partitions_of_topics_that_are_no_longer_wanted_are_not_taken() {
    let mut fixture = Fixture::new(eager());
    fixture.input(Input::Subscribe(topics(&["t", "u"])));
    let (request, _) = fixture.join();
    fixture.answer(request, Answer::Join(Ok(joined("m", 1, "x", Vec::new()))));
    let (request, _) = fixture.sync();
    fixture.input(Input::Subscribe(topics(&["u"])));
    fixture.answer(request, Answer::Sync(Ok(synced(&[("t", &[0]), ("u", &[0])]))));
    assert_eq!(fixture.told(), "");
    fixture.join_and_sync("m", 2, &[("u", &[0])]);
    assert_eq!(fixture.told(), "assigned u-0");
}

#[test]
fn a_group_of_another_kind_or_an_unknown_strategy_ends_the_membership() {
    for (protocol_type, protocol) in [("connect", "range"), ("consumer", "sorcery")] {
        let mut fixture = Fixture::new(eager());
        fixture.input(Input::Subscribe(topics(&["t"])));
        let (request, _) = fixture.join();
        let answer = Joined {
            protocol_type: Some(protocol_type.into()),
            protocol: Some(protocol.into()),
            ..joined("m", 1, "x", Vec::new())
        };
        fixture.answer(request, Answer::Join(Ok(answer)));
        assert_eq!(fixture.told(), "failed INCONSISTENT_GROUP_PROTOCOL");
    }
}

#[test]
fn a_generation_without_number_or_member_is_not_believed() {
    for (member_id, generation) in [("", 1), ("m", -1)] {
        let mut fixture = Fixture::new(eager());
        fixture.input(Input::Subscribe(topics(&["t"])));
        let (request, _) = fixture.join();
        fixture.answer(request, Answer::Join(Ok(joined(member_id, generation, "x", Vec::new()))));
        assert!(fixture.sent.is_empty());
        fixture.pass(SECOND);
        fixture.join();
    }
}

/// KIP-345 and KIP-814: the coordinator gives a static member that restarts its old assignment, and lets it make no new
/// one even if it leads.
#[test]
fn a_static_member_that_restarts_notices_what_has_changed_meanwhile() {
    let fixed = || GroupConfig { instance_id: Some("i".into()), ..eager() };
    let member =
        |id: &str, names: &[&str]| JoinedMember { instance_id: Some(id.into()), ..subscriber(id, names) };
    let members = || vec![member("m", &["t"]), member("f", &["t"])];
    let mut fixture = Fixture::new(fixed());
    fixture.input(Input::Subscribe(topics(&["t"])));
    let (request, _) = fixture.join();
    fixture.answer(request, Answer::Join(Ok(joined("m", 1, "m", members()))));
    fixture.input(Input::Topics([("t", 4)].into_iter().collect()));
    let (_, sync) = fixture.sync();

    // Who restarts, wanting what, with so many partitions of `t`; whether that calls for a rebalance.
    for (id, wanted, partitions, rejoins) in [
        ("m", &["t"][..], 4, false),
        ("m", &["t"], 5, true),
        ("m", &["t", "u"], 4, true),
        ("f", &["t"], 4, false),
        ("f", &["t", "u"], 4, true),
    ] {
        let assignment = sync.assignments.iter().find(|(of, _)| &**of == id).unwrap().1.clone();
        let mut restarted = Fixture::new(fixed());
        restarted.input(Input::Subscribe(topics(wanted)));
        let (request, _) = restarted.join();
        let listed = if id == "m" { members() } else { Vec::new() };
        let answer = Joined { skip_assignment: id == "m", ..joined(id, 1, "m", listed) };
        restarted.answer(request, Answer::Join(Ok(answer)));
        if id == "m" {
            restarted.input(Input::Topics([("t", partitions)].into_iter().collect()));
        }
        let (request, sync) = restarted.sync();
        assert!(sync.assignments.is_empty());
        restarted
            .answer(request, Answer::Sync(Ok(Synced { protocol_type: None, protocol: None, assignment })));
        let told = restarted.told();
        assert!(told.contains("assigned t-"), "{told}");
        assert_eq!(told.contains("revoked"), rejoins, "{id} for {wanted:?} of {partitions}: {told}");
    }
}

/// Seed 2570 of the simulation: the coordinator keeps a static member's place, but others get its partitions.
#[test]
fn a_static_member_that_has_missed_a_generation_starts_afresh() {
    let fixed = GroupConfig { instance_id: Some("i".into()), ..cooperative() };
    for (config, generation, told) in [
        (fixed.clone(), 6, "assigned"),
        (fixed, 7, "lost t-0 t-1, assigned t-0"),
        (cooperative(), 7, "assigned"),
    ] {
        let mut fixture = Fixture::stable(config);
        let heartbeat = fixture.heartbeat();
        fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
        let (request, _) = fixture.join();
        let commit = fixture.commit(1, 8);
        fixture.answer(request, Answer::Join(Ok(joined("m", generation, "x", Vec::new()))));
        let (request, _) = fixture.sync();
        let lost = told.starts_with("lost");
        let assigned: &[i32] = if lost { &[0] } else { &[0, 1] };
        fixture.answer(request, Answer::Sync(Ok(synced(&[("t", assigned)]))));
        assert_eq!(fixture.told(), told);
        // What it read before must not be committed over what another has.
        assert_eq!(fixture.outcomes.iter().any(|(of, outcome)| *of == commit && outcome.is_err()), lost);
        assert_eq!(fixture.sent.is_empty(), lost);
    }
}

#[test]
fn what_was_held_back_is_given_out_after_a_session_if_nobody_lets_go_of_it() {
    let claims = encode_subscription(3, &["t"], None, &[("t", vec![0, 1])], 4, None).unwrap();
    let absent = JoinedMember { id: "absent".into(), instance_id: Some("i".into()), metadata: claims };
    let mut fixture = Fixture::new(cooperative());
    fixture.input(Input::Subscribe(topics(&["t"])));
    let (request, _) = fixture.join();
    fixture.answer(request, Answer::Join(Ok(joined("m", 5, "m", vec![subscriber("m", &["t"]), absent]))));
    fixture.input(Input::Topics([("t", 2)].into_iter().collect()));
    let (request, sync) = fixture.sync();
    let assignment = sync.assignments[0].1.clone();
    fixture.answer(request, Answer::Sync(Ok(Synced { protocol_type: None, protocol: None, assignment })));
    assert!(fixture.told().ends_with("assigned"));
    let started = fixture.now;
    loop {
        fixture.pass(SECOND);
        match fixture.sent.pop() {
            Some((request, Request::Heartbeat(_))) => fixture.answer(request, Answer::Heartbeat(Ok(()))),
            Some((_, Request::Join(_))) => break,
            Some((_, other)) => panic!("{other:?}"),
            None => {}
        }
    }
    assert_eq!(fixture.now - started, 45 * SECOND);
}

#[test]
fn a_leader_joins_again_when_its_groups_topics_change_and_a_follower_does_not() {
    let mut leader = Fixture::new(cooperative());
    leader.input(Input::Subscribe(topics(&["t"])));
    let (request, _) = leader.join();
    leader.answer(request, Answer::Join(Ok(joined("m", 1, "m", vec![subscriber("m", &["t"])]))));
    leader.input(Input::Topics([("t", 2)].into_iter().collect()));
    let (request, sync) = leader.sync();
    let assignment = sync.assignments[0].1.clone();
    leader.answer(request, Answer::Sync(Ok(Synced { protocol_type: None, protocol: None, assignment })));
    leader.input(Input::Topics([("t", 2)].into_iter().collect()));
    assert!(leader.sent.is_empty());
    leader.input(Input::Topics([("t", 3)].into_iter().collect()));
    let (_, join) = leader.join();
    assert_eq!(join.reason, "cached metadata has changed");

    let mut follower = Fixture::stable(cooperative());
    follower.input(Input::Topics([("t", 3)].into_iter().collect()));
    assert!(follower.sent.is_empty());
}

#[test]
fn a_session_without_any_answer_looks_for_the_coordinator_anew() {
    let mut fixture = Fixture::stable(eager());
    let heartbeat = fixture.heartbeat();
    while fixture.told.is_empty() {
        let due = fixture.machine.poll_timeout().unwrap();
        assert!(due > fixture.now, "time passes");
        fixture.pass(due - fixture.now);
    }
    assert_eq!(fixture.told(), "rediscover");
    let (again, _) = fixture.request();
    assert_ne!(again, heartbeat);
    fixture.answer(again, Answer::Heartbeat(Ok(())));
    assert_eq!(fixture.told(), "");
}

#[test]
fn an_application_that_holds_on_to_revoked_partitions_for_too_long_is_given_up_until_it_lets_go() {
    let mut fixture = Fixture::stable(eager());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert_eq!(fixture.told(), "revoked #1 t-0 t-1");
    for _ in 0..301 {
        for (request, sent) in std::mem::take(&mut fixture.sent) {
            match sent {
                Request::Heartbeat(_) => fixture.answer(request, Answer::Heartbeat(Ok(()))),
                Request::Leave(leave) => {
                    assert_eq!(leave.reason, "revoked partitions were not released in time")
                }
                other => panic!("{other:?}"),
            }
        }
        // It does poll, but in the middle of that it does not come to an end with the revocation.
        if !fixture.machine.is_stalled() {
            fixture.input(Input::Polled);
        }
        fixture.pass(SECOND);
    }
    assert!(fixture.machine.is_stalled());
    fixture.sent.clear();
    fixture.input(Input::Released { revocation: 1, offsets: offsets_of(&[(0, 1)]) });
    assert!(fixture.join().1.member_id.is_empty());
}

#[test]
fn a_consumer_that_closes_during_a_cooperative_rebalance_commits_when_that_is_over() {
    let mut fixture = Fixture::stable(cooperative());
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    let (request, _) = fixture.join();
    fixture.input(Input::Leave);
    assert_eq!(fixture.told(), "");
    fixture.answer(request, Answer::Join(Ok(joined("m", 6, "x", Vec::new()))));
    let (request, _) = fixture.sync();
    fixture.answer(request, Answer::Sync(Ok(synced(&[("t", &[0])]))));
    assert_eq!(fixture.told(), "revoked #1 t-1");
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    assert_eq!(fixture.told(), "assigned, revoked #2 t-0");
    fixture.input(Input::Released { revocation: 2, offsets: offsets_of(&[(0, 6)]) });
    let (request, sent) = fixture.commit_request();
    assert_eq!((sent.generation, committed(&sent)), (6, vec![(0, 6)]));
    fixture.answer(request, codes(&[(0, ErrorCode::NONE)]));
    let (request, leave) = fixture.request();
    assert!(matches!(&leave, Request::Leave(leave) if &*leave.member_id == "m"), "{leave:?}");
    fixture.answer(request, Answer::Leave(Ok(())));
    assert_eq!(fixture.told(), "left");
    assert_eq!(fixture.machine.poll_timeout(), None);
}

#[test]
fn a_cooperative_member_lets_go_of_topics_it_no_longer_wants_before_it_joins() {
    let mut fixture = Fixture::new(cooperative());
    fixture.input(Input::Subscribe(topics(&["t", "u"])));
    fixture.join_and_sync("m", 5, &[("t", &[0]), ("u", &[0])]);
    fixture.input(Input::Subscribe(topics(&["t"])));
    assert_eq!(fixture.told(), "assigned t-0 u-0, revoked #1 u-0");
    assert!(fixture.sent.is_empty());
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    let (_, join) = fixture.join();
    let subscription = kafka_wire::consumer_protocol::Subscription::parse(&join.protocols[0].1).unwrap();
    assert_eq!(subscription.owned.iter().map(|(topic, _)| topic).collect::<Vec<_>>(), ["t"]);
}

#[test]
fn what_is_being_let_go_of_is_not_lost_on_top_of_that() {
    let mut fixture = Fixture::new(cooperative());
    fixture.input(Input::Subscribe(topics(&["t", "u"])));
    fixture.join_and_sync("m", 5, &[("t", &[0]), ("u", &[0])]);
    fixture.input(Input::Subscribe(topics(&["t"])));
    assert_eq!(fixture.told(), "assigned t-0 u-0, revoked #1 u-0");
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::UNKNOWN_MEMBER_ID)));
    assert_eq!(fixture.told(), "lost t-0");
    let (request, _) = fixture.join();
    // The release comes too late to be about anything.
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    fixture.answer(request, Answer::Join(Ok(joined("n", 6, "x", Vec::new()))));
    fixture.sync();
}

#[test]
fn a_consumer_that_closes_while_it_lets_go_leaves_without_another_rebalance() {
    let mut fixture = Fixture::new(cooperative());
    fixture.input(Input::Subscribe(topics(&["t", "u"])));
    fixture.join_and_sync("m", 5, &[("t", &[0]), ("u", &[0])]);
    fixture.input(Input::Subscribe(topics(&["t"])));
    fixture.input(Input::Leave);
    assert_eq!(fixture.told(), "assigned t-0 u-0, revoked #1 u-0");
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    assert_eq!(fixture.told(), "revoked #2 t-0");
    fixture.input(Input::Released { revocation: 2, offsets: Offsets::new() });
    assert!(matches!(fixture.request(), (_, Request::Leave(_))));
}

#[test]
fn a_goodbye_that_is_not_heard_is_repeated_but_not_for_ever() {
    let mut fixture = Fixture::stable(eager());
    fixture.input(Input::Leave);
    fixture.input(Input::Released { revocation: 1, offsets: Offsets::new() });
    for _ in 0..LEAVE_ATTEMPTS {
        let (request, leave) = fixture.request();
        assert!(matches!(leave, Request::Leave(_)));
        assert_eq!(fixture.told.last().map(String::as_str), Some("revoked #1 t-0 t-1"));
        fixture.answer(request, Answer::Leave(Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)));
        fixture.pass(SECOND);
    }
    assert!(fixture.told().ends_with("left"));
    assert!(fixture.sent.is_empty());
}

#[test]
fn a_join_says_what_the_member_owns_since_when_and_where_it_runs() {
    let config = GroupConfig { rack: Some("west".into()), ..cooperative() };
    let mut fixture = Fixture::stable(config);
    let heartbeat = fixture.heartbeat();
    fixture.answer(heartbeat, Answer::Heartbeat(Err(ErrorCode::REBALANCE_IN_PROGRESS)));
    let (_, join) = fixture.join();
    let (name, bytes) = &join.protocols[0];
    assert_eq!(&**name, "cooperative-sticky");
    let subscription = kafka_wire::consumer_protocol::Subscription::parse(bytes).unwrap();
    let owned: Vec<(&str, Vec<i32>)> =
        subscription.owned.iter().map(|(topic, of)| (topic, of.collect())).collect();
    assert_eq!(owned, [("t", vec![0, 1])]);
    assert_eq!((subscription.generation, subscription.rack), (5, Some("west")));
    assert_eq!(subscription.user_data, Some(&5_i32.to_be_bytes()[..]));
}
