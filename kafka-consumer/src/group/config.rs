//! How a membership behaves: the settings of the consumer that concern its group.

use std::sync::Arc;
use std::time::Duration;

use super::assignor::PartitionAssignor;

/// The settings of one membership, already validated. Defaults are Java's.
#[derive(Clone, Debug)]
pub(crate) struct GroupConfig {
    /// `group.id`.
    pub(crate) group: Arc<str>,
    /// `group.instance.id`: set for a static member, whose place is kept while it restarts.
    pub(crate) instance_id: Option<Arc<str>>,
    /// `session.timeout.ms`: silence after which the coordinator removes the member. 45 s.
    pub(crate) session_timeout: Duration,
    /// `heartbeat.interval.ms`. 3 s.
    pub(crate) heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long the application may take between polls, and the others wait for it to rejoin.
    /// 5 min.
    pub(crate) max_poll_interval: Duration,
    /// `partition.assignment.strategy`, by preference: range, cooperative-sticky.
    pub(crate) assignors: Vec<Arc<dyn PartitionAssignor>>,
    /// `client.rack`.
    pub(crate) rack: Option<Arc<str>>,
    /// `retry.backoff.ms`. 100 ms.
    pub(crate) retry_backoff: Duration,
    /// `retry.backoff.max.ms`. 1 s.
    pub(crate) retry_backoff_max: Duration,
}

impl GroupConfig {
    /// Whether members keep partitions while they rebalance: only if every strategy they may end up with allows it.
    pub(crate) fn is_cooperative(&self) -> bool {
        !self.assignors.is_empty() && self.assignors.iter().all(|assignor| assignor.is_cooperative())
    }
}

#[cfg(test)]
impl GroupConfig {
    /// Java's defaults for a dynamic member of `group`.
    pub(crate) fn new(group: impl Into<Arc<str>>) -> Self {
        use super::assignor::{CooperativeStickyAssignor, RangeAssignor};
        Self {
            group: group.into(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            assignors: vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor)],
            rack: None,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
        }
    }
}
