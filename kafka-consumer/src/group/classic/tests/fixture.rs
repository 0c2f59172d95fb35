//! One member with a clock held by hand, and the messages its tests need.

use super::*;

/// A member, its clock, and what it has said since it was last asked.
pub(super) struct Fixture {
    pub(super) machine: ClassicMember,
    pub(super) now: Instant,
    pub(super) sent: Vec<(RequestId, Request)>,
    pub(super) told: Vec<String>,
    pub(super) outcomes: Vec<(CommitId, Result<()>)>,
    pub(super) last_commit: CommitId,
}

impl Fixture {
    pub(super) fn new(config: GroupConfig) -> Self {
        let now = Instant::now();
        let machine = ClassicMember::new(config, 1, now);
        Self { machine, now, sent: Vec::new(), told: Vec::new(), outcomes: Vec::new(), last_commit: 0 }
    }

    /// In generation 5, as a follower, with `t-0` and `t-1`.
    pub(super) fn stable(config: GroupConfig) -> Self {
        let mut fixture = Self::new(config);
        fixture.input(Input::Subscribe(topics(&["t"])));
        fixture.join_and_sync("m", 5, &[("t", &[0, 1])]);
        assert_eq!(fixture.told(), "assigned t-0 t-1");
        fixture
    }

    pub(super) fn input(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.collect();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now);
        self.collect();
    }

    pub(super) fn collect(&mut self) {
        let list = |partitions: Vec<TopicPartition>| {
            partitions.iter().map(|partition| format!(" {partition}")).collect::<String>()
        };
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { request, body } => self.sent.push((request, body)),
                Output::Lookup(topics) => self.told.push(format!("look up {topics:?}")),
                Output::Rediscover => self.told.push("rediscover".into()),
                Output::Assigned(partitions) => self.told.push(format!("assigned{}", list(partitions))),
                Output::Revoked { revocation, partitions } => {
                    self.told.push(format!("revoked #{revocation}{}", list(partitions)));
                }
                Output::Lost(partitions) => self.told.push(format!("lost{}", list(partitions))),
                Output::Failed(error) => {
                    let code =
                        error.error_code().map_or_else(|| error.to_string(), |code| code.name().into());
                    self.told.push(format!("failed {code}"));
                }
                Output::Committed { commit, outcome } => self.outcomes.push((commit, outcome)),
                Output::Left => self.told.push("left".into()),
            }
        }
    }

    pub(super) fn told(&mut self) -> String {
        std::mem::take(&mut self.told).join(", ")
    }

    /// The one request that has been sent since the last look.
    pub(super) fn request(&mut self) -> (RequestId, Request) {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.remove(0)
    }

    pub(super) fn join(&mut self) -> (RequestId, JoinRequest) {
        match self.request() {
            (request, Request::Join(join)) => (request, join),
            (_, other) => panic!("{other:?}"),
        }
    }

    pub(super) fn sync(&mut self) -> (RequestId, SyncRequest) {
        match self.request() {
            (request, Request::Sync(sync)) => (request, sync),
            (_, other) => panic!("{other:?}"),
        }
    }

    pub(super) fn commit_request(&mut self) -> (RequestId, CommitRequest) {
        match self.request() {
            (request, Request::Commit(commit)) => (request, commit),
            (_, other) => panic!("{other:?}"),
        }
    }

    /// The heartbeat that is due next.
    pub(super) fn heartbeat(&mut self) -> RequestId {
        self.pass(Duration::from_secs(3));
        match self.request() {
            (request, Request::Heartbeat(_)) => request,
            (_, other) => panic!("{other:?}"),
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, mut answer: Answer) {
        if let Answer::Join(Ok(joined)) = &mut answer {
            // Unless a test says otherwise, the group uses the only strategy that this member offers.
            joined.protocol.get_or_insert_with(|| self.machine.config.assignors[0].name().to_owned());
        }
        self.input(Input::Answer { request, answer });
    }

    pub(super) fn join_and_sync(&mut self, member_id: &str, generation: i32, assigned: &[(&str, &[i32])]) {
        let (request, _) = self.join();
        self.answer(request, Answer::Join(Ok(joined(member_id, generation, "somebody else", Vec::new()))));
        let (request, _) = self.sync();
        self.answer(request, Answer::Sync(Ok(synced(assigned))));
    }

    pub(super) fn commit(&mut self, partition: i32, offset: i64) -> CommitId {
        self.commit_for(&[(partition, offset)], Duration::from_secs(60))
    }

    pub(super) fn commit_for(&mut self, offsets: &[(i32, i64)], time: Duration) -> CommitId {
        self.last_commit += 1;
        let (commit, offsets, deadline) = (self.last_commit, offsets_of(offsets), self.now + time);
        self.input(Input::Commit { commit, offsets, deadline });
        self.last_commit
    }

    pub(super) fn outcome(&mut self, commit: CommitId) -> Result<()> {
        let place = self.outcomes.iter().position(|(of, _)| *of == commit).expect("an outcome");
        self.outcomes.remove(place).1
    }
}

pub(super) fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

pub(super) fn offsets_of(offsets: &[(i32, i64)]) -> Offsets {
    let offset = |(partition, offset): &(i32, i64)| (t(*partition), OffsetAndMetadata::new(*offset));
    offsets.iter().map(offset).collect()
}

pub(super) fn t(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

pub(super) fn committed(commit: &CommitRequest) -> Vec<(i32, i64)> {
    commit.offsets.iter().map(|(of, offset)| (of.partition, offset.offset)).collect()
}

pub(super) fn codes(of: &[(i32, ErrorCode)]) -> Answer {
    Answer::Commit(of.iter().map(|(partition, code)| (t(*partition), *code)).collect())
}

pub(super) fn eager() -> GroupConfig {
    GroupConfig { assignors: vec![by_name("range").unwrap()], ..GroupConfig::new("g") }
}

pub(super) fn cooperative() -> GroupConfig {
    GroupConfig { assignors: vec![by_name("cooperative-sticky").unwrap()], ..GroupConfig::new("g") }
}

pub(super) fn joined(member_id: &str, generation: i32, leader: &str, members: Vec<JoinedMember>) -> Joined {
    Joined {
        member_id: member_id.into(),
        generation,
        protocol_type: Some("consumer".into()),
        protocol: None,
        leader: leader.into(),
        members,
        skip_assignment: false,
    }
}

pub(super) fn synced(assigned: &[(&str, &[i32])]) -> Synced {
    let assigned: Vec<(&str, Vec<i32>)> = assigned.iter().map(|(topic, of)| (*topic, of.to_vec())).collect();
    let assignment = encode_assignment(3, &assigned, None).unwrap();
    Synced { protocol_type: None, protocol: None, assignment }
}

pub(super) fn subscriber(id: &str, names: &[&str]) -> JoinedMember {
    let metadata = encode_subscription(3, names, None, &[], -1, None).unwrap();
    JoinedMember { id: id.into(), instance_id: None, metadata }
}

pub(super) fn silence() -> Answer {
    Answer::Failed(kafka_client::Error::timed_out("test", Duration::from_secs(30)))
}

pub(super) fn too_old() -> Answer {
    let kind = kafka_client::ErrorKind::UnsupportedVersion {
        api: Api::JoinGroup,
        needed: Api::JoinGroup.versions(),
        broker: None,
        node: None,
        feature: None,
    };
    Answer::Failed(kind.into())
}
