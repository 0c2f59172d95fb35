"""librdkafka, by confluent-kafka."""

import time
from contextlib import contextmanager

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import admin as ca

import scenarios
import secure
from scenarios import Record

SECONDS = 20


def librdkafka(error):
    """The KafkaError within an exception, or None."""
    return error.args[0] if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError) else None


class Client:
    edits_lists = True
    null_headers = True
    describes_groups = True
    has_acls = True
    blind_to = ()
    waits_for_missing_apis = True
    protocols = ["range", "cooperative-sticky", "kip-848"]

    def __init__(self, bootstrap, access=None):
        self.bootstrap = bootstrap
        self.settings = configured(access) if access else {"bootstrap.servers": bootstrap}
        self.admin = ca.AdminClient(self.settings)

    def error_code(self, failure):
        error = librdkafka(failure)
        if error is None:
            return None
        # What the reset policy `error` makes of it: the broker's words are in the text.
        if error.code() == KafkaError._AUTO_OFFSET_RESET and "Offset out of range" in error.str():
            return scenarios.OFFSET_OUT_OF_RANGE
        return error.code()

    def is_refusal(self, failure):
        while isinstance(failure, scenarios.MemberFailed):
            failure = failure.__cause__
        return self.error_code(failure) in (KafkaError._UNSUPPORTED_FEATURE, scenarios.UNSUPPORTED_VERSION)

    # Admin

    def cluster(self):
        described = self.admin.describe_cluster().result(SECONDS)
        return [node.id for node in described.nodes], described.controller.id

    def topics(self):
        return self.admin.list_topics(timeout=SECONDS).topics

    def partitions(self, topic):
        described = self.admin.describe_topics(ck.TopicCollection([topic]))[topic].result(SECONDS)
        return sum(partition.leader is not None for partition in described.partitions)

    def create_topic(self, topic, partitions, configs):
        self.admin.create_topics([ca.NewTopic(topic, partitions, config=configs)])[topic].result(SECONDS)

    def create_partitions(self, topic, partitions):
        self.admin.create_partitions([ca.NewPartitions(topic, partitions)])[topic].result(SECONDS)

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(SECONDS)

    def config(self, topic):
        resource = ca.ConfigResource(ca.ConfigResource.Type.TOPIC, topic)
        entries = self.admin.describe_configs([resource])[resource].result(SECONDS)
        return {name: entry.value for name, entry in entries.items()}

    def alter_config(self, topic, name, value, operation=ca.AlterConfigOpType.SET):
        entry = ca.ConfigEntry(name, value, incremental_operation=operation)
        resource = ca.ConfigResource(ca.ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def append_config(self, topic, name, value):
        self.alter_config(topic, name, value, ca.AlterConfigOpType.APPEND)

    def subtract_config(self, topic, name, value):
        self.alter_config(topic, name, value, ca.AlterConfigOpType.SUBTRACT)

    def delete_records(self, topic, partition, before):
        asked = TopicPartition(topic, partition, before)
        return self.admin.delete_records([asked])[asked].result(SECONDS).low_watermark

    def members(self, group):
        return len(self.admin.describe_consumer_groups([group])[group].result(SECONDS).members)

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result(SECONDS)

    def group_offset(self, group, topic, partition):
        asked = ck.ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
        (found,) = self.admin.list_consumer_group_offsets([asked])[group].result(SECONDS).topic_partitions
        return found.offset, found.metadata

    # Security

    def complaint(self, access):
        said = []
        client = ca.AdminClient(configured(access) | {"error_cb": said.append})
        found = client.describe_cluster(request_timeout=10)
        while not said and not found.done():
            client.poll(0.05)
        # The first says why; that no broker can be had comes after.
        return str(said[0]) if said else f"it got in: {found.result()}"

    def create_acls(self, acls):
        for created in self.admin.create_acls([binding(acl) for acl in acls]).values():
            created.result(SECONDS)

    def acls(self, kind, name):
        return [acl(found) for found in self.admin.describe_acls(about(kind, name)).result(SECONDS)]

    def delete_acls(self, kind, name):
        (deleted,) = self.admin.delete_acls([about(kind, name)]).values()
        return [acl(found) for found in deleted.result(SECONDS)]

    # Produce

    def produce(self, topic, records, codec="none", idempotent=False, largest=1_000_000):
        producer = ck.Producer(
            self.settings
            | {
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "message.max.bytes": largest,
                "message.timeout.ms": SECONDS * 1000,
            }
        )
        send(producer, topic, records)

    @contextmanager
    def transactions(self, name):
        producer = ck.Producer(self.settings | {"transactional.id": name})
        producer.init_transactions(SECONDS)
        yield Transactions(producer)

    # Consume

    @contextmanager
    def consumer(self, group=None, protocol="range", reset="earliest", isolation="read_uncommitted"):
        settings = self.settings | {
            "group.id": group or "none",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error" if reset == "none" else reset,
            "isolation.level": isolation,
        }
        if protocol == "kip-848":
            settings["group.protocol"] = "consumer"
        else:
            # A heartbeat is how a member hears of a rebalance.
            settings |= {"partition.assignment.strategy": protocol, "heartbeat.interval.ms": 200}
        consumer = ck.Consumer(settings)
        try:
            yield Consumer(consumer)
        finally:
            consumer.close()

    def share(self, group, topic):
        # A share group starts at the end unless it is told otherwise.
        entry = ca.ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=ca.AlterConfigOpType.SET)
        resource = ca.ConfigResource(ca.ConfigResource.Type.GROUP, group, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)
        self.produce(topic, scenarios.numbers(0, 20))
        consumer = ck.ShareConsumer(self.settings | {"group.id": group})
        try:
            consumer.subscribe([topic])
            read = []
            deadline = time.monotonic() + SECONDS
            while len(read) < 20 and time.monotonic() < deadline:
                for message in consumer.poll(0.5):
                    if message.error():
                        raise KafkaException(message.error())
                    read.append(message.value())
            scenarios.equal(scenarios.values(scenarios.numbers(0, 20)), sorted(read, key=int), "records of a share group")
        finally:
            consumer.close()


