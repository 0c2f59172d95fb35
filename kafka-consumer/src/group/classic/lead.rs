//! What the leader of a group does: reads everybody's subscription, assigns, and notices when topics change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_client::types::TopicPartition;
use kafka_wire::api::Api;
use kafka_wire::consumer_protocol::{
    Names, Subscription, TopicPartitions, VERSION, encode_assignment, put_topic_partitions,
};
use kafka_wire::error::ProtocolErrorKind;
use kafka_wire::primitives::{Reader, put_length, put_string};

use super::{ClassicMember, Output, Phase};
use crate::group::assignor::{self, Member, PartitionAssignor, Topics};
use crate::group::by_topic;
use crate::group::messages::{Joined, JoinedMember, Request, SyncRequest};

/// A group that waits for its leader's assignment.
#[derive(Debug)]
pub(super) struct Lead {
    assignor: Arc<dyn PartitionAssignor>,
    /// Members whose subscription could be read.
    members: Vec<Member>,
    /// All of them.
    ids: Vec<Arc<str>>,
    leader: Arc<str>,
    /// The coordinator keeps the assignment that it has (KIP-814); only the topics are to be watched.
    skip: bool,
}

impl ClassicMember {
    /// This member was made the leader: asks what there is to assign.
    pub(super) fn lead(&mut self, joined: Joined, assignor: Arc<dyn PartitionAssignor>) {
        let ids = joined.members.iter().map(|member| Arc::clone(&member.id)).collect();
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            match read_member(member) {
                Ok(member) => members.push(member),
                // Written by another process: its bytes must not stop the whole group.
                Err(fault) => tracing::error!(
                    group = %self.config.group, member = %member.id, %fault,
                    "a member's subscription cannot be read; it gets no partitions"
                ),
            }
        }
        let topics = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        self.outputs.push_back(Output::Lookup(topics));
        let (leader, skip) = (joined.member_id, joined.skip_assignment);
        self.phase = Phase::Assigning(Lead { assignor, members, ids, leader, skip });
    }

    /// The topics of the group that this member leads are known, or have changed.
    pub(super) fn learn(&mut self, topics: Topics) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Assigning(lead) => {
                let assignments = match lead.assign(&topics) {
                    Ok(assignments) => assignments,
                    Err(fault) => {
                        let error = kafka_client::ErrorKind::Encode(fault.at(Api::SyncGroup as i16, VERSION));
                        return self.fail(kafka_client::Error::from(error).into());
                    }
                };
                self.led = Some(topics);
                self.sync(lead.assignor.name().into(), assignments);
            }
            phase => {
                self.phase = phase;
                if self.led.as_ref().is_some_and(|led| *led != topics) {
                    // Compared with what comes next, so that one change makes one rebalance.
                    self.led = Some(topics);
                    self.rejoin = Some("cached metadata has changed");
                }
            }
        }
    }

    pub(super) fn sync(&mut self, protocol: Arc<str>, assignments: Vec<(Arc<str>, Bytes)>) {
        let (member_id, generation) = (Arc::clone(&self.member_id), self.generation);
        let request = self.send(Request::Sync(SyncRequest { member_id, generation, protocol, assignments }));
        self.phase = Phase::Syncing(request);
    }

    /// Reads how the assignment that this member was given was made, if its leader has noted that.
    pub(super) fn recall(&mut self, user_data: Option<&[u8]>, now: Instant) {
        let Some(memo) = user_data.and_then(Memo::read) else { return };
        if memo.subscription != self.joined_topics {
            self.rejoin = Some("subscription has changed");
        }
        let Some(led) = &self.led else { return };
        if memo.topics != *led {
            self.rejoin = Some("cached metadata has changed");
        }
        if memo.held_back > 0 {
            // Whoever was to let go of it may have come back without it, and then begins no rebalance.
            self.follow_up = Some(now + self.config.session_timeout);
        }
    }

    /// Stops watching topics on behalf of the group.
    pub(super) fn stop_leading(&mut self) {
        if self.led.take().is_some() || matches!(self.phase, Phase::Assigning(_)) {
            self.outputs.push_back(Output::Lookup(BTreeSet::new()));
        }
    }
}

