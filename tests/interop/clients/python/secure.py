"""Where the cluster demands to know who asks, written once for every Python client.

SECURED names a folder with the cluster's certificates (ca.pem, alice.pem, alice.key, and of an authority that it does not know
other/), its users (name=password) and its listeners (name=host:port,…).
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import report
from report import check, equal, eventually

TOPIC_AUTHORIZATION_FAILED = 29
GROUP_AUTHORIZATION_FAILED = 30

# What clients say when they are not let in, or find that they had better not be.
AUTHENTICATION = re.compile("code=_AUTHENTICATION|SaslAuthenticationFailed")
ALERT = re.compile("alert[ _](bad|unknown|required|certificate)", re.IGNORECASE)
UNTRUSTED = re.compile("certificate[ _]verify[ _]failed", re.IGNORECASE)
CLOSED = re.compile("socket disconnected|Connection at .* closed")


@dataclass(frozen=True)
class Access:
    """How a client gets in: whom it trusts, which certificate it shows if any, and which name and password it gives if any."""

    bootstrap: str
    ca: str
    certificate: str | None = None
    key: str | None = None
    mechanism: str | None = None
    user: str | None = None
    password: str | None = None

    @property
    def protocol(self):
        return "SASL_SSL" if self.mechanism else "SSL"


@dataclass(frozen=True, order=True)
class Acl:
    """Lets a principal do one thing with one topic or group from any host."""

    kind: str
    name: str
    principal: str
    operation: str


def files():
    if "SECURED" not in os.environ:
        raise report.Skipped("SECURED names no folder of a secured cluster")
    return Path(os.environ["SECURED"])


def lines(name):
    return dict(line.split("=", 1) for line in (files() / name).read_text().splitlines())


def authority(folder="."):
    return str(files() / folder / "ca.pem")


def anybody(listener):
    return Access(lines("listeners")[listener], authority())


def identified(folder="."):
    certificate, key = (str(files() / folder / name) for name in ("alice.pem", "alice.key"))
    return replace(anybody("MTLS"), certificate=certificate, key=key)


def login(user, mechanism="SCRAM-SHA-512", password=None):
    return replace(anybody("SASL_SSL"), mechanism=mechanism, user=user, password=password or lines("users")[user])


def sasl(scenarios):
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        round_trip(scenarios, f"sasl-{mechanism}", login("alice", mechanism))
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        complains(scenarios, AUTHENTICATION, login("alice", mechanism, password="wrong"))
    complains(scenarios, AUTHENTICATION, login("nobody", password="secret"))
    complains(scenarios, UNTRUSTED, replace(login("alice"), ca=authority("other")))


def tls(scenarios):
    round_trip(scenarios, "tls-mutual", identified())
    round_trip(scenarios, "tls", anybody("SSL"))
    complains(scenarios, ALERT, anybody("MTLS"))
    complains(scenarios, ALERT, identified("other"))
    complains(scenarios, UNTRUSTED, replace(anybody("SSL"), ca=authority("other")))


def acls(scenarios):
    if not scenarios.client.has_acls:
        raise report.Skipped("its admin client has no ACLs")
    alice, bob, admin = (scenarios.over(login(name)) for name in ("alice", "bob", "admin"))
    topic, open_topic, group = scenarios.topic("acls"), scenarios.topic("acls-open"), f"{scenarios.prefix}-acls-group"
    created = set()

    def described():
        return {*admin.client.acls("TOPIC", topic), *admin.client.acls("GROUP", group)}

    def create(acls):
        admin.client.create_acls(sorted(acls))
        created.update(acls)
        eventually("the ACLs are described", lambda: described() == created)

    create({Acl("TOPIC", topic, "User:alice", operation) for operation in ("READ", "WRITE", "DESCRIBE")})
    create({Acl("TOPIC", topic, "User:CN=alice", "READ"), Acl("GROUP", group, "User:alice", "READ")})

    alice.write(topic, 20)
    equal(NUMBERS, values(alice.read(topic, 20)), "what alice reads")
    equal(NUMBERS, values(scenarios.over(identified()).read(topic, 20)), "what alice reads by her certificate")
    equal(NUMBERS, values(alice.read_as_member(topic, group, 20)), "what alice's group reads")
    check(topic in alice.client.topics(), "alice is told of the topic")
    check(topic not in bob.client.topics(), "bob is not told of it")
    scenarios.refused(GROUP_AUTHORIZATION_FAILED, bob.read_as_member, open_topic, group, 1)
    scenarios.refused(TOPIC_AUTHORIZATION_FAILED, bob.write, topic, 1)
    # He may know of it now, and what he asks of its leader is refused.
    create({Acl("TOPIC", topic, "User:bob", "DESCRIBE")})
    scenarios.refused(TOPIC_AUTHORIZATION_FAILED, bob.write, topic, 1)
    scenarios.refused(TOPIC_AUTHORIZATION_FAILED, bob.read, topic, 1)

    equal(created, {*admin.client.delete_acls("TOPIC", topic), *admin.client.delete_acls("GROUP", group)}, "deleted ACLs")
    eventually("the ACLs are gone", lambda: not described())
    bob.write(topic, 1)


NUMBERS = [b"%d" % i for i in range(20)]


def values(records):
    return [record.value for record in records]


def round_trip(scenarios, name, access):
    topic, user = scenarios.topic(name), scenarios.over(access)
    user.write(topic, 20)
    equal(NUMBERS, values(user.read(topic, 20)), f"what is read over {name}")


def complains(scenarios, words, access):
    said = scenarios.client.complaint(access)
    known = words.search(said) or words in scenarios.client.blind_to and CLOSED.search(said)
    check(known, f"{words.pattern!r} of {access.user or access.certificate} with {access.ca}, got: {said}")
