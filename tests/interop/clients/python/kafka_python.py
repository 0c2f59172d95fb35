"""kafka-python 3."""

import logging
import re
from contextlib import contextmanager

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic, ResourcePattern, ResourcePatternFilter, ResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

import report
import scenarios
import secure
from scenarios import Record

SECONDS = 20
ASSIGNORS = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}


class Client:
    edits_lists = True
    null_headers = False
    describes_groups = True
    has_acls = True
    # The answer that says so and the end of the connection come together, and then it forgets the answer.
    blind_to = (secure.AUTHENTICATION,)
    waits_for_missing_apis = False
    protocols = ["range", "cooperative-sticky"]

    def __init__(self, bootstrap, access=None):
        self.bootstrap = bootstrap
        where = configured(access) if access else {"bootstrap_servers": bootstrap.split(",")}
        self.settings = where | {"request_timeout_ms": SECONDS * 1000}
        self.admin = KafkaAdminClient(**self.settings)

    def error_code(self, failure):
        # Where a partition has no reset policy, an exception of its own carries the offsets.
        if isinstance(failure, errors.OffsetOutOfRangeError) or type(failure).__name__ == "NoOffsetForPartitionError":
            return scenarios.OFFSET_OUT_OF_RANGE
        return getattr(failure, "errno", None)

    def is_refusal(self, failure):
        refusals = (errors.UnsupportedVersionError, errors.IncompatibleBrokerVersion)
        return isinstance(failure, refusals) or "Could not find a coordinator with type 1" in str(failure)

    # Admin

    def cluster(self):
        described = self.admin.describe_cluster()
        return [broker["broker_id"] for broker in described["brokers"]], described["controller_id"]

    def topics(self):
        return self.admin.list_topics()

    def partitions(self, topic):
        (found,) = self.admin.describe_topics([topic])
        raise_for(found["error_code"], topic)
        return sum(partition["leader_id"] >= 0 for partition in found["partitions"])

    def create_topic(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, topic_configs=configs)])

    def create_partitions(self, topic, partitions):
        self.admin.create_partitions({topic: partitions})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def config(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource], config_filter="all")["topic"][topic]
        return {name: entry["value"] for name, entry in found.items()}

    def alter_config(self, topic, name, value, operation="SET"):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: (operation, value)})
        raise_result(self.admin.alter_configs([resource])["topic"][topic])

    def append_config(self, topic, name, value):
        self.alter_config(topic, name, value, "APPEND")

    def subtract_config(self, topic, name, value):
        self.alter_config(topic, name, value, "SUBTRACT")

    def delete_records(self, topic, partition, before):
        asked = TopicPartition(topic, partition)
        return self.admin.delete_records({asked: before})[asked]["low_watermark"]

    def members(self, group):
        return len(self.admin.describe_groups([group])[group]["members"])

    def delete_group(self, group):
        raise_result(self.admin.delete_groups([group])[group])

    def group_offset(self, group, topic, partition):
        found = self.admin.list_group_offsets(group)[group][TopicPartition(topic, partition)]
        return found.offset, found.metadata

    # Security

    def complaint(self, access):
        """It tries until its time is up; only its log says why."""
        with logged("kafka") as lines:
            try:
                client = KafkaAdminClient(**configured(access), bootstrap_timeout_ms=1500)
            except errors.KafkaTimeoutError:
                return "; ".join(lines)
            return f"it got in: {client.describe_cluster()}"

    def create_acls(self, acls):
        failed = self.admin.create_acls([binding(acl) for acl in acls])["failed"]
        if failed:
            raise failed[0]

    def acls(self, kind, name):
        found, error = self.admin.describe_acls(about(kind, name))
        scenarios.equal(errors.NoError, error, "the error of describing ACLs")
        return [acl(each) for each in found]

    def delete_acls(self, kind, name):
        ((_, deleted, error),) = self.admin.delete_acls([about(kind, name)])
        scenarios.equal(errors.NoError, error, "the error of deleting ACLs")
        return [acl(each) for each in deleted]

    # Produce

    def produce(self, topic, records, codec="none", idempotent=False, largest=1_048_576):
        producer = KafkaProducer(
            **self.settings,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            max_request_size=largest,
        )
        try:
            send(producer, topic, records)
        finally:
            producer.close(SECONDS)

    @contextmanager
    def transactions(self, name):
        producer = KafkaProducer(**self.settings, transactional_id=name, max_block_ms=10_000)
        try:
            producer.init_transactions()
            yield Transactions(producer)
        finally:
            producer.close(0)

    # Consume

    @contextmanager
    def consumer(self, group=None, protocol="range", reset="earliest", isolation="read_uncommitted"):
        consumer = KafkaConsumer(
            **self.settings,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset=reset,
            isolation_level=isolation,
            # A heartbeat is how a member hears of a rebalance.
            heartbeat_interval_ms=200,
            partition_assignment_strategy=[ASSIGNORS[protocol]],
            max_partition_fetch_bytes=5_000_000,
        )
        try:
            yield Consumer(consumer)
        finally:
            consumer.close()

    def share(self, group, topic):
        raise report.Skipped("kafka-python 3.0 has no share consumer")


