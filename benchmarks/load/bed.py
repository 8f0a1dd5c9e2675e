"""The test bed of all contestants: servers, members, a key, a token, processor cores."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
import pymongo
from bson import Int64
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pymongo.read_concern import ReadConcern

from tests.support.memcached import flush_cache, send_to_memcached
from tests.support.namespace import namespace_of
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.storage.documents import MemberCodec

ISSUER, AUDIENCE, KEY_ID = "https://issuer.example", "members-bench", "bench"
TOKEN_SECONDS = 6 * 3600

_TEMPLATE, _TEMPLATE_OF_OURS = "template", "template-of-ours"
_BATCH = 10_000
_CACHE_MIB = 512

Document = dict[str, Any]
Client = pymongo.MongoClient[Document]
Collection = pymongo.collection.Collection[Document]


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of the servers, and those of everything else: wrk, the databases, this program."""

    servers: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def are_apart(self) -> bool:
        """True if the load runs on other cores than the servers."""
        return not {*self.servers} & {*self.load}


def share_cores(processes: int) -> Cores:
    """Return a core for each process of a server, and the rest for the load; all if too few."""
    cores = tuple(sorted(_ALLOWED))
    if processes < len(cores):
        return Cores(cores[:processes], cores[processes:])
    return Cores(cores, cores)


_ALLOWED = os.sched_getaffinity(0)  # before anything here is pinned


@dataclass(frozen=True, slots=True)
class Bed:
    """The resources that all contestants share."""

    folder: Path
    mongodb_uri: str
    memcached: str
    client: Client
    key: RSAPrivateKey

    @property
    def public_pem(self) -> str:
        """The public key in PEM, as peers read it."""
        return self.key.public_key().public_bytes(*_PEM).decode()

    @property
    def jwks(self) -> Document:
        """The public key, as a key set."""
        jwk = jwt.get_algorithm_by_name("RS256").to_jwk(self.key.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return {"keys": [{**jwk, "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}

    def token(self, scope: str = "members:read members:write", **claims: Any) -> str:
        """Return a token that all contestants accept, unless a claim prevents it."""
        now = int(time.time())
        payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "iat": now, "scope": scope}
        payload = {**payload, "exp": now + TOKEN_SECONDS, **claims}
        return jwt.encode(payload, self.key, algorithm="RS256", headers={"kid": KEY_ID})

    def members(self, database: str) -> Collection:
        """Return a contestant's members, read as a majority has committed them."""
        collection = self.client[database]["members"]
        return collection.with_options(read_concern=ReadConcern("majority"))

    def make_database(
        self, name: str, *, has_words: bool = False, has_filters: bool = False
    ) -> None:
        """Copy the members into a database of the contestant.

        With `has_words`, each has the words of its name, with an index for searches. Otherwise they
        are as the service stores them, so that it does not have to prepare its lists. With
        `has_filters`, the collection has the indexes of filters, in the order of both lists.
        """
        template = _TEMPLATE if has_words else _TEMPLATE_OF_OURS
        words = [{"$set": {"words": {"$split": [{"$toLower": "$name"}, " "]}}}] if has_words else []
        out = {"$out": {"db": name, "coll": "members"}}
        self.client[template]["members"].aggregate([*words, out])
        self.client[name]["members"].create_index("name", unique=True)
        if has_words:
            self.client[name]["members"].create_index([("words", 1), ("_id", 1)])
        if has_filters:
            for field in (field.name for field in MEMBER_FIELDS if field.filter):
                for key in ("_id", "name"):
                    self.client[name]["members"].create_index([(field, 1), (key, 1)])

    def reads(self) -> int:
        """Return the number of documents that MongoDB has returned."""
        return int(self.client.admin.command("serverStatus")["metrics"]["document"]["returned"])

    def empty_cache(self, databases: list[str]) -> None:
        """Remove everything from Memcached but the epoch of each service of ours.

        Without it, they would take Memcached for restarted, and bypass it for some seconds.
        """
        flush_cache(self.memcached, *(namespace_of(self.client[name]) for name in databases))


_PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def enlarge_cache(client: Client) -> None:
    """Let MongoDB keep 1,000,000 members and their indexes in memory, as a dedicated server would.

    The private MongoDB has 256 MB of cache, and would read them from files.
    """
    client.admin.command({"setParameter": 1, "wiredTigerEngineRuntimeConfig": "cache_size=2GB"})


def enlarge_memcached(address: str) -> None:
    """Let Memcached keep the members of all contestants; the private one has 64 MiB."""
    command = b"cache_memlimit %d\r\n" % _CACHE_MIB
    if send_to_memcached(address, command) != b"OK\r\n":
        raise SystemExit("bench: Memcached rejected cache_memlimit: install a later version")


def member(member_id: int) -> Document:
    """Return the initial document of a member. requests.lua changes its telephone number only.

    The last word of the name has the digits of the id in reverse, so that the members of a search
    are spread over all ids, as those of real words are. No word of the address begins with a digit.
    """
    return {
        "_id": Int64(member_id),
        "name": f"Ada Lovelace {str(member_id)[::-1]}",
        "email": f"ada.m{member_id}@example.org",
        "phone": f"+1-555-{0:010}",
        "version": Int64(1),
    }


@contextmanager
def make_bed(members: int) -> Iterator[Bed]:
    """Start the servers with this number of members, and remove everything at the end."""
    with (
        TemporaryDirectory(prefix="tornado-members-bench-") as name,
        PrivateServers(Path(name), die_with_parent=True) as servers,
        Client(servers.mongodb_uri) as client,
    ):
        if not servers.cache_servers:
            raise SystemExit("bench: memcached is not installed")
        enlarge_memcached(servers.cache_servers[0])
        codec = MemberCodec()
        for first in range(1, members + 1, _BATCH):
            ids = range(first, first + min(_BATCH, members))
            documents = [*map(member, ids)]
            client[_TEMPLATE]["members"].insert_many(documents)
            ours = ({**document, **codec.derived(document)} for document in documents)
            client[_TEMPLATE_OF_OURS]["members"].insert_many(ours)
        key = generate_private_key(public_exponent=65537, key_size=2048)
        yield Bed(Path(name), servers.mongodb_uri, servers.cache_servers[0], client, key)
