"""What every Python client is asked to do, written once against the adapter that each of them has.

An adapter is a class with the methods used here, blocking ones, and `error_code(exception)`, which says Kafka's number of an error;
it raises `report.Skipped` for what its client lacks.
"""

import os
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field

import report
import secure
from report import check, equal, eventually

OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_TOPIC = 17
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_CONFIG = 40
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69

END_TXN = 26
CONSUMER_GROUP_HEARTBEAT = 68
SHARE_GROUP_HEARTBEAT = 76

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@dataclass
class Record:
    value: bytes | None
    partition: int = 0
    key: bytes | None = None
    headers: list = field(default_factory=list)
    timestamp: int | None = None
    offset: int | None = None


def numbers(first, end, partitions=1):
    """Records that carry a number, spread over the partitions in turn."""
    return [Record(b"%d" % i, i % partitions) for i in range(first, end)]


def values(records):
    return [record.value for record in records]


def advertised(bootstrap):
    """The keys of the APIs in the broker's answer to ApiVersions 0."""
    host, port = bootstrap.split(",")[0].rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as broker:
        broker.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))
        with broker.makefile("rb") as answer:
            (length,) = struct.unpack(">i", answer.read(4))
            body = answer.read(length)
    _, error, count = struct.unpack_from(">ihi", body)
    equal(0, error, "the error of ApiVersions")
    return {struct.unpack_from(">h", body, 10 + 6 * i)[0] for i in range(count)}


