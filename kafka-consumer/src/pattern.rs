//! Subscribes to the topics whose names an application's function likes, as they come and go.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::stream;
use kafka_client::Client;

use crate::shared::Shared;

/// Whether a topic of this name is wanted.
pub(crate) type Wanted = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Gives an item whenever the metadata has changed, and one at the start.
pub(crate) type Changes = Pin<Box<dyn Stream<Item = ()> + Send + Sync>>;

pub(crate) fn changes(client: &Client) -> Changes {
    let mut changes = client.refresher().subscribe();
    changes.mark_changed();
    Box::pin(stream::unfold(changes, |mut changes| async move {
        changes.changed().await.ok()?;
        Some(((), changes))
    }))
}

/// A pattern, and what it matched last.
pub(crate) struct PatternSubscription {
    wanted: Wanted,
    include_internal: bool,
    changes: Changes,
    topics: Option<BTreeSet<Arc<str>>>,
}

impl PatternSubscription {
    pub(crate) fn new(wanted: Wanted, include_internal: bool, changes: Changes) -> Self {
        Self { wanted, include_internal, changes, topics: None }
    }

    /// Tells the group when other topics match than before.
    pub(crate) fn poll_topics(&mut self, cx: &mut Context<'_>, shared: &Shared) {
        while let Poll::Ready(Some(())) = self.changes.as_mut().poll_next(cx) {
            let topics = self.matching(&shared.client);
            if self.topics.as_ref() == Some(&topics) || (self.topics.is_none() && topics.is_empty()) {
                continue;
            }
            tracing::debug!(?topics, "topics that match the pattern");
            if let Some(group) = &shared.group {
                group.subscribe(topics.clone());
            }
            self.topics = Some(topics);
        }
    }

    fn matching(&self, client: &Client) -> BTreeSet<Arc<str>> {
        let metadata = client.metadata();
        let topics = metadata.topics().filter(|topic| {
            topic.partition_count() > 0
                && (self.include_internal || !topic.is_internal())
                && (self.wanted)(topic.name())
        });
        topics.map(|topic| Arc::clone(topic.name())).collect()
    }
}

impl fmt::Debug for PatternSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternSubscription").field("topics", &self.topics).finish_non_exhaustive()
    }
}