def configured(access):
    given = {
        "bootstrap.servers": access.bootstrap,
        "security.protocol": access.protocol,
        "ssl.ca.location": access.ca,
        "ssl.certificate.location": access.certificate,
        "ssl.key.location": access.key,
        "sasl.mechanism": access.mechanism,
        "sasl.username": access.user,
        "sasl.password": access.password,
    }
    return {name: value for name, value in given.items() if value is not None}


def binding(acl):
    resource, operation = ca.ResourceType[acl.kind], ca.AclOperation[acl.operation]
    literal, allow = ca.ResourcePatternType.LITERAL, ca.AclPermissionType.ALLOW
    return ca.AclBinding(resource, acl.name, literal, acl.principal, "*", operation, allow)


def about(kind, name):
    literal, any_operation, any_permission = ca.ResourcePatternType.LITERAL, ca.AclOperation.ANY, ca.AclPermissionType.ANY
    return ca.AclBindingFilter(ca.ResourceType[kind], name, literal, None, None, any_operation, any_permission)


def acl(found):
    return secure.Acl(found.restype.name, found.name, found.principal, found.operation.name)


def send(producer, topic, records):
    """Produces and waits until each is acknowledged; the first error is raised."""
    errors = []

    def delivered(error, message):
        if error:
            errors.append(error)

    for record in records:
        stamp = {} if record.timestamp is None else {"timestamp": record.timestamp}
        producer.produce(
            topic, record.value, record.key, record.partition, headers=record.headers, on_delivery=delivered, **stamp
        )
    left = producer.flush(SECONDS)
    if errors:
        raise KafkaException(errors[0])
    scenarios.equal(0, left, "records not acknowledged")


class Transactions:
    def __init__(self, producer):
        self.producer = producer

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        send(self.producer, topic, records)

    def send_offset(self, consumer, group, topic, partition, offset):
        metadata = consumer.inner.consumer_group_metadata()
        self.producer.send_offsets_to_transaction([TopicPartition(topic, partition, offset)], metadata, SECONDS)

    def commit(self):
        self.producer.commit_transaction(SECONDS)

    def abort(self):
        self.producer.abort_transaction(SECONDS)


class Consumer:
    def __init__(self, inner):
        self.inner = inner
        self.ended = set()

    def subscribe(self, topic):
        self.inner.subscribe([topic])

    def assign(self, topic, offsets):
        self.inner.assign([TopicPartition(topic, partition, offset) for partition, offset in offsets.items()])

    def assignment(self, topic):
        return {found.partition for found in self.inner.assignment()}

    def poll(self, seconds, most=500):
        records = []
        for message in self.inner.consume(most, seconds):
            error = message.error()
            if error and error.code() == KafkaError._PARTITION_EOF:
                self.ended.add(message.partition())
            # Creating a topic takes a moment to reach every broker, and librdkafka says so while it waits.
            elif error and error.code() != scenarios.UNKNOWN_TOPIC_OR_PARTITION:
                raise KafkaException(error)
            elif not error:
                records.append(self.record(message))
        return records

    def record(self, message):
        return Record(
            message.value(), message.partition(), message.key(), message.headers() or [], message.timestamp()[1], message.offset()
        )

    def take(self, seconds):
        records = self.poll(seconds)
        if records:
            self.inner.commit(asynchronous=False)
        return records

    def seek(self, topic, partition, where):
        offset = {"beginning": ck.OFFSET_BEGINNING, "end": ck.OFFSET_END}.get(where, where)
        self.inner.seek(TopicPartition(topic, partition, offset))
        self.ended.discard(partition)
        # The end is looked up in the background: what comes before it is known is not read.
        while where == "end" and partition not in self.ended:
            scenarios.equal([], self.poll(0.1), "records before the end")

    def position(self, topic, partition):
        return self.inner.position([TopicPartition(topic, partition)])[0].offset

    def pause(self, topic, partition):
        self.inner.pause([TopicPartition(topic, partition)])

    def resume(self, topic, partition):
        self.inner.resume([TopicPartition(topic, partition)])

    def ends(self, topic, partition):
        return self.inner.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)

    def offset_for_time(self, topic, partition, time):
        (found,) = self.inner.offsets_for_times([TopicPartition(topic, partition, time)], SECONDS)
        return None if found.offset == ck.OFFSET_END else found.offset

    def commit(self, topic, partition, offset, metadata):
        self.inner.commit(offsets=[TopicPartition(topic, partition, offset, metadata)], asynchronous=False)

    def committed(self, topic, partition):
        return self.inner.committed([TopicPartition(topic, partition)], SECONDS)[0].offset


if __name__ == "__main__":
    scenarios.main(Client)
