//! The members' requests in the coordinator's words, and its answers in theirs.

use super::*;

pub(super) fn to_broker(
    body: Request,
    instance_id: Option<String>,
) -> (broker::Input, Vec<(TopicPartition, i64)>, String) {
    match body {
        Request::Join(join) => {
            let protocols =
                join.protocols.into_iter().map(|(name, metadata)| (name.to_string(), metadata)).collect();
            let input = broker::Input::Join(broker::JoinRequest {
                member_id: join.member_id.to_string(),
                instance_id,
                client_id: "simulated".into(),
                protocol_type: "consumer".into(),
                protocols,
                session_timeout: SESSION_TIMEOUT,
                rebalance_timeout: MAX_POLL_INTERVAL,
                requires_member_id: true,
                supports_skip_assignment: true,
                ..broker::JoinRequest::default()
            });
            (input, Vec::new(), join.member_id.to_string())
        }
        Request::Sync(sync) => {
            let assignments =
                sync.assignments.into_iter().map(|(id, bytes)| (id.to_string(), bytes)).collect();
            let input = broker::Input::Sync(broker::SyncRequest {
                member_id: sync.member_id.to_string(),
                instance_id,
                generation: sync.generation,
                protocol_type: Some("consumer".into()),
                protocol: Some(sync.protocol.to_string()),
                assignments,
            });
            (input, Vec::new(), sync.member_id.to_string())
        }
        Request::Heartbeat(heartbeat) => {
            let input = broker::Input::Heartbeat(broker::HeartbeatRequest {
                member_id: heartbeat.member_id.to_string(),
                instance_id,
                generation: heartbeat.generation,
            });
            (input, Vec::new(), heartbeat.member_id.to_string())
        }
        Request::Leave(leave) => {
            let member = broker::LeavingMember { member_id: leave.member_id.to_string(), instance_id };
            (
                broker::Input::Leave(broker::LeaveRequest { members: vec![member] }),
                Vec::new(),
                leave.member_id.to_string(),
            )
        }
        Request::Commit(commit) => {
            let offset = |(partition, offset): &(TopicPartition, OffsetAndMetadata)| broker::OffsetCommit {
                topic: Arc::clone(&partition.topic),
                partition: partition.partition,
                offset: offset.offset,
                leader_epoch: -1,
                metadata: String::new(),
            };
            let input = broker::Input::Commit(broker::CommitRequest {
                member_id: commit.member_id.to_string(),
                instance_id,
                generation: commit.generation,
                offsets: commit.offsets.iter().map(offset).collect(),
            });
            let offsets = commit.offsets.iter().map(|(partition, offset)| (partition.clone(), offset.offset));
            (input, offsets.collect(), commit.member_id.to_string())
        }
    }
}

pub(super) fn refusal(input: &broker::Input, error: broker::GroupError) -> broker::Reply {
    match input {
        broker::Input::Join(join) => {
            broker::Reply::Join(Err(broker::JoinRejected { error, member_id: join.member_id.clone() }))
        }
        broker::Input::Sync(_) => broker::Reply::Sync(Err(error)),
        broker::Input::Heartbeat(_) => broker::Reply::Heartbeat(Err(error)),
        broker::Input::Leave(_) => broker::Reply::Leave(Err(error)),
        _ => broker::Reply::Commit(Err(error)),
    }
}

pub(super) fn from_broker(reply: broker::Reply, committed: &[(TopicPartition, i64)]) -> Answer {
    let code = |error: broker::GroupError| ErrorCode(error.code());
    match reply {
        broker::Reply::Join(Ok(joined)) => Answer::Join(Ok(Joined {
            member_id: joined.member_id.into(),
            generation: joined.generation,
            protocol_type: Some(joined.protocol_type),
            protocol: Some(joined.protocol),
            leader: joined.leader,
            skip_assignment: joined.skip_assignment,
            members: joined
                .members
                .into_iter()
                .map(|member| JoinedMember {
                    id: member.member_id.into(),
                    instance_id: member.instance_id.map(Into::into),
                    metadata: member.metadata,
                })
                .collect(),
        })),
        broker::Reply::Join(Err(rejected)) => Answer::Join(Err(JoinRejected {
            code: code(rejected.error),
            member_id: rejected.member_id.into(),
        })),
        broker::Reply::Sync(synced) => Answer::Sync(
            synced
                .map(|synced| Synced {
                    protocol_type: Some(synced.protocol_type),
                    protocol: Some(synced.protocol),
                    assignment: synced.assignment,
                })
                .map_err(code),
        ),
        broker::Reply::Heartbeat(outcome) => Answer::Heartbeat(outcome.map_err(code)),
        broker::Reply::Leave(outcome) => {
            let of_member = outcome.and_then(|members| members.into_iter().next().unwrap_or(Ok(())));
            Answer::Leave(of_member.map_err(code))
        }
        broker::Reply::Commit(outcome) => {
            let code_of = |place: usize| match &outcome {
                Ok(results) => results[place].map_or_else(code, |()| ErrorCode(0)),
                Err(error) => code(*error),
            };
            let codes = committed.iter().enumerate().map(|(place, (of, _))| (of.clone(), code_of(place)));
            Answer::Commit(codes.collect())
        }
        other => panic!("{other:?}"),
    }
}