impl Lead {
    fn assign(&self, topics: &Topics) -> Result<Vec<(Arc<str>, Bytes)>, ProtocolErrorKind> {
        if self.skip {
            return Ok(Vec::new());
        }
        let (assigned, held_back) = assignor::assign_as_leader(&*self.assignor, topics, &self.members);
        let memo = |id: &Arc<str>| {
            let member = self.members.iter().find(|member| member.id == *id)?;
            let leads = *id == self.leader;
            // Only these may be given an assignment that was not made for them as they are now.
            (leads || member.instance_id.is_some()).then(|| Memo {
                subscription: member.topics.iter().cloned().collect(),
                topics: if leads { topics.clone() } else { Topics::default() },
                held_back,
            })
        };
        let encode = |id: &Arc<str>| {
            let partitions = assigned.get(id).map_or(&[][..], Vec::as_slice);
            let memo = memo(id).map(|memo| memo.encode()).transpose()?;
            Ok((Arc::clone(id), encode_assignment(VERSION, &by_topic(partitions), memo.as_deref())?))
        };
        self.ids.iter().map(encode).collect()
    }
}

fn read_member(joined: &JoinedMember) -> Result<Member, ProtocolErrorKind> {
    let subscription = Subscription::parse(&joined.metadata)?;
    let mut member = Member::new(Arc::clone(&joined.id), subscription.topics.iter());
    member.instance_id = joined.instance_id.clone();
    member.generation = Some(subscription.generation).filter(|generation| *generation >= 0);
    member.rack = subscription.rack.filter(|rack| !rack.is_empty()).map(Into::into);
    member.user_data = subscription.user_data.map(Bytes::copy_from_slice);
    for (topic, partitions) in subscription.owned.iter() {
        let topic: Arc<str> = topic.into();
        member.owned.extend(partitions.map(|partition| TopicPartition::new(Arc::clone(&topic), partition)));
    }
    Ok(member)
}

/// What a memo begins with: leaders of another make may write what they like.
const MEMO: &[u8; 4] = b"memo";

/// What a leader notes in an assignment about how it was made. A static member that restarts is given its old assignment
/// back (KIP-345), and as leader told not to make a new one (KIP-814), whatever has changed in the meantime: only the
/// note tells it.
struct Memo {
    /// The topics that the member subscribed to.
    subscription: BTreeSet<Arc<str>>,
    /// The topics of the whole group, for its leader.
    topics: Topics,
    /// How many partitions nobody was given, because somebody had to let go of them first.
    held_back: usize,
}

impl Memo {
    fn encode(&self) -> Result<BytesMut, ProtocolErrorKind> {
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let mut out = BytesMut::from(&MEMO[..]);
        put_length(&mut out, Some(self.subscription.len()), false)?;
        for topic in &self.subscription {
            put_string(&mut out, topic, false)?;
        }
        let counts: Vec<(&Arc<str>, Vec<i32>)> =
            self.topics.iter().map(|(topic, partitions)| (topic, vec![number(partitions)])).collect();
        put_topic_partitions(&mut out, &counts)?;
        out.put_i32(number(self.held_back));
        Ok(out)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.strip_prefix(MEMO)?);
        let subscription = Names::parse(&mut reader).ok()?.iter().map(Arc::from).collect();
        let counts = TopicPartitions::parse(&mut reader).ok()?;
        let topic =
            |(topic, mut count): (_, _)| Some((topic, usize::try_from(Iterator::next(&mut count)?).ok()?));
        let topics = counts.iter().map(topic).collect::<Option<_>>()?;
        Some(Self { subscription, topics, held_back: usize::try_from(reader.i32().ok()?).ok()? })
    }
}