def configured(access):
    return {
        "bootstrap_servers": access.bootstrap.split(","),
        "security_protocol": access.protocol,
        "ssl_cafile": access.ca,
        "ssl_certfile": access.certificate,
        "ssl_keyfile": access.key,
        "sasl_mechanism": access.mechanism,
        "sasl_plain_username": access.user,
        "sasl_plain_password": access.password,
    }


def binding(acl):
    resource = ResourcePattern(ResourceType[acl.kind], acl.name, ACLResourcePatternType.LITERAL)
    return ACL(acl.principal, "*", ACLOperation[acl.operation], ACLPermissionType.ALLOW, resource)


def about(kind, name):
    resources = ResourcePatternFilter(ResourceType[kind], name, ACLResourcePatternType.LITERAL)
    return ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, resources)


def acl(found):
    resource = found.resource_pattern
    return secure.Acl(resource.resource_type.name, resource.resource_name, found.principal, found.operation.name)


@contextmanager
def logged(name):
    """What is logged meanwhile."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(name).removeHandler(handler)


def raise_for(code, what):
    if code:
        raise errors.for_code(code)(what)


def raise_result(text):
    """Raises the error of a result that admin tells as text: OK, or the class of the error, with its number before or not."""
    if text == "OK":
        return
    found = re.search(r"\w+Error", text)
    raise getattr(errors, found.group(), errors.KafkaError)(text)


def send(producer, topic, records):
    """Produces and waits until each is acknowledged; the first error is raised."""
    futures = [
        producer.send(topic, record.value, record.key, record.headers, record.partition, record.timestamp) for record in records
    ]
    for future in futures:
        future.get(SECONDS)


class Transactions:
    def __init__(self, producer):
        self.producer = producer

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        send(self.producer, topic, records)

    def send_offset(self, consumer, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self.producer.send_offsets_to_transaction(offsets, consumer.inner.group_metadata())

    def commit(self):
        self.producer.commit_transaction()

    def abort(self):
        self.producer.abort_transaction()


class Consumer:
    def __init__(self, inner):
        self.inner = inner

    def subscribe(self, topic):
        # 3.0.12 that learns of its partitions only once it has joined joins again, and forgets what it was assigned then if
        # the join outlasts a poll.
        self.inner.partitions_for_topic(topic)
        self.inner.subscribe([topic])

    def assign(self, topic, offsets):
        self.inner.assign([TopicPartition(topic, partition) for partition in offsets])
        for partition, offset in offsets.items():
            self.inner.seek(TopicPartition(topic, partition), offset)

    def assignment(self, topic):
        return {found.partition for found in self.inner.assignment()}

    def poll(self, seconds, most=500):
        found = self.inner.poll(seconds * 1000, max_records=most)
        return [
            Record(r.value, r.partition, r.key, list(r.headers), r.timestamp, r.offset) for records in found.values() for r in records
        ]

    def take(self, seconds):
        records = self.poll(seconds)
        try:
            if records:
                self.inner.commit()
        except errors.RebalanceInProgressError:
            # They are not committed, and are handed out again: to whoever has the partitions then, or here.
            first = {record.partition: record.offset for record in reversed(records)}
            for partition in self.inner.assignment():
                if partition.partition in first:
                    self.inner.seek(partition, first[partition.partition])
            # 3.0.12 never ends a rebalance whose cause, other partitions than at the assignment, is gone when a poll comes back
            # to it: no commit would succeed any more.
            self.inner._coordinator.request_rejoin()
            return []
        return records

    def seek(self, topic, partition, where):
        where_to = TopicPartition(topic, partition)
        if where == "beginning":
            self.inner.seek_to_beginning(where_to)
        elif where == "end":
            self.inner.seek_to_end(where_to)
            # The end is looked up when it is needed.
            self.inner.position(where_to)
        else:
            self.inner.seek(where_to, where)

    def position(self, topic, partition):
        return self.inner.position(TopicPartition(topic, partition))

    def pause(self, topic, partition):
        # 3.0.12 never fetches a partition again that is paused while records, all handed out, are still to be dropped.
        scenarios.equal([], self.poll(0), "records before the pause")
        self.inner.pause(TopicPartition(topic, partition))

    def resume(self, topic, partition):
        self.inner.resume(TopicPartition(topic, partition))

    def ends(self, topic, partition):
        asked = TopicPartition(topic, partition)
        return self.inner.beginning_offsets([asked])[asked], self.inner.end_offsets([asked])[asked]

    def offset_for_time(self, topic, partition, time):
        asked = TopicPartition(topic, partition)
        found = self.inner.offsets_for_times({asked: time})[asked]
        return found and found.offset

    def commit(self, topic, partition, offset, metadata):
        self.inner.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)})

    def committed(self, topic, partition):
        return self.inner.committed(TopicPartition(topic, partition))


if __name__ == "__main__":
    scenarios.main(Client)
