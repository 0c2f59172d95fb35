//! The group machine against a hand-held clock.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

const SESSION: Duration = Duration::from_secs(45);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group, its clock, and the answers nobody has looked at.
struct Bench {
    group: Group,
    now: Instant,
    next: RequestId,
    answers: Vec<Output>,
}

impl Bench {
    fn new(config: GroupConfig) -> Self {
        Self { group: Group::new("g", config, 7), now: Instant::now(), next: 0, answers: Vec::new() }
    }

    fn send(&mut self, input: Input) -> RequestId {
        self.next += 1;
        self.group.handle(self.next, input, self.now);
        self.collect();
        self.next
    }

    fn collect(&mut self) {
        while let Some(output) = self.group.poll_output() {
            assert!(
                self.answers.iter().all(|earlier| earlier.request != output.request),
                "answered twice: {output:?}"
            );
            self.answers.push(output);
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.group.handle_timeout(self.now);
        assert!(self.group.poll_timeout().is_none_or(|due| due > self.now));
        self.collect();
    }

    fn answer(&self, request: RequestId) -> Option<Reply> {
        self.answers.iter().find(|output| output.request == request).map(|output| output.reply.clone())
    }

    fn joined(&self, request: RequestId) -> Joined {
        match self.answer(request) {
            Some(Reply::Join(Ok(joined))) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn rejected(&self, request: RequestId) -> JoinRejected {
        match self.answer(request) {
            Some(Reply::Join(Err(rejected))) => rejected,
            other => panic!("not rejected: {other:?}"),
        }
    }

    fn synced(&self, request: RequestId) -> Result<Bytes, GroupError> {
        match self.answer(request) {
            Some(Reply::Sync(outcome)) => outcome.map(|synced| synced.assignment),
            other => panic!("no answer to SyncGroup: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.heartbeat_of(HeartbeatRequest { member_id: member.into(), instance_id: None, generation })
    }

    fn heartbeat_of(&mut self, heartbeat: HeartbeatRequest) -> Result<(), GroupError> {
        let request = self.send(Input::Heartbeat(heartbeat));
        match self.answer(request) {
            Some(Reply::Heartbeat(outcome)) => outcome,
            other => panic!("no answer to Heartbeat: {other:?}"),
        }
    }

    fn commit(
        &mut self,
        member: &str,
        generation: i32,
        offset: i64,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.commit_with(member, generation, offset, "note")
    }

    fn commit_with(
        &mut self,
        member: &str,
        generation: i32,
        offset: i64,
        note: &str,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let offsets = vec![OffsetCommit {
            topic: "t".into(),
            partition: 0,
            offset,
            leader_epoch: 3,
            metadata: note.into(),
        }];
        let request = self.send(Input::Commit(CommitRequest {
            member_id: member.into(),
            instance_id: None,
            generation,
            offsets,
        }));
        match self.answer(request) {
            Some(Reply::Commit(outcome)) => outcome,
            other => panic!("no answer to OffsetCommit: {other:?}"),
        }
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let member = LeavingMember { member_id: member_id.into(), instance_id: instance_id.map(Into::into) };
        let request = self.send(Input::Leave(LeaveRequest { members: vec![member] }));
        match self.answer(request) {
            Some(Reply::Leave(Ok(outcomes))) => outcomes[0],
            other => panic!("no answer to LeaveGroup: {other:?}"),
        }
    }

    /// JoinGroup v4 and later: asks for an id first.
    fn join(&mut self) -> (String, RequestId) {
        let asked = self.send(Input::Join(join("")));
        let rejected = self.rejected(asked);
        assert_eq!(rejected.error, GroupError::MemberIdRequired);
        let request = self.send(Input::Join(join(&rejected.member_id)));
        (rejected.member_id, request)
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> RequestId {
        self.send(Input::Sync(sync(member, generation, assignments)))
    }

    /// Two members, stable in generation 2, the first leads.
    fn two_members() -> (Self, String, String) {
        let mut bench = Self::new(GroupConfig::default());
        let (a, _) = bench.join();
        bench.sync(&a, 1, &[]);
        let (b, joined_b) = bench.join();
        bench.send(Input::Join(join(&a)));
        assert_eq!(bench.joined(joined_b).generation, 2);
        let waiting = bench.sync(&b, 2, &[]);
        bench.sync(&a, 2, &[(&a, "for a"), (&b, "for b")]);
        assert_eq!(bench.synced(waiting), Ok("for b".into()));
        assert_eq!(bench.group.state(), GroupState::Stable);
        (bench, a, b)
    }

    /// A static member, stable and alone in generation 1.
    fn one_static_member() -> (Self, String) {
        let mut bench = Self::new(GroupConfig::default());
        let request = bench.send(Input::Join(join_static("", "i")));
        let member = bench.joined(request).member_id;
        bench.send(Input::Sync(SyncRequest {
            instance_id: Some("i".into()),
            ..sync(&member, 1, &[(&member, "mine")])
        }));
        assert_eq!(bench.group.state(), GroupState::Stable);
        (bench, member)
    }
}

fn join(member: &str) -> JoinRequest {
    JoinRequest {
        member_id: member.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription("t")), ("roundrobin".into(), subscription("t"))],
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        requires_member_id: true,
        supports_skip_assignment: true,
        ..JoinRequest::default()
    }
}

fn join_static(member: &str, instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), ..join(member) }
}

fn sync(member: &str, generation: i32, assignments: &[(&str, &'static str)]) -> SyncRequest {
    SyncRequest {
        member_id: member.into(),
        generation,
        assignments: assignments
            .iter()
            .map(|(member, part)| ((*member).to_owned(), Bytes::from_static(part.as_bytes())))
            .collect(),
        ..SyncRequest::default()
    }
}

/// A consumer subscription of version 1, with an empty user data behind.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.into()
}

#[test]
fn a_lone_member_leads_generation_one() {
    let mut bench = Bench::new(GroupConfig::default());
    let (member, request) = bench.join();
    assert!(member.starts_with("client-"), "{member}");
    let joined = bench.joined(request);
    assert_eq!(
        (joined.generation, joined.leader.as_str(), joined.protocol.as_str()),
        (1, member.as_str(), "range")
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, subscription("t"));
    assert!(!joined.skip_assignment);
    let request = bench.sync(&member, 1, &[(&member, "all")]);
    assert_eq!(bench.synced(request), Ok("all".into()));
    assert_eq!(bench.heartbeat(&member, 1), Ok(()));
}

#[test]
fn an_old_client_joins_without_asking_for_an_id() {
    let mut bench = Bench::new(GroupConfig::default());
    let request = bench.send(Input::Join(JoinRequest { requires_member_id: false, ..join("") }));
    assert_eq!(bench.joined(request).generation, 1);
}

#[test]
fn a_second_member_waits_until_the_first_has_rejoined() {
    let mut bench = Bench::new(GroupConfig::default());
    let (a, _) = bench.join();
    bench.sync(&a, 1, &[(&a, "all")]);
    let (b, joining) = bench.join();
    assert!(bench.answer(joining).is_none());
    assert_eq!(bench.heartbeat(&a, 1), Err(GroupError::RebalanceInProgress));
    let again = bench.send(Input::Join(join(&a)));
    let (first, second) = (bench.joined(again), bench.joined(joining));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((first.leader.as_str(), second.leader.as_str()), (a.as_str(), a.as_str()));
    assert_eq!(first.members.iter().map(|member| &member.member_id).collect::<Vec<_>>(), [&a, &b]);
    assert!(second.members.is_empty(), "only the leader sees the members");
}

#[test]
fn sync_waits_for_the_leader_and_a_member_left_out_gets_an_empty_assignment() {
    let (mut bench, a, b) = Bench::two_members();
    bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    let follower = bench.sync(&b, 3, &[]);
    assert!(bench.answer(follower).is_none());
    bench.sync(&a, 3, &[(&a, "all"), ("somebody else", "x")]);
    assert_eq!(bench.synced(follower), Ok(Bytes::new()), "not what it had in the last generation");
    let late = bench.sync(&a, 3, &[]);
    assert_eq!(bench.synced(late), Ok("all".into()), "a stable group answers at once");
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let (mut bench, a, b) = Bench::two_members();
    let again = bench.send(Input::Join(join(&a)));
    for _ in 0..6 {
        bench.advance(REBALANCE / 6 - Duration::from_millis(1));
        assert!(bench.answer(again).is_none());
        assert_eq!(bench.heartbeat(&b, 2), Err(GroupError::RebalanceInProgress), "its session goes on");
    }
    bench.advance(Duration::from_millis(6));
    assert_eq!(bench.joined(again).members.len(), 1);
    assert_eq!(bench.heartbeat(&b, 2), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let (mut bench, _, b) = Bench::two_members();
    let (c, joining) = bench.join();
    let again = bench.send(Input::Join(join(&b)));
    bench.advance(REBALANCE);
    assert_eq!(bench.joined(again).leader, b);
    assert_eq!(bench.joined(joining).leader, b);
    assert_eq!(
        bench.joined(again).members.iter().map(|member| &member.member_id).collect::<Vec<_>>(),
        [&b, &c]
    );
}

#[test]
fn silence_ends_the_session_and_the_others_rebalance() {
    let (mut bench, a, b) = Bench::two_members();
    bench.advance(SESSION - Duration::from_millis(1));
    assert_eq!(bench.heartbeat(&a, 2), Ok(()));
    bench.advance(Duration::from_millis(1));
    assert_eq!(bench.heartbeat(&b, 2), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.heartbeat(&a, 2), Err(GroupError::RebalanceInProgress));
    let again = bench.send(Input::Join(join(&a)));
    assert_eq!(bench.joined(again).members.len(), 1);
}

#[test]
fn a_parked_request_stands_for_heartbeats() {
    let (mut bench, a, b) = Bench::two_members();
    let parked = bench.send(Input::Join(JoinRequest { rebalance_timeout: SESSION * 4, ..join(&a) }));
    for _ in 0..3 {
        bench.advance(SESSION - Duration::from_millis(1));
        let _ = bench.heartbeat(&b, 2);
    }
    assert!(bench.answer(parked).is_none());
    bench.send(Input::Join(join(&b)));
    assert_eq!(bench.joined(parked).generation, 3);
    bench.advance(SESSION);
    assert_eq!(
        bench.heartbeat(&a, 3),
        Err(GroupError::UnknownMemberId),
        "from the answer on it must speak for itself"
    );
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    let (mut bench, a, b) = Bench::two_members();
    bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    let follower = bench.sync(&b, 3, &[]);
    for _ in 0..6 {
        assert!(bench.answer(follower).is_none());
        assert_eq!(bench.heartbeat(&a, 3), Ok(()));
        bench.advance(REBALANCE / 6);
    }
    assert_eq!(bench.synced(follower), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&a, 3), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_rebalance_during_sync_tells_who_waits() {
    let (mut bench, a, b) = Bench::two_members();
    bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    let follower = bench.sync(&b, 3, &[]);
    bench.join();
    assert_eq!(bench.synced(follower), Err(GroupError::RebalanceInProgress));
    let late = bench.sync(&a, 3, &[]);
    assert_eq!(bench.synced(late), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_member_whose_answer_was_lost_gets_the_same_generation_again() {
    let (mut bench, a, b) = Bench::two_members();
    bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    let again = bench.send(Input::Join(join(&a)));
    assert_eq!((bench.joined(again).generation, bench.joined(again).members.len()), (3, 2));
    bench.sync(&a, 3, &[(&a, "x"), (&b, "y")]);
    let follower = bench.send(Input::Join(join(&b)));
    assert_eq!(bench.joined(follower).generation, 3, "a stable follower too");
    assert!(bench.joined(follower).members.is_empty());
    let leader = bench.send(Input::Join(join(&a)));
    assert!(bench.answer(leader).is_none(), "but the leader asks for a rebalance");
}

#[test]
fn changed_metadata_forces_a_rebalance() {
    let (mut bench, _, b) = Bench::two_members();
    let changed = JoinRequest { protocols: vec![("range".into(), subscription("other"))], ..join(&b) };
    bench.send(Input::Join(changed));
    assert_eq!(bench.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_second_join_of_one_member_answers_the_first() {
    let (mut bench, a, b) = Bench::two_members();
    let first = bench.send(Input::Join(join(&a)));
    let second = bench.send(Input::Join(join(&a)));
    assert_eq!(
        bench.rejected(first),
        JoinRejected { error: GroupError::RebalanceInProgress, member_id: a.clone() }
    );
    bench.send(Input::Join(join(&b)));
    assert_eq!(bench.joined(second).generation, 3);
    let first = bench.sync(&b, 3, &[]);
    let second = bench.sync(&b, 3, &[]);
    assert_eq!(bench.synced(first), Err(GroupError::RebalanceInProgress));
    assert!(bench.answer(second).is_none());
}

#[test]
fn most_votes_choose_the_protocol_among_those_all_support() {
    let mut bench =
        Bench::new(GroupConfig { initial_rebalance_delay: Duration::from_secs(3), ..GroupConfig::default() });
    let offering = |names: &[&str]| JoinRequest {
        protocols: names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect(),
        requires_member_id: false,
        ..join("")
    };
    let first = bench.send(Input::Join(offering(&["sticky", "range", "roundrobin"])));
    bench.send(Input::Join(offering(&["roundrobin", "range"])));
    bench.send(Input::Join(offering(&["roundrobin", "range"])));
    let stranger = bench.send(Input::Join(offering(&["sticky"])));
    assert_eq!(bench.rejected(stranger).error, GroupError::InconsistentGroupProtocol);
    let other_type =
        bench.send(Input::Join(JoinRequest { protocol_type: "connect".into(), ..offering(&["range"]) }));
    assert_eq!(bench.rejected(other_type).error, GroupError::InconsistentGroupProtocol);
    bench.advance(Duration::from_secs(6));
    assert_eq!(bench.joined(first).protocol, "roundrobin");
}

#[test]
fn the_first_rebalance_waits_while_members_keep_coming_up_to_the_rebalance_timeout() {
    let delay = Duration::from_secs(3);
    let mut bench = Bench::new(GroupConfig { initial_rebalance_delay: delay, ..GroupConfig::default() });
    let join = JoinRequest { requires_member_id: false, rebalance_timeout: delay * 3, ..join("") };
    let first = bench.send(Input::Join(join.clone()));
    for _ in 0..2 {
        bench.advance(delay / 2);
        bench.send(Input::Join(join.clone()));
        bench.advance(delay / 2);
        assert!(bench.answer(first).is_none());
    }
    bench.send(Input::Join(join));
    bench.advance(delay);
    assert_eq!(bench.joined(first).members.len(), 4);
}

#[test]
fn a_pending_id_holds_the_rebalance_until_it_lapses() {
    let (mut bench, a, b) = Bench::two_members();
    let asked = bench.send(Input::Join(JoinRequest { session_timeout: Duration::from_secs(10), ..join("") }));
    let pending = bench.rejected(asked).member_id;
    assert_eq!(bench.group.state(), GroupState::Stable, "no rebalance for one that may never come");
    let again = bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    assert!(bench.answer(again).is_none());
    bench.advance(Duration::from_secs(10));
    assert_eq!(bench.joined(again).members.len(), 2);
    let late = bench.send(Input::Join(join(&pending)));
    assert_eq!(bench.rejected(late).error, GroupError::UnknownMemberId);
}

#[test]
fn a_new_member_that_vanished_is_dropped_after_the_join_timeout() {
    let timeout = Duration::from_secs(20);
    let config = GroupConfig { new_member_join_timeout: timeout, ..GroupConfig::default() };
    let mut bench = Bench::new(config);
    let (a, _) = bench.join();
    bench.sync(&a, 1, &[]);
    let (_, vanished) = bench.join();
    bench.advance(timeout);
    assert_eq!(
        bench.rejected(vanished),
        JoinRejected { error: GroupError::UnknownMemberId, member_id: String::new() }
    );
}

#[test]
fn unknown_members_and_old_generations_are_told_apart() {
    let (mut bench, a, _) = Bench::two_members();
    let unknown = bench.send(Input::Join(join("nobody")));
    assert_eq!(
        bench.rejected(unknown),
        JoinRejected { error: GroupError::UnknownMemberId, member_id: "nobody".into() }
    );
    for (member, generation, error) in
        [("nobody", 2, GroupError::UnknownMemberId), (a.as_str(), 1, GroupError::IllegalGeneration)]
    {
        assert_eq!(bench.heartbeat(member, generation), Err(error));
        let request = bench.sync(member, generation, &[]);
        assert_eq!(bench.synced(request), Err(error));
        assert_eq!(bench.commit(member, generation, 5), Err(error));
    }
    assert_eq!(bench.leave("nobody", None), Err(GroupError::UnknownMemberId));
    let request =
        bench.send(Input::Sync(SyncRequest { protocol: Some("sticky".into()), ..sync(&a, 2, &[]) }));
    assert_eq!(bench.synced(request), Err(GroupError::InconsistentGroupProtocol));
}

#[test]
fn leaving_rebalances_at_once_and_the_last_one_leaves_an_empty_group() {
    let (mut bench, a, b) = Bench::two_members();
    assert_eq!(bench.leave(&a, None), Ok(()));
    assert_eq!(bench.heartbeat(&b, 2), Err(GroupError::RebalanceInProgress));
    let again = bench.send(Input::Join(join(&b)));
    assert_eq!((bench.joined(again).leader, bench.joined(again).generation), (b.clone(), 3));
    assert_eq!(bench.leave(&b, None), Ok(()));
    assert_eq!((bench.group.state(), bench.group.generation()), (GroupState::Empty, 4));
    assert_eq!(bench.group.poll_timeout(), None);
    assert_eq!(bench.group.describe().protocol_type, "consumer");
}

#[test]
fn a_pending_member_can_leave() {
    let mut bench = Bench::new(GroupConfig::default());
    let asked = bench.send(Input::Join(join("")));
    let pending = bench.rejected(asked).member_id;
    assert_eq!(bench.leave(&pending, None), Ok(()));
    assert_eq!(bench.leave(&pending, None), Err(GroupError::UnknownMemberId));
    assert!(bench.group.is_blank());
}

#[test]
fn a_static_member_that_returns_keeps_the_generation_under_a_new_id() {
    let (mut bench, old) = Bench::one_static_member();
    let request = bench.send(Input::Join(join_static("", "i")));
    let joined = bench.joined(request);
    assert_ne!(joined.member_id, old);
    assert!(joined.member_id.starts_with("i-"));
    assert_eq!((joined.generation, joined.leader.as_str()), (1, joined.member_id.as_str()));
    assert!(joined.skip_assignment, "a leader that only came back must not assign");
    assert_eq!(joined.members.len(), 1);
    let synced = bench
        .send(Input::Sync(SyncRequest { instance_id: Some("i".into()), ..sync(&joined.member_id, 1, &[]) }));
    assert_eq!(bench.synced(synced), Ok("mine".into()));

    let heartbeat = HeartbeatRequest { member_id: old.clone(), instance_id: Some("i".into()), generation: 1 };
    assert_eq!(bench.heartbeat_of(heartbeat.clone()), Err(GroupError::FencedInstanceId));
    assert_eq!(
        bench.heartbeat_of(HeartbeatRequest { instance_id: None, ..heartbeat }),
        Err(GroupError::UnknownMemberId)
    );
    let rejoin = bench.send(Input::Join(join_static(&old, "i")));
    assert_eq!(bench.rejected(rejoin).error, GroupError::FencedInstanceId);
    let request =
        bench.send(Input::Sync(SyncRequest { instance_id: Some("i".into()), ..sync(&old, 1, &[]) }));
    assert_eq!(bench.synced(request), Err(GroupError::FencedInstanceId));
    assert_eq!(bench.leave(&old, Some("i")), Err(GroupError::FencedInstanceId));
    assert_eq!(bench.leave(&joined.member_id, Some("j")), Err(GroupError::UnknownMemberId));
}

#[test]
fn an_old_client_that_returns_as_static_leader_is_not_told_that_it_leads() {
    let (mut bench, old) = Bench::one_static_member();
    let request =
        bench.send(Input::Join(JoinRequest { supports_skip_assignment: false, ..join_static("", "i") }));
    let joined = bench.joined(request);
    assert_eq!((joined.leader, joined.skip_assignment, joined.members.len()), (old, false, 0));
}

#[test]
fn a_static_member_that_offers_another_protocol_rebalances() {
    let (mut bench, _) = Bench::one_static_member();
    let join =
        JoinRequest { protocols: vec![("roundrobin".into(), subscription("t"))], ..join_static("", "i") };
    let request = bench.send(Input::Join(join));
    // `range` was the only member's choice and is no longer offered by anybody.
    assert_eq!(
        (bench.joined(request).generation, bench.joined(request).protocol.as_str()),
        (2, "roundrobin")
    );
}

#[test]
fn a_static_member_fences_its_own_parked_requests() {
    let (mut bench, member) = Bench::one_static_member();
    let (other, _) = bench.join();
    let parked = bench.send(Input::Join(join_static(&member, "i")));
    assert_eq!(bench.joined(parked).generation, 2);
    let waiting = bench.sync(&other, 2, &[]);
    let returned = bench.send(Input::Join(join_static("", "i")));
    assert_eq!(
        bench.synced(waiting),
        Err(GroupError::RebalanceInProgress),
        "the leader may be assigning to the old id"
    );
    let again = bench.send(Input::Join(join_static("", "i")));
    assert_eq!(bench.rejected(returned).error, GroupError::FencedInstanceId);
    bench.send(Input::Join(join(&other)));
    assert_eq!(bench.joined(again).generation, 3);
}

#[test]
fn a_static_member_outlives_the_rebalance_timeout_but_not_its_session() {
    let mut bench = Bench::new(GroupConfig::default());
    let long = JoinRequest { session_timeout: REBALANCE * 10, ..join_static("", "i") };
    let first = bench.send(Input::Join(long));
    let stayed = bench.joined(first).member_id;
    bench.send(Input::Sync(SyncRequest { instance_id: Some("i".into()), ..sync(&stayed, 1, &[]) }));
    let (_, joining) = bench.join();
    bench.advance(REBALANCE);
    assert_eq!(bench.joined(joining).members.len(), 2, "the absent static member is still a member");
    bench.advance(REBALANCE * 2);
    assert_eq!(bench.group.describe().members.len(), 1, "the other one's session is over, its own is not");
    bench.advance(REBALANCE * 8);
    assert_eq!(bench.group.state(), GroupState::Empty);
}

#[test]
fn absent_static_members_do_not_spin_with_a_rebalance_timeout_of_zero() {
    let mut bench = Bench::new(GroupConfig::default());
    let zero = JoinRequest { rebalance_timeout: Duration::ZERO, ..join_static("", "i") };
    let first = bench.send(Input::Join(zero));
    let member = bench.joined(first).member_id;
    bench.send(Input::Sync(SyncRequest { instance_id: Some("i".into()), ..sync(&member, 1, &[]) }));
    let asked = bench.send(Input::Join(JoinRequest { rebalance_timeout: Duration::ZERO, ..join("") }));
    let b = bench.rejected(asked).member_id;
    bench.send(Input::Join(JoinRequest { rebalance_timeout: Duration::ZERO, ..join(&b) }));
    assert_eq!(bench.leave(&b, None), Ok(()));
    bench.advance(SESSION * 2);
    assert_eq!(bench.group.state(), GroupState::Empty);
}

#[test]
fn an_administrator_removes_a_static_member_by_instance() {
    let (mut bench, _) = Bench::one_static_member();
    assert_eq!(bench.leave("", Some("j")), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.leave("", None), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.leave("", Some("i")), Ok(()));
    assert_eq!(bench.group.state(), GroupState::Empty);
}

#[test]
fn session_timeouts_have_bounds() {
    let mut bench = Bench::new(GroupConfig::default());
    for (timeout, fits) in [(5_999, false), (6_000, true), (1_800_000, true), (1_800_001, false)] {
        let request = bench
            .send(Input::Join(JoinRequest { session_timeout: Duration::from_millis(timeout), ..join("") }));
        let expected = if fits { GroupError::MemberIdRequired } else { GroupError::InvalidSessionTimeout };
        assert_eq!(bench.rejected(request).error, expected, "{timeout} ms");
    }
}

#[test]
fn a_full_group_takes_back_its_members_and_nobody_else() {
    let mut bench = Bench::new(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let (a, _) = bench.join();
    bench.sync(&a, 1, &[]);
    let (b, _) = bench.join();
    bench.send(Input::Join(join(&a)));
    assert_eq!(bench.group.describe().members.len(), 2);
    let third = bench.send(Input::Join(join("")));
    assert_eq!(
        bench.rejected(third),
        JoinRejected { error: GroupError::GroupMaxSizeReached, member_id: String::new() }
    );
    let again = bench.send(Input::Join(join(&b)));
    assert_eq!(bench.joined(again).generation, 2);
}

#[test]
fn pending_ids_are_bounded() {
    let mut bench = Bench::new(GroupConfig { max_size: 3, ..GroupConfig::default() });
    let errors: Vec<_> = (0..5).map(|_| bench.send(Input::Join(join("")))).collect();
    let errors: Vec<_> = errors.into_iter().map(|request| bench.rejected(request).error).collect();
    assert_eq!(errors[..3], [GroupError::MemberIdRequired; 3]);
    assert_eq!(errors[3..], [GroupError::GroupMaxSizeReached; 2]);
}

#[test]
fn oversized_joins_are_refused() {
    let mut bench = Bench::new(GroupConfig::default());
    let metadata = |length: usize| Bytes::from(vec![0; length]);
    let refused = [
        JoinRequest { protocols: vec![("range".into(), metadata(64 * 1024 + 1))], ..join("") },
        JoinRequest { protocols: (0..17).map(|n| (n.to_string(), Bytes::new())).collect(), ..join("") },
        join_static("", &"i".repeat(1_025)),
        JoinRequest { client_id: "c".repeat(1_025), ..join("") },
    ];
    for join in refused {
        let request = bench.send(Input::Join(join));
        assert_eq!(bench.rejected(request).error, GroupError::InvalidRequest);
    }
    let fits = bench.send(Input::Join(JoinRequest {
        protocols: vec![("range".into(), metadata(64 * 1024))],
        ..join("")
    }));
    assert_eq!(bench.rejected(fits).error, GroupError::MemberIdRequired);
    for empty in [
        JoinRequest { protocols: Vec::new(), ..join("") },
        JoinRequest { protocol_type: String::new(), ..join("") },
    ] {
        let request = bench.send(Input::Join(empty));
        assert_eq!(bench.rejected(request).error, GroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn more_leavers_than_there_can_be_members_are_refused() {
    let mut bench = Bench::new(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let members = vec![LeavingMember::default(); 5];
    let request = bench.send(Input::Leave(LeaveRequest { members }));
    assert!(matches!(bench.answer(request), Some(Reply::Leave(Err(GroupError::InvalidRequest)))));
}

#[test]
fn commits_follow_the_generation() {
    let (mut bench, a, b) = Bench::two_members();
    assert_eq!(bench.commit(&a, 2, 10), Ok(vec![Ok(())]));
    let stored = CommittedOffset { offset: 10, leader_epoch: 3, metadata: "note".into() };
    assert_eq!(bench.group.committed("t", 0), Some(&stored));
    assert_eq!(
        bench.commit("", -1, 99),
        Err(GroupError::UnknownMemberId),
        "not from outside while there are members"
    );
    bench.send(Input::Join(join(&a)));
    assert_eq!(bench.commit(&b, 2, 11), Ok(vec![Ok(())]), "before rejoining, the old owner may still commit");
    bench.send(Input::Join(join(&b)));
    assert_eq!(bench.commit(&b, 3, 12), Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.commit(&b, 2, 12), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.group.committed("t", 0).map(|at| at.offset), Some(11));
}

#[test]
fn a_simple_consumer_commits_to_an_empty_group() {
    let mut bench = Bench::new(GroupConfig::default());
    assert_eq!(bench.commit("", -1, 7), Ok(vec![Ok(())]));
    assert_eq!(bench.commit("m", 1, 8), Err(GroupError::UnknownMemberId));
    assert_eq!(
        bench.commit_with("", -1, 9, &"x".repeat(4_097)),
        Ok(vec![Err(GroupError::OffsetMetadataTooLarge)])
    );
    assert_eq!(
        bench
            .group
            .all_committed()
            .map(|(topic, partition, at)| (&**topic, partition, at.offset))
            .collect::<Vec<_>>(),
        [("t", 0, 7)]
    );
    assert_eq!(bench.group.listing().protocol_type, "");
    assert!(!bench.group.is_blank());
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let (mut bench, a, b) = Bench::two_members();
    for _ in 0..3 {
        bench.advance(SESSION - Duration::from_millis(1));
        assert_eq!(bench.commit(&a, 2, 1), Ok(vec![Ok(())]));
        assert_eq!(bench.heartbeat(&b, 2), Ok(()));
    }
}

#[test]
fn offsets_of_a_subscribed_topic_cannot_be_deleted() {
    let (mut bench, a, b) = Bench::two_members();
    assert_eq!(bench.commit(&a, 2, 10), Ok(vec![Ok(())]));
    assert_eq!(bench.group.may_delete_offsets(), Ok(()));
    assert_eq!(bench.group.delete_offset("t", 0), Err(GroupError::GroupSubscribedToTopic));
    assert_eq!(bench.group.delete_offset("other", 0), Ok(()));
    assert_eq!((bench.leave(&a, None), bench.leave(&b, None)), (Ok(()), Ok(())));
    bench.advance(REBALANCE);
    assert_eq!(bench.group.state(), GroupState::Empty);
    assert_eq!(bench.group.delete_offset("t", 0), Ok(()));
    assert_eq!(bench.group.committed("t", 0), None);
}

#[test]
fn offsets_of_an_active_group_of_another_kind_cannot_be_deleted() {
    let mut bench = Bench::new(GroupConfig::default());
    bench.send(Input::Join(JoinRequest {
        protocol_type: "connect".into(),
        requires_member_id: false,
        ..join("")
    }));
    assert_eq!(bench.group.may_delete_offsets(), Err(GroupError::NonEmptyGroup));
}

#[test]
fn unreadable_subscriptions_count_as_subscribed_to_everything() {
    let mut bench = Bench::new(GroupConfig::default());
    let protocols = vec![("range".into(), Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b't']))];
    bench.send(Input::Join(JoinRequest { protocols, requires_member_id: false, ..join("") }));
    assert_eq!(bench.group.delete_offset("anything", 0), Err(GroupError::GroupSubscribedToTopic));
}

#[test]
fn only_an_empty_group_can_be_deleted_and_then_nobody_joins_it() {
    let (mut bench, a, b) = Bench::two_members();
    assert_eq!(bench.group.delete(), Err(GroupError::NonEmptyGroup));
    assert_eq!((bench.leave(&a, None), bench.leave(&b, None)), (Ok(()), Ok(())));
    bench.advance(REBALANCE);
    assert_eq!(bench.group.delete(), Ok(()));
    assert_eq!(bench.group.delete(), Err(GroupError::GroupIdNotFound));
    let request = bench.send(Input::Join(join("")));
    assert_eq!(bench.rejected(request).error, GroupError::CoordinatorNotAvailable);
    assert_eq!(bench.heartbeat(&a, 1), Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.commit("", -1, 1), Err(GroupError::CoordinatorNotAvailable));
}

#[test]
fn when_the_coordinator_moves_parked_requests_fail_and_members_stay() {
    let (mut bench, a, b) = Bench::two_members();
    assert_eq!(bench.commit(&a, 2, 10), Ok(vec![Ok(())]));
    let (_, stranger) = bench.join();
    let parked = bench.send(Input::Join(join(&a)));
    bench.group.fail_parked(GroupError::NotCoordinator, bench.now);
    bench.collect();
    assert_eq!(
        bench.rejected(parked),
        JoinRejected { error: GroupError::NotCoordinator, member_id: a.clone() }
    );
    assert_eq!(bench.rejected(stranger).error, GroupError::NotCoordinator);
    assert_eq!(bench.heartbeat(&b, 2), Err(GroupError::RebalanceInProgress));
    let first = bench.send(Input::Join(join(&a)));
    bench.send(Input::Join(join(&b)));
    assert_eq!(bench.joined(first).members.len(), 2);
    let waiting = bench.sync(&b, 3, &[]);
    bench.group.fail_parked(GroupError::NotCoordinator, bench.now);
    bench.collect();
    assert_eq!(bench.synced(waiting), Err(GroupError::NotCoordinator));
    assert_eq!(bench.group.committed("t", 0).map(|at| at.offset), Some(10));
    bench.advance(SESSION);
    assert_eq!(bench.group.state(), GroupState::Empty, "who does not come back still times out");
}

#[test]
fn describe_shows_metadata_only_when_stable() {
    let (mut bench, a, _) = Bench::two_members();
    let described = bench.group.describe();
    assert_eq!((described.state.name(), described.protocol.as_str()), ("Stable", "range"));
    assert_eq!(described.members[0].metadata, subscription("t"));
    assert_eq!(
        (described.members[0].client_id.as_str(), described.members[0].client_host.as_str()),
        ("client", "/127.0.0.1")
    );
    assert_eq!(described.members[1].assignment, "for b");
    bench.send(Input::Join(join(&a)));
    let described = bench.group.describe();
    assert_eq!((described.state.name(), described.protocol.as_str()), ("PreparingRebalance", ""));
    assert!(described.members.iter().all(|member| member.metadata.is_empty()));
}

/// Random requests, delays and coordinator moves: every request is answered once, and the group ends empty and quiet.
#[test]
fn whatever_members_do_every_request_is_answered() {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..200 {
        let delay = Duration::from_secs(rng.u64(0..4));
        let mut bench =
            Bench::new(GroupConfig { max_size: 5, initial_rebalance_delay: delay, ..GroupConfig::default() });
        let mut ids = vec![String::new(), "nobody".to_owned()];
        let mut sent = Vec::new();
        for _ in 0..200 {
            let id = ids[rng.usize(..ids.len())].clone();
            let instance = (rng.u8(..4) == 0).then(|| format!("i{}", rng.u8(..2)));
            let generation = bench.group.generation() - i32::from(rng.u8(..8) == 0);
            match rng.u8(..12) {
                0..=4 => {
                    let mut join = join(&id);
                    join.instance_id = instance;
                    join.requires_member_id = rng.bool();
                    join.supports_skip_assignment = rng.bool();
                    join.rebalance_timeout = Duration::from_secs(rng.u64(0..90));
                    join.protocols.truncate(rng.usize(1..3));
                    sent.push(bench.send(Input::Join(join)));
                }
                5..=7 => sent.push(bench.send(Input::Sync(SyncRequest {
                    instance_id: instance,
                    ..sync(&id, generation, &[(&id, "x")])
                }))),
                8 => drop(bench.heartbeat_of(HeartbeatRequest {
                    member_id: id,
                    instance_id: instance,
                    generation,
                })),
                9 => drop(bench.leave(&id, instance.as_deref())),
                10 if rng.u8(..8) == 0 => {
                    bench.group.fail_parked(GroupError::NotCoordinator, bench.now);
                    bench.collect();
                }
                10 => drop(bench.commit(&id, generation, 1)),
                _ => bench.advance(Duration::from_millis(rng.u64(..20_000))),
            }
            ids.extend(bench.answers.iter().filter_map(|output| match &output.reply {
                Reply::Join(Ok(joined)) => Some(joined.member_id.clone()),
                Reply::Join(Err(rejected)) => Some(rejected.member_id.clone()),
                _ => None,
            }));
            ids.sort();
            ids.dedup();
        }
        bench.advance(Duration::from_secs(3_600));
        assert!(sent.iter().all(|request| bench.answer(*request).is_some()), "SEED={seed}");
        assert_eq!(
            (bench.group.state(), bench.group.poll_timeout()),
            (GroupState::Empty, None),
            "SEED={seed}"
        );
    }
}
