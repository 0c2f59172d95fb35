//! Takes a fetch response apart and hands each partition's part to the subscription.

use bytes::Bytes;
use kafka_client::raw::Broker;
use kafka_client::{IsolationLevel, NodeId, TopicPartition};
use kafka_wire::address::NodeAddress;
use kafka_wire::compression::Decompressor;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{PartitionResponseView, ResponseView};
use kafka_wire::record_batch::{BatchError, batches};
use tokio::time::Instant;

use super::Fetched;
use super::aborted::{Aborted, AbortedFilter};
use super::session::FetchSession;
use crate::error::{Error, ErrorKind};
use crate::shared::{Shared, State};
use crate::subscription::{Queued, Ticket};

/// Marks a control batch of a transaction is small; what does not fit into this is none.
const MAX_CONTROL_BATCH: usize = 1 << 20;

pub(super) fn take(shared: &Shared, node: NodeId, session: &mut FetchSession, fetched: &Fetched) {
    let response = match ResponseView::decode(fetched.version, &fetched.body) {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(node, %error, "a fetch response cannot be read");
            fail_all(shared, node, session, None);
            return;
        }
    };
    let code = ErrorCode(response.error_code);
    if !code.is_ok() {
        tracing::debug!(node, %code, "the broker refused a fetch");
        fail_all(shared, node, session, Some(code));
        return;
    }
    session.answered(response.session_id);
    let brokers: Vec<Broker> = response
        .node_endpoints
        .filter_map(|endpoint| {
            let port =
                u16::try_from(endpoint.port).ok().filter(|port| *port != 0 && !endpoint.host.is_empty())?;
            Some(Broker::new(endpoint.node_id, NodeAddress::new(endpoint.host, port)))
        })
        .collect();
    let mut stale_metadata = false;
    let mut hints = Vec::new();
    let mut out_of_step = false;
    {
        let mut state = shared.state();
        let now = Instant::now();
        for part in response.partitions() {
            let Some((partition, ticket, offset)) = session.asked(part.topic, part.status.index) else {
                // What was not asked for is not ours to judge, but the session is not what we think it is.
                out_of_step = true;
                continue;
            };
            let code = ErrorCode(part.status.error_code);
            if code.is_ok() {
                data(&mut state, shared, node, ticket, &partition, offset, &part, &fetched.body, now);
                continue;
            }
            stale_metadata |= state.subscription.fetch_failed(ticket, node, code, now);
            if let Some(leader) = part.status.current_leader {
                hints.push((partition, leader));
            }
            let claim = state.subscription.claim_of(ticket);
            state.wake(claim);
        }
    }
    if out_of_step {
        session.failed(None);
    }
    for (partition, leader) in hints {
        shared.client.refresher().leader_hint(&partition, leader.leader_id, leader.leader_epoch, &brokers);
    }
    if stale_metadata {
        shared.client.refresher().request("a broker refused to serve a partition");
    }
}

fn fail_all(shared: &Shared, node: NodeId, session: &mut FetchSession, code: Option<ErrorCode>) {
    let session_is_gone = matches!(
        code,
        Some(
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
                | ErrorCode::INVALID_FETCH_SESSION_EPOCH
                | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
        )
    );
    if !session_is_gone {
        shared.state().subscription.node_failed(session.tickets(), node, Instant::now());
        shared.client.refresher().request("a broker refused a fetch");
    }
    session.failed(code);
}

#[allow(clippy::too_many_arguments, reason = "one caller, and a struct would only name them twice")]
fn data(
    state: &mut State,
    shared: &Shared,
    node: NodeId,
    ticket: Ticket,
    partition: &TopicPartition,
    offset: i64,
    part: &PartitionResponseView<'_>,
    body: &Bytes,
    now: Instant,
) {
    let subscription = &mut state.subscription;
    if !subscription.expects(ticket, offset) {
        return;
    }
    let status = &part.status;
    subscription.watermarks(
        ticket,
        status.high_watermark,
        status.last_stable_offset,
        status.log_start_offset,
    );
    if status.diverging_epoch.is_some() {
        subscription.diverged(ticket);
        return;
    }
    if status.preferred_read_replica >= 0 && status.preferred_read_replica != node && part.records.is_empty()
    {
        subscription.prefer(ticket, status.preferred_read_replica, now);
        return;
    }
    if part.records.is_empty() {
        return;
    }
    let mut filter = (shared.config.isolation == IsolationLevel::ReadCommitted).then(|| {
        let aborted = part.aborted_transactions.map(|transaction| Aborted {
            producer_id: transaction.producer_id,
            first_offset: transaction.first_offset,
        });
        AbortedFilter::new(aborted.collect())
    });
    let mut decompressor = Decompressor::new(MAX_CONTROL_BATCH);
    let mut woken = false;
    let mut whole = 0;
    let mut walk = batches(body.slice_ref(part.records));
    let failure = loop {
        let batch = match walk.next() {
            None => break None,
            Some(Ok(batch)) => batch,
            Some(Err(error)) => break Some(error),
        };
        whole += 1;
        let header = batch.header;
        if header.last_offset() < offset {
            continue;
        }
        let admitted = match &mut filter {
            Some(filter) => match filter.admits(&batch, &mut decompressor) {
                Ok(admitted) => admitted,
                Err(error) => break Some(error),
            },
            None => !header.is_control(),
        };
        woken |= subscription.push(
            ticket,
            Queued {
                batch: (admitted && header.record_count > 0).then_some(batch),
                next_offset: header.last_offset() + 1,
                leader_epoch: (header.partition_leader_epoch >= 0).then_some(header.partition_leader_epoch),
            },
        );
    };
    // A broker sends the first batch whole, however large: a part of one alone can never become more.
    let failure = failure.or_else(|| {
        let available = walk.rest().len();
        (whole == 0).then_some(BatchError::Truncated { needed: available + 1, available })
    });
    if let Some(source) = failure
        && !woken
    {
        // Behind good batches the bad one comes first next time, and is told of then.
        let error = Error::new(ErrorKind::Corrupt { partition: partition.clone(), offset, source });
        subscription.fetch_corrupt(ticket, error, now);
        woken = true;
    }
    if woken {
        let claim = subscription.claim_of(ticket);
        state.wake(claim);
    }
}
