//! What happens when the group gives this consumer partitions or takes them: the application's hook, and the steps
//! around it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kafka_client::TopicPartition;
use tokio::sync::mpsc;

use crate::error::Result;
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
    listener: Arc<dyn RebalanceListener>,
    step: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
}

impl Rebalance {
    pub(crate) fn new(
        events: Option<mpsc::UnboundedReceiver<GroupEvent>>,
        listener: Arc<dyn RebalanceListener>,
    ) -> Self {
        Self { events, listener, step: None }
    }

    /// Takes every step that is due. Ready when there is none under way, so that records may be handed out.
    pub(crate) fn poll_steps(&mut self, cx: &mut Context<'_>, consumer: &ConsumerHandle) -> Poll<Result<()>> {
        loop {
            if let Some(step) = &mut self.step {
                let result = ready!(step.as_mut().poll(cx));
                self.step = None;
                result?;
            }
            let Some(events) = &mut self.events else { return Poll::Ready(Ok(())) };
            match events.poll_recv(cx) {
                Poll::Ready(Some(event)) => {
                    let (consumer, listener) = (consumer.clone(), Arc::clone(&self.listener));
                    self.step = Some(Box::pin(async move { step(&consumer, &*listener, event).await }));
                }
                Poll::Ready(None) => self.events = None,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}

async fn step(consumer: &ConsumerHandle, listener: &dyn RebalanceListener, event: GroupEvent) -> Result<()> {
    match event {
        GroupEvent::Assigned(partitions) => {
            if partitions.is_empty() {
                return Ok(());
            }
            tracing::debug!(?partitions, "partitions assigned");
            let shared = consumer.shared();
            {
                let mut state = shared.state();
                state.track(&partitions);
                state.subscription.assign(partitions.iter().cloned(), true);
            }
            listener.assigned(consumer, &partitions).await;
            shared.state().wake_all();
            shared.fetch.notify_one();
            Ok(())
        }
        GroupEvent::Revoked(partitions, release) => {
            revoke(consumer, listener, &partitions, release).await;
            Ok(())
        }
        GroupEvent::Lost(partitions) => {
            tracing::warn!(?partitions, "partitions lost");
            drop_partitions(consumer, &partitions);
            listener.lost(consumer, &partitions).await;
            Ok(())
        }
        GroupEvent::Failed(error) => Err(error),
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
        state.subscription.start_revoking(partitions);
        state.wake_all();
        state.acks_of(partitions)
    };
    for acks in under_way {
        acks.settled().await;
    }
    listener.revoked(consumer, partitions).await;
    let offsets = if shared.config.auto_commit {
        shared.state().subscription.acked(Some(partitions))
    } else {
        Default::default()
    };
    drop_partitions(consumer, partitions);
    release.with(offsets);
}

fn drop_partitions(consumer: &ConsumerHandle, partitions: &[TopicPartition]) {
    let shared = consumer.shared();
    let mut state = shared.state();
    for partition in partitions {
        if let Some(claim) = state.subscription.claim(partition) {
            state.acks.remove(&claim);
        }
    }
    state.subscription.unassign(partitions);
    state.wake_all();
    drop(state);
    shared.fetch.notify_one();
}
