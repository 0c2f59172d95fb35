//! Decides which topics a refresh asks for: those somebody uses, and all of them while somebody needs all.

use std::collections::HashMap;
use std::sync::Arc;

use super::metadata::{Metadata, Topic};

/// Who uses which topics, by count.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    topics: HashMap<Arc<str>, Users>,
    everything: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Users {
    all: usize,
    /// Those who want the topic created if there is none.
    creating: usize,
}

/// What one Metadata request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// `None` asks for all topics.
    pub(crate) topics: Option<Vec<Arc<str>>>,
    /// Whether the broker may create topics that do not exist.
    pub(crate) may_create: bool,
}

/// How much a refresh has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only the topics that are not known, or not well.
    Unsettled,
    /// Everything that is used.
    Full,
}

impl Interest {
    pub(crate) fn add(&mut self, topic: &Arc<str>, creating: bool) {
        let users = self.topics.entry(topic.clone()).or_default();
        users.all += 1;
        users.creating += usize::from(creating);
    }

    pub(crate) fn remove(&mut self, topic: &str, creating: bool) {
        if let Some(users) = self.topics.get_mut(topic) {
            users.all -= 1;
            users.creating -= usize::from(creating);
            if users.all == 0 {
                self.topics.remove(topic);
            }
        }
    }

    pub(crate) fn add_everything(&mut self) {
        self.everything += 1;
    }

    pub(crate) fn remove_everything(&mut self) {
        self.everything -= 1;
    }

    /// Whether somebody uses the topic.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.everything > 0 || self.topics.contains_key(topic)
    }

    /// Whether a topic in use is unknown or without leaders: reason enough to ask again soon.
    pub(crate) fn is_unsettled(&self, metadata: &Metadata) -> bool {
        self.topics.keys().any(|name| is_unsettled(metadata.topic(name)))
    }

    /// The requests that a refresh consists of. There are two at most: creation is allowed for the whole of a
    /// request, so it is asked apart for the topics that may be created.
    pub(crate) fn questions(&self, metadata: &Metadata, scope: Scope) -> Vec<Question> {
        let (create, mut look): (Vec<_>, Vec<_>) = self
            .topics
            .iter()
            .filter(|(name, _)| scope == Scope::Full || is_unsettled(metadata.topic(name)))
            .map(|(name, users)| (name.clone(), users.creating > 0 && !is_known(metadata.topic(name))))
            .partition(|(_, creating)| *creating);
        look.sort();
        let names =
            |topics: Vec<(Arc<str>, bool)>| topics.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let mut questions = Vec::new();
        if !create.is_empty() {
            let mut topics = names(create);
            topics.sort();
            questions.push(Question { topics: Some(topics), may_create: true });
        }
        if self.everything > 0 && scope == Scope::Full {
            questions.push(Question { topics: None, may_create: false });
        } else if !look.is_empty() || questions.is_empty() {
            questions.push(Question { topics: Some(names(look)), may_create: false });
        }
        questions
    }
}

fn is_known(topic: Option<&Arc<Topic>>) -> bool {
    topic.is_some_and(|topic| topic.partition_count() > 0)
}

/// Whether a topic is unknown, or a partition of it without a leader, and that may change.
pub(crate) fn is_unsettled(topic: Option<&Arc<Topic>>) -> bool {
    topic.is_none_or(|topic| match topic.error() {
        Some(error) => error.is_retriable(),
        None => {
            let led = topic.partitions().filter(|partition| partition.leader.is_some()).count();
            // There are no topics without partitions, whatever a broker says.
            led < topic.partition_count().max(1)
        }
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::error_code::ErrorCode;
    use tokio::time::Instant;

    use super::super::metadata::TopicBuilder;
    use super::super::metadata::tests::{topic, update};
    use super::*;
    use crate::types::TopicId;

    fn metadata() -> Metadata {
        let forbidden = TopicBuilder::new(
            "forbidden".into(),
            TopicId::ZERO,
            false,
            Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            0,
        );
        let headless = topic("headless", 2, &[(1, 0), (-1, 0)]);
        let topics = [topic("whole", 1, &[(1, 0)]), headless, topic("empty", 3, &[]), forbidden.build()];
        Metadata::default().updated(update(topics), false, |_| true, Instant::now())
    }

    fn interest(topics: &[(&str, bool)]) -> Interest {
        let mut interest = Interest::default();
        topics.iter().for_each(|(name, creating)| interest.add(&Arc::from(*name), *creating));
        interest
    }

    fn ask(topics: &[&str], may_create: bool) -> Question {
        Question { topics: Some(topics.iter().map(|name| Arc::from(*name)).collect()), may_create }
    }

    #[test]
    fn a_topic_is_tracked_until_its_last_user_is_gone() {
        let mut interest = interest(&[("t", true), ("t", false)]);
        interest.remove("t", true);
        assert!(interest.wants("t"));
        interest.remove("t", false);
        assert!(!interest.wants("t"));
        interest.add_everything();
        assert!(interest.wants("t"));
        interest.remove_everything();
        assert!(!interest.wants("t"));
    }

    #[test]
    fn only_topics_that_do_not_exist_may_be_created() {
        let interest = interest(&[("whole", true), ("absent", false), ("wanted", true)]);
        assert_eq!(
            interest.questions(&metadata(), Scope::Full),
            [ask(&["wanted"], true), ask(&["absent", "whole"], false)]
        );
    }

    #[test]
    fn between_full_refreshes_only_unsettled_topics_are_asked_for() {
        let tracked = ["whole", "headless", "empty", "absent", "forbidden"].map(|name| (name, false));
        let unsettled = [ask(&["absent", "empty", "headless"], false)];
        let interest = interest(&tracked);
        assert_eq!(interest.questions(&metadata(), Scope::Unsettled), unsettled);
        assert!(interest.is_unsettled(&metadata()));
    }

    #[test]
    fn without_topics_a_refresh_asks_for_the_brokers_alone() {
        assert_eq!(Interest::default().questions(&metadata(), Scope::Full), [ask(&[], false)]);
        assert!(!Interest::default().is_unsettled(&metadata()));
        assert!(!interest(&[("whole", true), ("forbidden", true)]).is_unsettled(&metadata()));
    }

    #[test]
    fn everything_is_asked_for_at_once() {
        let mut interest = interest(&[("whole", false)]);
        interest.add_everything();
        assert_eq!(
            interest.questions(&metadata(), Scope::Full),
            [Question { topics: None, may_create: false }]
        );
    }
}
