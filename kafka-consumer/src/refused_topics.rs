//! Tells the application of topics that it subscribed to and that the cluster refuses to it: nobody is assigned partitions of
//! these, so without a word it would wait for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use kafka_client::Client;
use kafka_client::raw::Metadata;
use kafka_wire::error_code::ErrorCode;

use crate::error::{Error, ErrorKind};
use crate::pattern::Changes;

/// The topics subscribed to by name.
pub(crate) struct RefusedTopics {
    topics: Vec<Arc<str>>,
    changes: Changes,
    /// What was seen last of each that is refused.
    refused: HashMap<Arc<str>, ErrorCode>,
    /// Not told yet.
    waiting: VecDeque<Error>,
}

impl RefusedTopics {
    pub(crate) fn new(topics: Vec<Arc<str>>, changes: Changes) -> Self {
        Self { topics, changes, refused: HashMap::new(), waiting: VecDeque::new() }
    }

    /// The next refusal that was not told, once for each time that the cluster changes its mind.
    pub(crate) fn poll_refusal(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Error> {
        while let Poll::Ready(Some(())) = self.changes.as_mut().poll_next(cx) {
            self.look(&client.metadata());
        }
        self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn look(&mut self, metadata: &Metadata) {
        for name in &self.topics {
            let topic = metadata.topic(name).filter(|topic| topic.partition_count() == 0);
            // What is only unknown may be created.
            let refusal = topic.and_then(|topic| topic.error()).filter(|code| !code.is_retriable());
            let Some(code) = refusal else {
                self.refused.remove(name);
                continue;
            };
            if self.refused.insert(Arc::clone(name), code) != Some(code) {
                self.waiting.push_back(ErrorKind::TopicRefused { topic: Arc::clone(name), code }.into());
            }
        }
    }
}
