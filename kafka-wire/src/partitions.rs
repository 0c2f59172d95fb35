//! What Produce and Fetch share: topics with their partitions inside, leader hints, and bodies that are never copied.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::primitives::{self, Reader, Result, Tag};

/// A topic by name and id: older versions put the name on the wire, newer ones the id, so a writer gives both.
///
/// In what was read, the one that the version does not have is empty or zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TopicRef<'a> {
    /// The topic's name.
    pub name: &'a str,
    /// The topic's id, zero when unknown.
    pub id: [u8; 16],
}

/// Who leads a partition now, sent along with an error so that the client need not ask (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's node id.
    pub leader_id: i32,
    /// The epoch it leads in.
    pub leader_epoch: i32,
}

/// Where a node of a [`LeaderHint`] listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// The node's id.
    pub node_id: i32,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<&'a str>,
}

/// Which of the layouts a version has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) version: i16,
    pub(crate) flexible: bool,
    ids: bool,
}

impl Layout {
    /// The layout of `api` (Produce or Fetch: both know topics by id from version 13 on) in `version`.
    pub(crate) fn of(api: Api, version: i16) -> std::result::Result<Layout, ProtocolError> {
        let versions = api.versions();
        if !versions.contains(version) {
            let (min, max) = (versions.min, versions.max);
            return Err(ProtocolErrorKind::UnsupportedVersion { min, max }.at(api.key(), version));
        }
        Ok(Layout { version, flexible: api.is_flexible(version), ids: version >= 13 })
    }
}

/// An element of an array of partitions inside an array of topics.
pub(crate) trait Partition<'a>: Copy {
    /// Bytes of its smallest encoding.
    const MIN_LEN: usize;

    fn read(topic: TopicRef<'a>, reader: &mut Reader<'a>, layout: Layout) -> Result<Self>;
}

/// Walks an array of topics and hands out their partitions one by one, without allocating.
#[derive(Debug, Clone)]
pub(crate) struct Topics<'a, P> {
    reader: Reader<'a>,
    layout: Layout,
    topics: usize,
    partitions: usize,
    topic: TopicRef<'a>,
    partition: std::marker::PhantomData<fn() -> P>,
}

impl<'a, P: Partition<'a>> Topics<'a, P> {
    /// Reads the whole array once, so that walking it later cannot fail, and leaves `reader` behind it.
    pub(crate) fn read(reader: &mut Reader<'a>, layout: Layout) -> Result<Self> {
        // A topic has at least the length of its name and the count of its partitions.
        let topics = reader.count(layout.flexible, 2)?;
        let walk = Topics {
            reader: *reader,
            layout,
            topics,
            partitions: 0,
            topic: TopicRef::default(),
            partition: std::marker::PhantomData,
        };
        let mut ahead = walk.clone();
        while ahead.step()?.is_some() {}
        *reader = ahead.reader;
        Ok(walk)
    }

    /// An empty array, for versions without it.
    pub(crate) fn none(layout: Layout) -> Self {
        Topics {
            reader: Reader::new(&[]),
            layout,
            topics: 0,
            partitions: 0,
            topic: TopicRef::default(),
            partition: std::marker::PhantomData,
        }
    }

    fn step(&mut self) -> Result<Option<P>> {
        while self.partitions == 0 {
            if self.topics == 0 {
                return Ok(None);
            }
            self.topics -= 1;
            self.topic = if self.layout.ids {
                TopicRef { name: "", id: self.reader.uuid()? }
            } else {
                TopicRef { name: self.reader.string(self.layout.flexible)?, id: [0; 16] }
            };
            self.partitions = self.reader.count(self.layout.flexible, P::MIN_LEN)?;
            if self.partitions == 0 {
                self.end_topic()?;
            }
        }
        let partition = P::read(self.topic, &mut self.reader, self.layout)?;
        self.partitions -= 1;
        if self.partitions == 0 {
            self.end_topic()?;
        }
        Ok(Some(partition))
    }

    fn end_topic(&mut self) -> Result<()> {
        if self.layout.flexible { self.reader.skip_tagged_fields() } else { Ok(()) }
    }
}

impl<'a, P: Partition<'a>> Iterator for Topics<'a, P> {
    type Item = P;

    #[inline]
    fn next(&mut self) -> Option<P> {
        // `read` saw that no step fails.
        self.step().ok().flatten()
    }
}

/// A body being written: what we write ourselves goes into one buffer, records are linked in between uncopied.
pub(crate) struct Rope<'a> {
    own: &'a mut BytesMut,
    chunks: Vec<Bytes>,
}

impl<'a> Rope<'a> {
    /// Starts a body in `own`, which keeps its capacity from one body to the next once those are sent.
    pub(crate) fn new(own: &'a mut BytesMut) -> Rope<'a> {
        own.clear();
        Rope { own, chunks: Vec::new() }
    }

    /// Room for `own` bytes of ours and `chunks` chunks in all.
    pub(crate) fn reserve(&mut self, own: usize, chunks: usize) {
        self.own.reserve(own);
        self.chunks.reserve(chunks);
    }

    pub(crate) fn link(&mut self, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        if !self.own.is_empty() {
            self.chunks.push(self.own.split().freeze());
        }
        self.chunks.push(bytes.clone());
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        if !self.own.is_empty() {
            self.chunks.push(self.own.split().freeze());
        }
        self.chunks
    }
}

/// Where a body is written to: a plain buffer, or a rope.
pub(crate) trait Out {
    /// Where what we write ourselves goes.
    fn own(&mut self) -> &mut BytesMut;
}

impl Out for BytesMut {
    fn own(&mut self) -> &mut BytesMut {
        self
    }
}

impl Out for Rope<'_> {
    fn own(&mut self) -> &mut BytesMut {
        self.own
    }
}

