"""aiokafka, whose coroutines run on a loop in a thread of its own: the scenarios wait for each."""

import asyncio
import logging
import threading
from contextlib import contextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.helpers import create_ssl_context
from aiokafka.structs import OffsetAndMetadata

import report
import scenarios
import secure
from scenarios import Record

SECONDS = 20
TOPIC = 2

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine, seconds=SECONDS):
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, seconds), loop).result()


async def started(make, **settings):
    """Makes a client within the loop, and starts it."""
    client = make(**settings)
    try:
        await client.start()
    except BaseException:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
        raise
    return client


class Client:
    edits_lists = False
    null_headers = True
    describes_groups = False
    has_acls = False
    # It drops what the connection fails with, when that comes after its side of the handshake.
    blind_to = (secure.ALERT,)
    waits_for_missing_apis = False
    protocols = ["range"]

    def __init__(self, bootstrap, access=None):
        self.bootstrap = bootstrap
        where = configured(access) if access else {"bootstrap_servers": bootstrap.split(",")}
        self.settings = where | {"request_timeout_ms": SECONDS * 1000}
        self.admin = wait(started(AIOKafkaAdminClient, **self.settings))

    def error_code(self, failure):
        return getattr(failure, "errno", None)

    def is_refusal(self, failure):
        refusals = (errors.IncompatibleBrokerVersion, errors.UnsupportedVersionError)
        # A broker's answer to who asks for a kind of coordinator that it does not know.
        return isinstance(failure, refusals) or "InvalidRequestError" in str(failure)

    # Admin

    def cluster(self):
        described = wait(self.admin.describe_cluster())
        return [broker["node_id"] for broker in described["brokers"]], described["controller_id"]

    def topics(self):
        return wait(self.admin.list_topics())

    def partitions(self, topic):
        (found,) = wait(self.admin.describe_topics([topic]))
        raise_for(found["error_code"], topic)
        return sum(partition["leader"] >= 0 for partition in found["partitions"])

    def create_topic(self, topic, partitions, configs):
        # aiokafka's CreateTopics is of a version that has no default for it.
        new = NewTopic(topic, partitions, 1, topic_configs=configs)
        ((_, code, message),) = wait(self.admin.create_topics([new])).topic_errors
        raise_for(code, message)

    def create_partitions(self, topic, partitions):
        wait(self.admin.create_partitions({topic: NewPartitions(partitions)}))

    def delete_topic(self, topic):
        ((_, code),) = wait(self.admin.delete_topics([topic])).topic_error_codes
        raise_for(code, topic)

    def config(self, topic):
        (response,) = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        ((code, message, _, _, entries),) = response.resources
        raise_for(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def alter_config(self, topic, name, value):
        (response,) = wait(self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})]))
        ((code, message, _, _),) = response.resources
        raise_for(code, message)

    def delete_records(self, topic, partition, before):
        asked = TopicPartition(topic, partition)
        return wait(self.admin.delete_records({asked: RecordsToDelete(before)}))[asked]

    def group_offset(self, group, topic, partition):
        found = wait(self.admin.list_consumer_group_offsets(group))[TopicPartition(topic, partition)]
        return found.offset, found.metadata

    def complaint(self, access):
        """It says in its log of each broker why it cannot connect."""
        lines = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: lines.append(record.getMessage())
        logging.getLogger("aiokafka").addHandler(handler)
        try:
            admin = wait(started(AIOKafkaAdminClient, **configured(access)))
        except errors.KafkaConnectionError:
            return "; ".join(lines)
        finally:
            logging.getLogger("aiokafka").removeHandler(handler)
        return f"it got in: {wait(admin.describe_cluster())}"

    # Produce

    def produce(self, topic, records, codec="none", idempotent=False, largest=1_048_576):
        compression = None if codec == "none" else codec
        settings = {"compression_type": compression, "enable_idempotence": idempotent, "max_request_size": largest}
        producer = wait(started(AIOKafkaProducer, **self.settings | settings))
        try:
            send(producer, topic, records)
        finally:
            wait(producer.stop())

    @contextmanager
    def transactions(self, name):
        producer = wait(started(AIOKafkaProducer, **self.settings, transactional_id=name))
        try:
            yield Transactions(producer)
        finally:
            wait(producer.stop())

    # Consume

    @contextmanager
    def consumer(self, group=None, protocol="range", reset="earliest", isolation="read_uncommitted"):
        settings = {
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": reset,
            "isolation_level": isolation,
            # A heartbeat is how a member hears of a rebalance.
            "heartbeat_interval_ms": 200,
            "partition_assignment_strategy": [RangePartitionAssignor],
            "max_partition_fetch_bytes": 5_000_000,
        }
        consumer = wait(started(AIOKafkaConsumer, **self.settings | settings))
        try:
            yield Consumer(consumer)
        finally:
            wait(consumer.stop())

    def share(self, group, topic):
        raise report.Skipped("aiokafka has no share consumer")


