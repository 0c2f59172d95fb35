//! Takes a fetch response apart and hands each partition's part to the subscription.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_client::raw::{Broker, Metadata};
use kafka_client::{IsolationLevel, NodeId};
use kafka_wire::address::NodeAddress;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::{LeaderHint, PartitionResponseView, ResponseView};
use kafka_wire::record_batch::BatchError;
use tokio::time::Instant;

use super::Fetched;
use super::session::{Asked, FetchSession};
use crate::buffer::{Aborted, AbortedFilter, Frame, Run};
use crate::error::{Error, ErrorKind};
use crate::shared::Shared;
use crate::subscription::{Fit, Ticket};

/// Takes an answer. `None` if something came of it, or of all of it the same error; else the partitions that were told
/// something about, and ask again when that allows it.
pub(super) fn take(
    shared: &Shared,
    node: NodeId,
    session: &mut FetchSession,
    fetched: &Fetched,
) -> Option<HashSet<Ticket>> {
    let response = match ResponseView::decode(fetched.version, &fetched.body) {
        Ok(response) => response,
        Err(error) => {
            unreadable(shared, session, fetched.connection.fail(error).into());
            return None;
        }
    };
    let code = ErrorCode(response.error_code);
    if !code.is_ok() {
        tracing::debug!(node, %code, "the broker refused a fetch");
        refused(shared, node, session, code);
        return None;
    }
    let mut answer = Answer {
        shared,
        node,
        metadata: shared.client.metadata(),
        body: &fetched.body,
        frame: None,
        stale_metadata: false,
        hints: Vec::new(),
        has_data: false,
        told: HashSet::new(),
    };
    let mut out_of_step = false;
    for part in response.partitions() {
        match session.asked(part.topic, part.status.index) {
            Some(asked) => answer.part(asked, &part),
            // What was not asked for is not ours to judge, but the session is not what we think it is.
            None => out_of_step = true,
        }
    }
    let left_out = session.left_out();
    out_of_step |= !left_out.is_empty();
    shared.state().subscription.node_failed(left_out, node, Instant::now());
    session.answered(response.session_id);
    if out_of_step {
        tracing::debug!(node, "the broker does not answer what it was asked");
        session.failed(None);
    }
    let Answer { mut stale_metadata, hints, has_data, told, .. } = answer;
    if !hints.is_empty() {
        let brokers: Vec<Broker> = response
            .node_endpoints
            .filter_map(|endpoint| {
                let port = u16::try_from(endpoint.port).ok();
                let port = port.filter(|port| *port != 0 && !endpoint.host.is_empty())?;
                Some(Broker::new(endpoint.node_id, NodeAddress::new(endpoint.host, port)))
            })
            .collect();
        for (asked, leader) in hints {
            let refresher = shared.client.refresher();
            if refresher.leader_hint(&asked.partition, leader.leader_id, leader.leader_epoch, &brokers) {
                shared.state().subscription.retry_now(asked.ticket);
            } else {
                stale_metadata = true;
            }
        }
    }
    if stale_metadata {
        shared.client.refresher().request("a broker refused to serve a partition");
    }
    (!has_data).then_some(told)
}

/// Asking again may bring the same, so the caller has to know.
fn unreadable(shared: &Shared, session: &mut FetchSession, error: Error) {
    tracing::warn!(%error, "a fetch response cannot be read");
    let mut state = shared.state();
    let now = Instant::now();
    for ticket in session.tickets() {
        state.subscription.refuse(ticket, error.clone(), now);
    }
    state.wake_all();
    session.failed(None);
}

fn refused(shared: &Shared, node: NodeId, session: &mut FetchSession, code: ErrorCode) {
    let session_is_gone = matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    // A request that begins a session can be wrong about none.
    if !session_is_gone || session.is_full() {
        shared.state().subscription.node_failed(session.tickets(), node, Instant::now());
    }
    if !session_is_gone || code == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR {
        shared.client.refresher().request("a broker refused a fetch");
    }
    session.failed(Some(code));
}

struct Answer<'a> {
    shared: &'a Shared,
    node: NodeId,
    metadata: Arc<Metadata>,
    body: &'a Bytes,
    /// The memory of the answer, if anything of it is kept.
    frame: Option<Arc<Frame>>,
    stale_metadata: bool,
    hints: Vec<(Asked, LeaderHint)>,
    has_data: bool,
    /// What to wait for is known of these: an error, a better place to ask.
    told: HashSet<Ticket>,
}

