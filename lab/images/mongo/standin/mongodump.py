"""mongodump, as far as backups use it: every database, or one, as an archive. Whatever else is refused, loudly."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bson
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .archive import Collection, Writer
from .tools import RAW, TOOL_VERSION, connect, fail, parse

# as the real one: what belongs to the server and not to its data
NOT_DUMPED = {"local", "config"}


def describe(client: MongoClient[dict[str, Any]], database: str) -> list[Collection]:
    """The collections of a database with their options and indexes."""
    found = []
    for about in client[database].list_collections():
        indexes = list(client[database][about["name"]].list_indexes())
        metadata = {
            **({"options": about["options"]} if about.get("options") else {}),
            "indexes": indexes,
            "collectionName": about["name"],
            "type": "collection",
        }
        text = dumps(metadata, json_options=CANONICAL_JSON_OPTIONS)
        size = int(client[database].command("collStats", about["name"])["size"])
        found.append(Collection(database, about["name"], text, min(size, 2**31 - 1)))
    return found


def server_users(client: MongoClient[dict[str, Any]]) -> list[tuple[Collection, list[bytes]]]:
    """What a dump of everything holds of database admin: the users with their credentials, and their format."""
    users = client.admin.command({"usersInfo": {"forAllDBs": True}, "showCredentials": True})["users"]
    metadata = '{"indexes":[],"collectionName":"%s","type":"collection"}'
    return [
        (Collection("admin", "system.users", metadata % "system.users"), [bson.encode(one) for one in users]),
        (
            Collection("admin", "system.version", metadata % "system.version"),
            [bson.encode({"_id": "authSchema", "currentVersion": 5})],
        ),
    ]


def documents(client: MongoClient[dict[str, Any]], collection: Collection) -> Iterator[bytes]:
    """A collection's documents as they are."""
    source: Any = client[collection.database].get_collection(collection.name, codec_options=RAW)
    for document in source.find(hint="_id_"):
        yield document.raw


def main() -> int:
    """Dump; gives the exit code."""
    options = parse("mongodump", sys.argv[1:], {"-d": "db", "--db": "db"}, {}, set())
    client = connect(options)
    try:
        only = options.values.get("db", "")
        names = [only] if only else sorted(set(client.list_database_names()) - NOT_DUMPED - {"admin"})
        collections = [one for name in names for one in describe(client, name)]
        special = [] if only else server_users(client)
        with ExitStack() as opened:
            target = options.values["archive"]
            sink: Any = opened.enter_context(Path(target).open("wb")) if target else sys.stdout.buffer
            if "gzip" in options.flags:
                sink = opened.enter_context(gzip.GzipFile(fileobj=sink, mode="wb"))
            version = str(client.admin.command("buildInfo")["version"])
            writer = Writer(sink, version, TOOL_VERSION, [*(one for one, _ in special), *collections])
            where = f"archive '{target}'" if target else "archive on stdout"
            for one, given in [*special, *((one, None) for one in collections)]:
                options.say(f"writing {one.namespace} to {where}")
                count = writer.collection(one, iter(given) if given is not None else documents(client, one))
                options.say(f"done dumping {one.namespace} ({count} document{'' if count == 1 else 's'})")
            sink.flush()
    except PyMongoError as problem:
        fail(f"Failed: {problem}")
    except OSError as problem:
        fail(f"Failed: archive writer: error writing data: {problem}")
    return 0
