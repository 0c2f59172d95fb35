//! Reads a Metadata response straight into what the snapshot is made of; entries that nobody asked for cost nothing.

use std::sync::Arc;

use kafka_wire::address::NodeAddress;
use kafka_wire::api::Api;
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::primitives::{Reader, Result};
use tokio::time::Instant;

use super::metadata::{Broker, Metadata, Partition, TopicBuilder, Update};
use crate::types::{NodeId, TopicId};

/// Reads the body of a Metadata response. Topics for which `wanted` does not hold are checked and skipped; strings
/// that `known` has already are shared with it. Entries that make no sense (a port of 0, an empty name, a negative
/// id) are left out.
pub(crate) fn decode(
    version: i16,
    body: &[u8],
    known: &Metadata,
    wanted: impl Fn(&str) -> bool,
) -> std::result::Result<Update, ProtocolError> {
    Api::Metadata.check_version(version)?;
    let mut decoder = Decoder { reader: Reader::new(body), version, known, lists: Default::default() };
    decoder.response(wanted).map_err(|kind| kind.at(Api::Metadata.key(), version))
}

impl Metadata {
    /// What one Metadata response says by itself: its body, in this version.
    ///
    /// # Errors
    /// The bytes are not such a response.
    pub fn from_response(version: i16, body: &[u8]) -> std::result::Result<Self, ProtocolError> {
        let nothing = Self::default();
        let update = decode(version, body, &nothing, |_| true)?;
        Ok(nothing.updated(update, true, |_| true, Instant::now()))
    }
}

struct Decoder<'a> {
    reader: Reader<'a>,
    version: i16,
    known: &'a Metadata,
    /// The node lists of the partition that is being read.
    lists: [Vec<NodeId>; 3],
}

