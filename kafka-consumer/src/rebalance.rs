//! What happens when the group gives this consumer partitions or takes them: the application's hook, and the steps
//! around it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kafka_client::TopicPartition;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::group::{GroupEvent, Release};
use crate::handle::ConsumerHandle;

/// A boxed future, as a hook returns it.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The application's part in a rebalance. Every method may be left out.
///
/// Hooks run inside the consumer's own methods (`next`, `next_batch`, `close`), never beside them, and those wait for
/// them.
pub trait RebalanceListener: Send + Sync + 'static {
    /// The partitions were added; nothing of them has been handed out yet. A seek in here takes effect before the first
    /// record.
    fn assigned<'a>(
        &'a self,
        consumer: &'a ConsumerHandle,
        partitions: &'a [TopicPartition],
    ) -> HookFuture<'a> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// The partitions are to be let go of; nothing of them is handed out any more. The group waits, so this is the place
    /// to finish what is under way and to commit it. Too long, `max.poll.interval.ms`, and the group goes on without.
    fn revoked<'a>(
        &'a self,
        consumer: &'a ConsumerHandle,
        partitions: &'a [TopicPartition],
    ) -> HookFuture<'a> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// The partitions are gone and may be with another consumer already: drop what is under way, a commit would fail.
    fn lost<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }
}

/// A listener that does nothing.
#[derive(Debug)]
pub(crate) struct NoListener;

impl RebalanceListener for NoListener {}

/// Follows the group's events, one after the other. A step that was begun goes on with the next poll, whatever happens
/// to the future that began it.
pub(crate) struct Rebalance {
    events: Option<mpsc::UnboundedReceiver<GroupEvent>>,
    /// Came while a step was under way.
    waiting: VecDeque<GroupEvent>,
    listener: Arc<dyn RebalanceListener>,
    step: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Why the membership is over, if it is: nothing is read any more.
    ended: Option<Error>,
}

impl Rebalance {
    pub(crate) fn new(
        events: Option<mpsc::UnboundedReceiver<GroupEvent>>,
        listener: Arc<dyn RebalanceListener>,
    ) -> Self {
        Self { events, waiting: VecDeque::new(), listener, step: None, ended: None }
    }

    /// Takes every step that is due. Ready when there is none under way, so that records may be handed out.
    ///
    /// # Errors
    /// The end of the membership, with every call.
    pub(crate) fn poll_steps(&mut self, cx: &mut Context<'_>, consumer: &ConsumerHandle) -> Poll<Result<()>> {
        loop {
            self.poll_events(cx, consumer);
            if let Some(step) = &mut self.step {
                ready!(step.as_mut().poll(cx));
                self.step = None;
                continue;
            }
            match self.waiting.pop_front() {
                Some(GroupEvent::Failed(source)) => {
                    let group = consumer.config().group_id.clone().unwrap_or_default();
                    self.ended = Some(ErrorKind::MembershipEnded { group, source }.into());
                }
                Some(event) => {
                    let (consumer, listener) = (consumer.clone(), Arc::clone(&self.listener));
                    self.step = Some(Box::pin(async move { step(&consumer, &*listener, event).await }));
                }
                None => return Poll::Ready(self.ended.clone().map_or(Ok(()), Err)),
            }
        }
    }

    fn poll_events(&mut self, cx: &mut Context<'_>, consumer: &ConsumerHandle) {
        while let Some(events) = &mut self.events {
            match events.poll_recv(cx) {
                Poll::Ready(Some(event)) => {
                    if let GroupEvent::Lost(partitions) = &event {
                        // Others may have them already: their streams must not wait for the steps before.
                        consumer.shared().state().stop(partitions);
                    }
                    self.waiting.push_back(event);
                }
                Poll::Ready(None) => self.events = None,
                Poll::Pending => return,
            }
        }
    }
}

async fn step(consumer: &ConsumerHandle, listener: &dyn RebalanceListener, event: GroupEvent) {
    let shared = consumer.shared();
    match event {
        GroupEvent::Assigned(partitions) if !partitions.is_empty() => {
            tracing::debug!(?partitions, "partitions assigned");
            shared.state().assign(&partitions, true);
            listener.assigned(consumer, &partitions).await;
            shared.state().wake_all();
            shared.fetch.notify_one();
        }
        GroupEvent::Revoked(partitions, release) => revoke(consumer, listener, &partitions, release).await,
        GroupEvent::Lost(partitions) => {
            tracing::warn!(?partitions, "partitions lost");
            shared.state().unassign(&partitions);
            shared.fetch.notify_one();
            listener.lost(consumer, &partitions).await;
        }
        GroupEvent::Assigned(_) | GroupEvent::Failed(_) => {}
    }
}

async fn revoke(
    consumer: &ConsumerHandle,
    listener: &dyn RebalanceListener,
    partitions: &[TopicPartition],
    release: Release,
) {
    tracing::debug!(?partitions, "partitions revoked");
    let shared = consumer.shared();
    let under_way = {
        let mut state = shared.state();
        state.stop(partitions);
        state.acks_of(partitions)
    };
    for acks in under_way {
        acks.settled().await;
    }
    listener.revoked(consumer, partitions).await;
    let offsets = {
        let mut state = shared.state();
        let auto_commit = shared.config.auto_commit;
        let offsets = auto_commit.then(|| state.subscription.acked(Some(partitions)));
        state.unassign(partitions);
        offsets.unwrap_or_default()
    };
    shared.fetch.notify_one();
    release.with(offsets);
}