class Scenarios:
    def __init__(self, client, prefix):
        self.client = client
        self.prefix = prefix

    def topic(self, name, partitions=1, configs=None):
        name = f"{self.prefix}-{name}"
        self.client.create_topic(name, partitions, configs or {})
        eventually(f"{name} has leaders", lambda: self.client.partitions(name) == partitions)
        return name

    def refused(self, code, action, *arguments):
        try:
            action(*arguments)
        except Exception as failure:
            if self.client.error_code(failure) != code:
                raise
            return
        raise AssertionError(f"expected error {code}, and it succeeded")

    def served(self, action, api=None):
        """Runs what the broker may not serve: a refusal that says so is an answer, anything else is a failure.

        `api` is the key of an API that it needs, for clients that wait in silence for a broker that has it."""
        if api is not None and self.client.waits_for_missing_apis and api not in advertised(self.client.bootstrap):
            raise report.NotServed(f"API {api} is not advertised, and this client waits in silence for it")
        try:
            action()
        except report.Skipped:
            raise
        except Exception as failure:
            if not self.client.is_refusal(failure):
                raise
            raise report.NotServed(f"{type(failure).__name__}: {failure}") from failure

    def read(self, topic, count, partitions=1, **settings):
        """Reads that many records from the start of the topic, and no more than come with them."""
        with self.client.consumer(**settings) as consumer:
            consumer.assign(topic, {partition: 0 for partition in range(partitions)})
            return self.poll(consumer, count)

    def read_as_member(self, topic, group, count):
        with self.client.consumer(group=group) as consumer:
            consumer.subscribe(topic)
            return self.poll(consumer, count)

    def write(self, topic, count):
        self.client.produce(topic, numbers(0, count))

    def over(self, access):
        """The same with a client that gets in as the access says."""
        return Scenarios(type(self.client)(access.bootstrap, access), self.prefix)

    def poll(self, consumer, count):
        records = []
        deadline = time.monotonic() + 20
        while len(records) < count:
            check(time.monotonic() < deadline, f"{len(records)} of {count} records within 20 s")
            records += consumer.poll(0.2, count - len(records))
        return records

    def admin(self):
        client = self.client
        brokers, controller = client.cluster()
        check(brokers and controller in brokers, f"controller {controller} is one of the brokers {brokers}")
        topic = self.topic("admin", 2, {"retention.ms": "3600000"})
        self.refused(TOPIC_ALREADY_EXISTS, client.create_topic, topic, 2, {})
        self.refused(INVALID_CONFIG, client.create_topic, f"{topic}-other", 1, {"retention.ms": "long"})
        self.refused(INVALID_TOPIC, client.create_topic, "not a name", 1, {})
        self.refused(INVALID_PARTITIONS, client.create_topic, f"{topic}-other", 0, {})
        check(topic in client.topics(), "the topic is listed")
        equal("3600000", client.config(topic)["retention.ms"], "retention.ms as created")
        equal("delete", client.config(topic)["cleanup.policy"], "cleanup.policy by default")
        client.alter_config(topic, "retention.ms", "7200000")
        eventually("retention.ms is altered", lambda: client.config(topic)["retention.ms"] == "7200000")
        self.refused(INVALID_CONFIG, client.alter_config, topic, "retention.ms", "long")
        if client.edits_lists:
            client.append_config(topic, "cleanup.policy", "compact")
            eventually("compact is appended", lambda: client.config(topic)["cleanup.policy"] == "delete,compact")
            client.subtract_config(topic, "cleanup.policy", "delete")
            eventually("delete is subtracted", lambda: client.config(topic)["cleanup.policy"] == "compact")
            equal("7200000", client.config(topic)["retention.ms"], "retention.ms after edits of another")
        client.create_partitions(topic, 5)
        eventually("it has five partitions", lambda: client.partitions(topic) == 5)
        self.refused(INVALID_PARTITIONS, client.create_partitions, topic, 3)
        client.delete_topic(topic)
        eventually("the topic is gone", lambda: topic not in client.topics())
        self.refused(UNKNOWN_TOPIC_OR_PARTITION, client.delete_topic, topic)
        # Last, as some clients ask for a topic so that it is created.
        self.refused(UNKNOWN_TOPIC_OR_PARTITION, client.partitions, topic)

    def codecs(self):
        # Long and alike, so that even a batch of one record becomes shorter: some clients send it plain otherwise.
        written = [Record(b"record %d of many that are all alike " % i * 10) for i in range(200)]
        for codec in CODECS:
            topic = self.topic(f"codec-{codec}")
            self.client.produce(topic, written, codec=codec)
            equal(values(written), values(self.read(topic, 200)), f"records with codec {codec}")

    def idempotent(self):
        topic = self.topic("idempotent", 3)
        self.client.produce(topic, numbers(0, 1200, 3), idempotent=True)
        read = self.read(topic, 1200, 3)
        for partition in range(3):
            expected = [b"%d" % i for i in range(partition, 1200, 3)]
            equal(expected, values(r for r in read if r.partition == partition), f"partition {partition}")

    def group(self):
        self.rebalances("group", "range")

    def cooperative(self):
        self.rebalances("cooperative", "cooperative-sticky")

    def consumer_protocol(self):
        if "kip-848" not in self.client.protocols:
            raise report.Skipped("it has only the classic protocol")
        self.served(lambda: self.rebalances("kip-848", "kip-848"), CONSUMER_GROUP_HEARTBEAT)

    def rebalances(self, name, protocol):
        """Two members share four partitions, one leaves, a third joins; every record is handed out once overall."""
        if protocol not in self.client.protocols:
            raise report.Skipped(f"it has no {protocol}")
        topic, group = self.topic(name, 4), f"{self.prefix}-{name}"
        members = Members(lambda: self.client.consumer(group=group, protocol=protocol), topic)

        def produce(first, end):
            self.client.produce(topic, numbers(first, end, 4))
            eventually(f"{end} records are read", lambda: len(members.read()) >= end)

        try:
            first = members.join()
            eventually("the first member has all", lambda: len(first.assignment) == 4)
            second = members.join()
            eventually("two members share", lambda: shared(first, second))
            produce(0, 200)
            if self.client.describes_groups:
                eventually("two members are described", lambda: self.client.members(group) == 2)
                self.refused(NON_EMPTY_GROUP, self.client.delete_group, group)
            members.leave(first)
            eventually("the second member has all", lambda: len(second.assignment) == 4)
            produce(200, 400)
            third = members.join()
            eventually("a third member shares", lambda: shared(second, third))
            produce(400, 600)
            members.leave(second)
            members.leave(third)
            # Whoever comes later finds everything committed; a record of its own shows that it has read.
            last = members.join()
            eventually("the last member has all", lambda: len(last.assignment) == 4)
            produce(600, 601)
            members.leave(last)
        finally:
            members.stop()
        equal(sorted(values(numbers(0, 601)), key=int), sorted(members.read(), key=int), "records handed out")
        if self.client.describes_groups:
            eventually("the empty group is deleted", lambda: self.client.delete_group(group) or True)
            self.refused(GROUP_ID_NOT_FOUND, self.client.delete_group, group)

    def commit_and_resume(self):
        topic, group = self.topic("commit-resume"), f"{self.prefix}-commit-resume"
        self.client.produce(topic, numbers(0, 100))
        with self.client.consumer(group=group) as consumer:
            consumer.subscribe(topic)
            equal(values(numbers(0, 40)), values(self.poll(consumer, 40)), "the first 40")
            consumer.commit(topic, 0, 40, "forty")
        with self.client.consumer(group=group) as consumer:
            consumer.subscribe(topic)
            equal(values(numbers(40, 80)), values(self.poll(consumer, 40)), "the next 40")
            equal(40, consumer.committed(topic, 0), "the committed offset")
            consumer.commit(topic, 0, 80, "eighty")
        equal((80, "eighty"), self.client.group_offset(group, topic, 0), "the commit as admin sees it")

    def offsets_for_times(self):
        topic = self.topic("times")
        start = int(time.time() * 1000) - 60_000
        self.client.produce(topic, [Record(b"%d" % i, timestamp=start + i * 1000) for i in range(10)])
        with self.client.consumer() as consumer:
            consumer.assign(topic, {0: 0})
            for after, expected in [(-5000, 0), (0, 0), (4500, 5), (5000, 5), (9000, 9), (9001, None)]:
                equal(expected, consumer.offset_for_time(topic, 0, start + after), f"offset {after} ms after the first")
            stamps = [record.timestamp for record in self.poll(consumer, 10)]
            equal([start + i * 1000 for i in range(10)], stamps, "timestamps")

    def headers(self):
        topic = self.topic("headers")
        headers = [("b", b"1"), ("a", b"2"), ("b", b"3"), ("empty", b""), ("bytes", bytes(range(256)))]
        if self.client.null_headers:
            headers.append(("null", None))
        written = [
            Record(b"v", key=b"k", headers=headers),
            Record(None, key=b"tombstone"),
            Record(b"", headers=[("only", b"x")]),
            Record(b"", key=b""),
        ]
        self.client.produce(topic, written)
        read = self.read(topic, len(written))
        equal([(r.key, r.value, r.headers) for r in written], [(r.key, r.value, r.headers) for r in read], "records")

    def large(self):
        small, big = self.topic("large"), self.topic("larger", 1, {"max.message.bytes": "4000000"})
        fits, beyond = Record(os.urandom(900_000)), Record(os.urandom(3_000_000))
        self.client.produce(small, [fits], largest=5_000_000)
        self.refused(MESSAGE_TOO_LARGE, lambda: self.client.produce(small, [beyond], largest=5_000_000))
        self.client.produce(big, [beyond], largest=5_000_000)
        equal([fits.value], values(self.read(small, 1)), "900 kB")
        equal([beyond.value], values(self.read(big, 1)), "3 MB")

    def seek(self):
        topic = self.topic("seek", 2)
        self.client.produce(topic, numbers(0, 100))
        with self.client.consumer() as consumer:
            consumer.assign(topic, {0: 50, 1: 0})
            equal(b"50", self.poll(consumer, 1)[0].value, "from the middle")
            consumer.seek(topic, 0, "beginning")
            equal(values(numbers(0, 100)), values(self.poll(consumer, 100)), "from the beginning")
            equal(100, consumer.position(topic, 0), "position")
            consumer.seek(topic, 0, 99)
            equal([b"99"], values(self.poll(consumer, 1)), "the last one")
            consumer.seek(topic, 0, "end")
            self.client.produce(topic, [Record(b"new")])
            equal([b"new"], values(self.poll(consumer, 1)), "from the end")
            consumer.pause(topic, 0)
            self.client.produce(topic, [Record(b"held")])
            self.client.produce(topic, [Record(b"passes", 1)])
            equal([b"passes"], values(self.poll(consumer, 1)), "while partition 0 is paused")
            consumer.resume(topic, 0)
            equal([b"held"], values(self.poll(consumer, 1)), "after it is resumed")

    def delete_records(self):
        topic = self.topic("delete-records")
        self.client.produce(topic, numbers(0, 100))
        equal(30, self.client.delete_records(topic, 0, 30), "low watermark")
        self.refused(OFFSET_OUT_OF_RANGE, self.client.delete_records, topic, 0, 101)
        with self.client.consumer(reset="earliest") as consumer:
            equal((30, 100), consumer.ends(topic, 0), "first and end offset")
            consumer.assign(topic, {0: 10})
            equal(values(numbers(30, 100)), values(self.poll(consumer, 70)), "reset to the first")
        with self.client.consumer(reset="none") as consumer:
            consumer.assign(topic, {0: 10})
            self.refused(OFFSET_OUT_OF_RANGE, self.poll, consumer, 1)
        equal(100, self.client.delete_records(topic, 0, -1), "low watermark when all is deleted")
        with self.client.consumer() as consumer:
            equal((100, 100), consumer.ends(topic, 0), "first and end offset of the emptied partition")

    def spark_pattern(self):
        topic = self.topic("spark", 2)
        start = int(time.time() * 1000) - 60_000
        written = [Record(b"%d" % i, i % 2, timestamp=start + i * 1000) for i in range(40)]
        self.client.produce(topic, written)
        with self.client.consumer() as consumer:
            check(self.client.partitions(topic) == 2, "two partitions")
            ends = {partition: consumer.ends(topic, partition) for partition in range(2)}
            equal({0: (0, 20), 1: (0, 20)}, ends, "first and end offsets")
            consumer.assign(topic, {0: 0})
            equal(10, consumer.offset_for_time(topic, 0, start + 20_000), "offset by time")
            for partition, first, end in [(0, 0, 10), (1, 0, 10), (0, 10, 20), (1, 10, 20)]:
                consumer.assign(topic, {partition: first})
                read = self.poll(consumer, end - first)
                equal([b"%d" % (i * 2 + partition) for i in range(first, end)], values(read), f"{partition}: {first} to {end}")
                equal(end, consumer.position(topic, partition), "position")

    def transactions(self):
        source, output = self.topic("transactions-in"), self.topic("transactions-out", 2)
        group = f"{self.prefix}-transactions"
        self.client.produce(source, numbers(0, 90))

        def copy():
            with self.client.consumer(group=group) as consumer, self.client.transactions(f"{self.prefix}-copier") as producer:
                following, aborted = 0, set()
                while following < 90:
                    consumer.assign(source, {0: following})
                    records = self.poll(consumer, 10)
                    end = records[-1].offset + 1
                    producer.begin()
                    producer.send(output, [Record(r.value, r.offset % 2) for r in records])
                    producer.send_offset(consumer, group, source, 0, end)
                    # Every third transaction is aborted the first time, and tried again from the same offset.
                    if following // 10 % 3 == 2 and following not in aborted:
                        producer.abort()
                        aborted.add(following)
                    else:
                        producer.commit()
                        following = end

        self.served(copy, END_TXN)
        committed = sorted((int(v) for v in values(self.read(output, 90, 2, isolation="read_committed"))))
        equal(list(range(90)), committed, "committed records")
        self.read(output, 120, 2, isolation="read_uncommitted")
        equal(90, self.client.group_offset(group, source, 0)[0], "offset committed by transactions")

    def share_groups(self):
        topic, group = self.topic("share-groups"), f"{self.prefix}-share-groups"
        self.served(lambda: self.client.share(group, topic), SHARE_GROUP_HEARTBEAT)

    def all(self):
        return {
            "admin": self.admin,
            "codecs": self.codecs,
            "idempotent": self.idempotent,
            "group": self.group,
            "cooperative": self.cooperative,
            "commit-resume": self.commit_and_resume,
            "offsets-for-times": self.offsets_for_times,
            "headers": self.headers,
            "large": self.large,
            "seek": self.seek,
            "delete-records": self.delete_records,
            "spark-pattern": self.spark_pattern,
            "transactions": self.transactions,
            "kip-848": self.consumer_protocol,
            "sasl": lambda: secure.sasl(self),
            "tls": lambda: secure.tls(self),
            "acls": lambda: secure.acls(self),
            "share-groups": self.share_groups,
        }