impl Decoder<'_> {
    fn response(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Update> {
        let mut update = Update::default();
        if self.version >= 3 {
            self.reader.i32()?; // The throttle time, which the throttle layer has read.
        }
        for _ in 0..self.count(8)? {
            let broker = self.broker()?;
            update.brokers.extend(broker);
        }
        if self.version >= 2 {
            update.cluster_id = self.reader.nullable_string(self.flexible())?.map(Arc::from);
        }
        if self.version >= 1 {
            update.controller = Some(self.reader.i32()?);
        }
        for _ in 0..self.count(8)? {
            self.topic(&wanted, &mut update)?;
        }
        if (8..=10).contains(&self.version) {
            self.reader.i32()?; // Authorized operations.
        }
        if self.version >= 13 {
            update.error = ErrorCode(self.reader.i16()?);
        }
        self.end_of_struct()?;
        self.reader.finish()?;
        Ok(update.finish())
    }

    fn broker(&mut self) -> Result<Option<Broker>> {
        let id = self.reader.i32()?;
        let host = self.reader.string(self.flexible())?;
        let port = u16::try_from(self.reader.i32()?).unwrap_or(0);
        let rack = if self.version >= 1 { self.reader.nullable_string(self.flexible())? } else { None };
        self.end_of_struct()?;
        if id < 0 || host.is_empty() || port == 0 {
            return Ok(None);
        }
        let known = self.known.broker(id);
        let shared = |text: &str, old: Option<&Arc<str>>| old.filter(|old| ***old == *text).cloned();
        let host = shared(host, known.map(|known| &known.address.host)).unwrap_or_else(|| Arc::from(host));
        let rack = rack.map(|rack| {
            shared(rack, known.and_then(|known| known.rack.as_ref())).unwrap_or_else(|| Arc::from(rack))
        });
        Ok(Some(Broker { id, address: NodeAddress { host, port }, rack }))
    }

    fn topic(&mut self, wanted: &impl Fn(&str) -> bool, update: &mut Update) -> Result<()> {
        let error = ErrorCode(self.reader.i16()?);
        // Null from version 12 on, where a topic was asked for by its id and is unknown.
        let name = self.reader.nullable_string(self.flexible())?.unwrap_or_default();
        let id = if self.version >= 10 { TopicId(self.reader.uuid()?) } else { TopicId::ZERO };
        let internal = self.version >= 1 && self.reader.bool()?;
        let partitions = self.count(18)?;
        let is_new = !name.is_empty() && wanted(name) && !update.topics.contains_key(name);
        let mut builder = is_new.then(|| {
            let name = self.known.topic(name).map_or_else(|| Arc::from(name), |known| known.name().clone());
            TopicBuilder::new(name, id, internal, error.check().err(), partitions)
        });
        for _ in 0..partitions {
            let partition = self.partition()?;
            if let Some(builder) = &mut builder {
                builder.push(partition);
            }
        }
        if self.version >= 8 {
            self.reader.i32()?; // Authorized operations.
        }
        self.end_of_struct()?;
        if let Some(topic) = builder.map(TopicBuilder::build) {
            update.topics.insert(topic.name().clone(), topic);
        }
        Ok(())
    }

    fn partition(&mut self) -> Result<Partition<'_>> {
        self.reader.i16()?; // An error that having no leader says as well.
        let id = self.reader.i32()?;
        let leader = Some(self.reader.i32()?).filter(|leader| *leader >= 0);
        let leader_epoch = if self.version >= 7 { Some(self.reader.i32()?) } else { None };
        let lists = if self.version >= 5 { 3 } else { 2 };
        for list in 0..lists {
            let count = self.count(4)?;
            let nodes = &mut self.lists[list];
            nodes.clear();
            for _ in 0..count {
                nodes.push(self.reader.i32()?);
            }
        }
        self.end_of_struct()?;
        let [replicas, isr, offline] = &self.lists;
        Ok(Partition {
            id,
            leader,
            leader_epoch: leader_epoch.filter(|epoch| *epoch >= 0),
            replicas,
            isr,
            offline,
        })
    }

    fn flexible(&self) -> bool {
        Api::Metadata.is_flexible(self.version)
    }

    fn count(&mut self, minimum: usize) -> Result<usize> {
        self.reader.count(self.flexible(), minimum)
    }

    fn end_of_struct(&mut self) -> Result<()> {
        if self.flexible() { self.reader.skip_tagged_fields() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_wire::api::Request;
    use kafka_wire::error::ProtocolErrorKind;
    use kafka_wire::messages::metadata_response::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_wire::messages::{BrokerId, MetadataRequest, StrBytes, TopicName};

    use super::*;

    fn encoded(response: &MetadataResponse, version: i16) -> Bytes {
        let mut body = BytesMut::new();
        MetadataRequest::encode_response(response, version, &mut body).unwrap();
        body.freeze()
    }

    fn broker(id: i32, host: &str, port: i32) -> MetadataResponseBroker {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port)
    }

    fn partition(id: i32, leader: i32) -> MetadataResponsePartition {
        MetadataResponsePartition::default()
            .with_partition_index(id)
            .with_leader_id(BrokerId(leader))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(2)])
    }

    fn topic(name: &str, partitions: Vec<MetadataResponsePartition>) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
            .with_partitions(partitions)
    }

    fn response() -> MetadataResponse {
        MetadataResponse::default()
            .with_brokers(vec![broker(2, "b2", 9093), broker(1, "b1", 9092)])
            .with_controller_id(BrokerId(2))
            .with_topics(vec![
                topic("orders", vec![partition(1, 2), partition(0, -1)]),
                topic("other", vec![]),
            ])
    }

    #[test]
    fn every_version_gives_what_it_holds() {
        for version in 0..=13 {
            let mut sent = response();
            if version >= 1 {
                sent.brokers[0].rack = Some(StrBytes::from_static_str("r1"));
            }
            if version >= 2 {
                sent.cluster_id = Some(StrBytes::from_static_str("c"));
            }
            if version >= 5 {
                sent.topics[0].partitions[0].offline_replicas = vec![BrokerId(1)];
            }
            if version >= 7 {
                sent.topics[0].partitions[0].leader_epoch = 4;
            }
            if version >= 10 {
                sent.topics[0].topic_id = uuid::Uuid::from_bytes([7; 16]);
            }
            if version >= 13 {
                sent.error_code = 129;
            }
            let body = encoded(&sent, version);
            let update = decode(version, &body, &Metadata::default(), |name| name == "orders").unwrap();
            let ids: Vec<_> =
                update.brokers.iter().map(|broker| (broker.id, broker.address.to_string())).collect();
            assert_eq!(ids, [(1, "b1:9092".to_owned()), (2, "b2:9093".to_owned())], "v{version}");
            assert_eq!(update.brokers[1].rack.as_deref(), (version >= 1).then_some("r1"), "v{version}");
            assert_eq!(update.cluster_id.as_deref(), (version >= 2).then_some("c"), "v{version}");
            assert_eq!(update.controller, (version >= 1).then_some(2), "v{version}");
            assert_eq!(update.error, ErrorCode(if version >= 13 { 129 } else { 0 }), "v{version}");
            assert_eq!(update.topics.len(), 1, "v{version}");
            let orders = &update.topics["orders"];
            assert_eq!(orders.id(), (version >= 10).then_some(TopicId([7; 16])), "v{version}");
            let offline: &[i32] = if version >= 5 { &[1] } else { &[] };
            let expected = [
                Partition {
                    id: 0,
                    leader: None,
                    leader_epoch: None,
                    replicas: &[1, 2],
                    isr: &[2],
                    offline: &[],
                },
                Partition {
                    id: 1,
                    leader: Some(2),
                    leader_epoch: (version >= 7).then_some(4),
                    replicas: &[1, 2],
                    isr: &[2],
                    offline,
                },
            ];
            assert_eq!(orders.partitions().collect::<Vec<_>>(), expected, "v{version}");
        }
    }

    #[test]
    fn entries_that_make_no_sense_are_left_out() {
        let mut sent = response();
        sent.brokers.extend([
            broker(3, "b3", 0),
            broker(4, "b4", 65536),
            broker(5, "", 1),
            broker(-6, "b6", 1),
        ]);
        sent.brokers.extend([broker(1, "usurper", 1), broker(7, "b7", -1)]);
        sent.controller_id = BrokerId(9);
        sent.topics[0].partitions.extend([partition(-1, 1), partition(0, 1), partition(i32::MAX, 1)]);
        sent.topics.extend([topic("", vec![partition(0, 1)]), topic("orders", vec![])]);
        let update = decode(9, &encoded(&sent, 9), &Metadata::default(), |_| true).unwrap();
        let hosts: Vec<_> = update.brokers.iter().map(|broker| broker.address.host.as_ref()).collect();
        assert_eq!(hosts, ["b1", "b2"]);
        assert_eq!(update.controller, None);
        let ids: Vec<_> =
            update.topics["orders"].partitions().map(|partition| (partition.id, partition.leader)).collect();
        assert_eq!(ids, [(0, None), (1, Some(2))]);
        assert_eq!(update.topics.len(), 2);
    }

    #[test]
    fn what_is_known_is_shared_and_not_allocated_again() {
        let body = encoded(&response(), 12);
        let first = decode(12, &body, &Metadata::default(), |_| true).unwrap();
        let known = Metadata::default().updated(first, true, |_| true, Instant::now());
        let second = decode(12, &body, &known, |_| true).unwrap();
        assert!(Arc::ptr_eq(second.topics["orders"].name(), known.topic("orders").unwrap().name()));
        assert!(Arc::ptr_eq(&second.brokers[0].address.host, &known.brokers()[0].address.host));
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_anything_is_reserved() {
        let body = [0x7f, 0xff, 0xff, 0xff];
        let error = decode(0, &body, &Metadata::default(), |_| true).unwrap_err();
        assert!(matches!(error.kind, ProtocolErrorKind::CountTooLarge { .. }), "{error}");
    }

    #[test]
    fn no_cut_or_changed_byte_makes_the_reader_panic() {
        for version in 0..=13 {
            let body = encoded(&response(), version);
            for end in 0..body.len() {
                decode(version, &body[..end], &Metadata::default(), |_| true).unwrap_err();
            }
            for index in 0..body.len() {
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    let mut mutated = body.to_vec();
                    mutated[index] = value;
                    // Either outcome is right; the update is walked so that its indices are tried.
                    if let Ok(update) = decode(version, &mutated, &Metadata::default(), |_| true) {
                        update.topics.values().for_each(|topic| assert!(topic.partitions().count() <= 8));
                    }
                }
            }
        }
    }

    /// A response with `topics` topics of `partitions` partitions each.
    fn large(topics: usize, partitions: i32) -> Bytes {
        let topics = (0..topics)
            .map(|index| topic(&format!("t{index}"), (0..partitions).map(|id| partition(id, 1)).collect()));
        encoded(&response().with_topics(topics.collect()), 12)
    }

    #[test]
    fn topics_that_nobody_asked_for_cost_no_memory() {
        let body = large(1000, 6);
        let known = Metadata::default();
        let (update, counts) = counting_alloc::measure(|| decode(12, &body, &known, |name| name == "t7"));
        assert_eq!(update.unwrap().topics.len(), 1);
        assert!(counts.peak < 4096, "{counts:?} for {} bytes", body.len());
    }

    #[test]
    fn a_topic_takes_no_more_memory_than_its_bytes_whatever_they_say() {
        let body = large(1, 10_000);
        let known = Metadata::default();
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..100 {
            let mut mutated = body.to_vec();
            for _ in 0..random.usize(0..4) {
                // The first bytes hold the counts that matter most.
                let end = if random.bool() { 120 } else { mutated.len() };
                let index = random.usize(0..end);
                mutated[index] = *random.choice([0x00, 0x01, 0x7f, 0x80, 0xff].iter()).unwrap();
            }
            let (_, counts) = counting_alloc::measure(|| decode(12, &mutated, &known, |name| name == "t0"));
            let allowed = (body.len() + (64 << 10)) as u64;
            assert!(counts.peak <= allowed, "round {round}: {counts:?} for {} bytes", body.len());
        }
    }

    #[test]
    fn a_list_of_every_topic_takes_a_bounded_multiple_of_its_bytes() {
        // As small as topics get, so as much as there can be for each byte.
        let body = large(20_000, 0);
        let (metadata, counts) = counting_alloc::measure(|| Metadata::from_response(12, &body));
        assert_eq!(metadata.unwrap().topics().count(), 20_000);
        assert!(counts.peak <= 32 * body.len() as u64, "{counts:?} for {} bytes", body.len());
    }
}