impl Answer<'_> {
    fn part(&mut self, asked: Asked, part: &PartitionResponseView<'_>) {
        let code = ErrorCode(part.status.error_code);
        if code.is_ok() {
            self.data(&asked, part);
        } else {
            self.error(asked, part, code);
        }
    }

    fn error(&mut self, asked: Asked, part: &PartitionResponseView<'_>, code: ErrorCode) {
        let (ticket, now) = (asked.ticket, Instant::now());
        self.told.insert(ticket);
        let mut state = self.shared.state();
        let fit = state.subscription.fits(ticket, asked.offset, asked.topic_id);
        if fit == Fit::OtherTopic && code == ErrorCode::OFFSET_OUT_OF_RANGE {
            drop(state);
            return self.created_anew(ticket);
        }
        let is_stale = state.subscription.fetch_failed(ticket, asked.offset, self.node, code, now);
        let claim = state.subscription.claim_of(ticket);
        state.wake(claim);
        drop(state);
        match part.status.current_leader.filter(|_| is_stale) {
            Some(leader) => self.hints.push((asked, leader)),
            None => self.stale_metadata |= is_stale,
        }
    }

    fn data(&mut self, asked: &Asked, part: &PartitionResponseView<'_>) {
        let (ticket, node, now) = (asked.ticket, self.node, Instant::now());
        let status = &part.status;
        {
            let mut state = self.shared.state();
            let subscription = &mut state.subscription;
            match subscription.fits(ticket, asked.offset, asked.topic_id) {
                Fit::Stale => return,
                Fit::OtherTopic => {
                    drop(state);
                    return self.created_anew(ticket);
                }
                Fit::Yes => {}
            }
            subscription.watermarks(ticket, status.high_watermark, status.last_stable_offset);
            if status.diverging_epoch.is_some() {
                self.told.insert(ticket);
                return subscription.diverged(ticket, now);
            }
            let preferred = status.preferred_read_replica;
            if part.records.is_empty() && preferred >= 0 && preferred != node {
                self.told.insert(ticket);
                let is_known = self.metadata.broker(preferred).is_some();
                self.stale_metadata |= !is_known;
                return subscription.prefer(ticket, preferred, is_known, now);
            }
        }
        if part.records.is_empty() {
            return;
        }
        self.has_data = true;
        let (run, failure) = self.run(asked.offset, part);
        let mut state = self.shared.state();
        match (run, failure) {
            // Behind good batches the bad one comes first next time, and is told of then.
            (Some(run), _) if state.subscription.fits(ticket, asked.offset, asked.topic_id) == Fit::Yes => {
                state.subscription.push(ticket, run, asked.topic_id);
            }
            (None, Some(source)) => {
                let (partition, offset) = (asked.partition.clone(), asked.offset);
                let error = Error::new(ErrorKind::Corrupt { partition, offset, source });
                state.subscription.fetch_corrupt(ticket, error, now);
            }
            _ => return,
        }
        let claim = state.subscription.claim_of(ticket);
        state.wake(claim);
    }

    /// Walks the batches, with nothing locked: there may be many.
    fn run(&mut self, offset: i64, part: &PartitionResponseView<'_>) -> (Option<Run>, Option<BatchError>) {
        let config = &self.shared.config;
        let filter = (config.isolation == IsolationLevel::ReadCommitted).then(|| {
            let aborted = part.aborted_transactions.map(|transaction| Aborted {
                producer_id: transaction.producer_id,
                first_offset: transaction.first_offset,
            });
            AbortedFilter::new(aborted.collect())
        });
        let frame =
            self.frame.get_or_insert_with(|| self.shared.state().subscription.held().frame(self.body.len()));
        Run::read(self.body.slice_ref(part.records), offset, filter, config.check_crcs, frame)
    }

    fn created_anew(&mut self, ticket: Ticket) {
        self.told.insert(ticket);
        let mut state = self.shared.state();
        let claim = state.subscription.claim_of(ticket);
        if state.subscription.created_anew(ticket) {
            state.restart_acks(claim);
        }
        state.wake(claim);
    }
}