/// Writes `items`, in which a topic's partitions are adjacent, as an array of topics with their partitions inside.
pub(crate) fn put_topics<O: Out, T>(
    out: &mut O,
    layout: Layout,
    items: &[T],
    topic_of: impl Fn(&T) -> TopicRef<'_>,
    mut put: impl FnMut(&mut O, &T) -> Result<()>,
) -> Result<()> {
    let by_topic = || {
        items.chunk_by(|a, b| {
            let (a, b) = (topic_of(a), topic_of(b));
            if layout.ids { a.id == b.id } else { a.name == b.name }
        })
    };
    primitives::put_length(out.own(), Some(by_topic().count()), layout.flexible)?;
    for partitions in by_topic() {
        let Some(first) = partitions.first() else { continue };
        let topic = topic_of(first);
        if layout.ids {
            out.own().put_slice(&topic.id);
        } else {
            primitives::put_string(out.own(), topic.name, layout.flexible)?;
        }
        primitives::put_length(out.own(), Some(partitions.len()), layout.flexible)?;
        for partition in partitions {
            put(out, partition)?;
        }
        put_no_tags(out.own(), layout);
    }
    Ok(())
}

/// Fails for a topic of a request whose id is not known, in a version that needs it. Responses echo what was asked.
pub(crate) fn check_ids<'a>(layout: Layout, mut topics: impl Iterator<Item = TopicRef<'a>>) -> Result<()> {
    match topics.find(|topic| layout.ids && topic.id == [0; 16]) {
        None => Ok(()),
        Some(TopicRef { name, .. }) => {
            let message = format!("topic {name:?} has no id, which this version needs");
            Err(ProtocolErrorKind::Unencodable(message.into()))
        }
    }
}

/// Ends a struct that has no tagged field set.
pub(crate) fn put_no_tags(out: &mut BytesMut, layout: Layout) {
    if layout.flexible {
        out.put_u8(0);
    }
}

/// Writes one tagged field whose content is these parts.
pub(crate) fn put_tag(out: &mut BytesMut, tag: u8, content: &[&[u8]]) {
    out.put_u8(tag);
    primitives::put_unsigned_varint(out, content.iter().map(|part| part.len() as u32).sum());
    for part in content {
        out.put_slice(part);
    }
}

/// Writes the leader hint as tagged field `tag`.
pub(crate) fn put_leader_hint(out: &mut BytesMut, tag: u8, hint: LeaderHint) {
    put_tag(out, tag, &[&hint.leader_id.to_be_bytes(), &hint.leader_epoch.to_be_bytes(), &[0]]);
}

/// Reads a leader hint; -1 stands for no leader.
pub(crate) fn leader_hint(reader: &mut Reader<'_>) -> Result<Option<LeaderHint>> {
    let (leader_id, leader_epoch) = (reader.i32()?, reader.i32()?);
    reader.skip_tagged_fields()?;
    Ok((leader_id >= 0 && leader_epoch >= 0).then_some(LeaderHint { leader_id, leader_epoch }))
}

/// Ends a response: its only tagged field, 0, says where the nodes of the leader hints listen.
pub(crate) fn put_endpoints(out: &mut BytesMut, endpoints: &[NodeEndpoint<'_>]) -> Result<()> {
    if endpoints.is_empty() {
        out.put_u8(0);
        return Ok(());
    }
    let mut content = Vec::new();
    primitives::put_length(&mut content, Some(endpoints.len()), true)?;
    for endpoint in endpoints {
        content.put_i32(endpoint.node_id);
        primitives::put_string(&mut content, endpoint.host, true)?;
        content.put_i32(endpoint.port);
        primitives::put_nullable_string(&mut content, endpoint.rack, true)?;
        content.put_u8(0);
    }
    out.put_u8(1);
    put_tag(out, 0, &[&content]);
    Ok(())
}

/// The tagged fields at the end of a response, of which 0 has the endpoints from version `since` on.
pub(crate) fn endpoints<'a>(reader: &mut Reader<'a>, layout: Layout, since: i16) -> Result<Endpoints<'a>> {
    let mut found = Endpoints::default();
    if layout.flexible {
        reader.tagged_fields(|tag, content| match tag {
            0 if layout.version >= since => {
                // Node id and port, two lengths and the end of the tagged fields.
                let remaining = content.count(true, 11)?;
                found = Endpoints { reader: *content, remaining };
                for _ in 0..remaining {
                    endpoint(content)?;
                }
                Ok(Tag::Read)
            }
            _ => Ok(Tag::Skipped),
        })?;
    }
    Ok(found)
}

fn endpoint<'a>(reader: &mut Reader<'a>) -> Result<NodeEndpoint<'a>> {
    let endpoint = NodeEndpoint {
        node_id: reader.i32()?,
        host: reader.string(true)?,
        port: reader.i32()?,
        rack: reader.nullable_string(true)?,
    };
    reader.skip_tagged_fields()?;
    Ok(endpoint)
}

/// The node endpoints of a response; an iterator.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    reader: Reader<'a>,
    remaining: usize,
}

impl Default for Endpoints<'_> {
    fn default() -> Self {
        Endpoints { reader: Reader::new(&[]), remaining: 0 }
    }
}

impl<'a> Iterator for Endpoints<'a> {
    type Item = NodeEndpoint<'a>;

    fn next(&mut self) -> Option<NodeEndpoint<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        // `endpoints` saw that each can be read.
        endpoint(&mut self.reader).ok()
    }
}
