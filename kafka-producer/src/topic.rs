//! A topic that was looked up once, for those who send it many records.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::accumulator::TopicSlots;
use crate::producer::Shared;

/// A topic of a [`Producer`](crate::Producer), from [`Producer::topic`](crate::Producer::topic): sending to it saves the
/// look-up of its name for each record. It follows the topic when that gets more partitions.
///
/// Another producer takes it for the topic's name.
#[derive(Clone)]
pub struct Topic {
    /// Says whose it is; a producer that is dropped is not kept by it.
    producer: Weak<Shared>,
    slots: Arc<TopicSlots>,
}

impl Topic {
    pub(crate) fn new(producer: &Arc<Shared>, slots: Arc<TopicSlots>) -> Self {
        Self { producer: Arc::downgrade(producer), slots }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.slots.name
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name()).finish()
    }
}

/// Where a [`ProducerRecord`](crate::ProducerRecord) goes: a topic's name, or a [`Topic`].
#[derive(Clone, Debug)]
pub struct Destination<'a>(Target<'a>);

#[derive(Clone, Debug)]
enum Target<'a> {
    Name(Cow<'a, str>),
    Topic(&'a Topic),
}

impl Destination<'_> {
    pub(crate) fn name(&self) -> &str {
        match &self.0 {
            Target::Name(name) => name,
            Target::Topic(topic) => topic.name(),
        }
    }

    /// The topic's slots, if it was looked up for that producer.
    #[inline]
    pub(crate) fn slots(&self, producer: &Shared) -> Option<&TopicSlots> {
        match &self.0 {
            Target::Topic(topic) if std::ptr::eq(topic.producer.as_ptr(), producer) => {
                Some(topic.slots.newest())
            }
            _ => None,
        }
    }
}

/// By name.
impl PartialEq for Destination<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Destination<'_> {}

impl<'a> From<&'a Topic> for Destination<'a> {
    #[inline]
    fn from(topic: &'a Topic) -> Self {
        Self(Target::Topic(topic))
    }
}

macro_rules! names {
    ($($type:ty),*) => {$(
        impl<'a> From<$type> for Destination<'a> {
            #[inline]
            fn from(name: $type) -> Self {
                Self(Target::Name(name.into()))
            }
        }
    )*};
}
names!(&'a str, &'a String, String, Cow<'a, str>);