def configured(access):
    """A setting that is None is not its default for all of them."""
    given = {
        "bootstrap_servers": access.bootstrap.split(","),
        "security_protocol": access.protocol,
        "ssl_context": create_ssl_context(cafile=access.ca, certfile=access.certificate, keyfile=access.key),
        "sasl_mechanism": access.mechanism,
        "sasl_plain_username": access.user,
        "sasl_plain_password": access.password,
    }
    return {name: value for name, value in given.items() if value is not None}


def raise_for(code, what):
    if code:
        raise errors.for_code(code)(what)


def send(producer, topic, records):
    """Produces and waits until each is acknowledged; the first error is raised."""

    async def all_of_them():
        futures = [
            await producer.send(topic, r.value, r.key, r.partition, r.timestamp, r.headers or None) for r in records
        ]
        await asyncio.gather(*futures)

    wait(all_of_them())


class Transactions:
    def __init__(self, producer):
        self.producer = producer

    def begin(self):
        wait(self.producer.begin_transaction())

    def send(self, topic, records):
        send(self.producer, topic, records)

    def send_offset(self, consumer, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "")}
        wait(self.producer.send_offsets_to_transaction(offsets, group))

    def commit(self):
        wait(self.producer.commit_transaction())

    def abort(self):
        wait(self.producer.abort_transaction())


class Consumer:
    def __init__(self, inner):
        self.inner = inner

    def subscribe(self, topic):
        async def subscribe():
            self.inner.subscribe([topic])

        wait(subscribe())

    def assign(self, topic, offsets):
        async def assign():
            self.inner.assign([TopicPartition(topic, partition) for partition in offsets])
            for partition, offset in offsets.items():
                self.inner.seek(TopicPartition(topic, partition), offset)

        wait(assign())

    def assignment(self, topic):
        return {found.partition for found in self.inner.assignment()}

    def poll(self, seconds, most=500):
        return self.records(wait(self.inner.getmany(timeout_ms=int(seconds * 1000), max_records=most)))

    def records(self, found):
        return [
            Record(r.value, r.partition, r.key, list(r.headers), r.timestamp, r.offset) for records in found.values() for r in records
        ]

    def take(self, seconds):
        async def take():
            found = await self.inner.getmany(timeout_ms=int(seconds * 1000))
            try:
                if found:
                    await self.inner.commit({partition: records[-1].offset + 1 for partition, records in found.items()})
            except (errors.CommitFailedError, errors.IllegalStateError):
                # They are not committed, and are handed out again: to whoever has the partitions then, or here.
                for partition in self.inner.assignment() & found.keys():
                    self.inner.seek(partition, found[partition][0].offset)
                return {}
            return found

        return self.records(wait(take()))

    def seek(self, topic, partition, where):
        where_to = TopicPartition(topic, partition)

        async def seek():
            if where == "beginning":
                await self.inner.seek_to_beginning(where_to)
            elif where == "end":
                await self.inner.seek_to_end(where_to)
            else:
                self.inner.seek(where_to, where)

        wait(seek())

    def position(self, topic, partition):
        return wait(self.inner.position(TopicPartition(topic, partition)))

    def pause(self, topic, partition):
        async def pause():
            self.inner.pause(TopicPartition(topic, partition))

        wait(pause())

    def resume(self, topic, partition):
        async def resume():
            self.inner.resume(TopicPartition(topic, partition))

        wait(resume())

    def ends(self, topic, partition):
        asked = TopicPartition(topic, partition)
        return wait(self.inner.beginning_offsets([asked]))[asked], wait(self.inner.end_offsets([asked]))[asked]

    def offset_for_time(self, topic, partition, time):
        asked = TopicPartition(topic, partition)
        found = wait(self.inner.offsets_for_times({asked: time}))[asked]
        return found and found.offset

    def commit(self, topic, partition, offset, metadata):
        wait(self.inner.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata)}))

    def committed(self, topic, partition):
        return wait(self.inner.committed(TopicPartition(topic, partition)))


if __name__ == "__main__":
    scenarios.main(Client)