def shared(one, other):
    return len(one.assignment) == len(other.assignment) == 2 and not one.assignment & other.assignment


class Members:
    """Group members that poll and commit, each on a thread of its own."""

    def __init__(self, consumer, topic):
        self.consumer = consumer
        self.topic = topic
        self.members = []

    def join(self):
        member = Member(self.consumer(), self.topic)
        self.members.append(member)
        member.thread.start()
        return member

    def leave(self, member):
        member.leaving.set()
        member.thread.join(20)
        check(not member.thread.is_alive(), "a member leaves within 20 s")
        member.fail_if_failed()

    def stop(self):
        for member in self.members:
            member.leaving.set()

    def read(self):
        for member in self.members:
            member.fail_if_failed()
        return [value for member in self.members for value in list(member.read)]


class Member:
    def __init__(self, consumer, topic):
        self.consumer = consumer
        self.topic = topic
        self.read = []
        self.failure = None
        self.partitions = set()
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    @property
    def assignment(self):
        self.fail_if_failed()
        return self.partitions

    def fail_if_failed(self):
        if self.failure:
            raise MemberFailed() from self.failure

    def work(self):
        try:
            with self.consumer as consumer:
                consumer.subscribe(self.topic)
                while not self.leaving.is_set():
                    self.read += values(consumer.take(0.1))
                    self.partitions = consumer.assignment(self.topic)
        except Exception as failure:
            self.failure = failure


class MemberFailed(Exception):
    """What its cause says."""

    def __str__(self):
        return f"a member failed: {type(self.__cause__).__name__}: {self.__cause__}"


def main(adapter):
    bootstrap, prefix, *only = sys.argv[1:]
    report.run(Scenarios(adapter(bootstrap), prefix).all(), only)
