"""mongorestore, as far as restores use it: an archive, with or without --drop. Whatever else is refused, loudly."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bson.json_util import loads
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, PyMongoError

from .archive import ArchiveError, Collection, Reader
from .tools import RAW, Options, connect, fail, parse, say

BATCH = 1000


def matches(namespace: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns, in which an asterisk stands for anything, fits."""
    return any(re.fullmatch(".*".join(map(re.escape, one.split("*"))), namespace) for one in patterns)


@dataclass
class Restore:
    """One run."""

    client: MongoClient[dict[str, Any]]
    options: Options
    waiting: dict[str, list[RawBSONDocument]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    """Restored and failed, by namespace."""

    def wanted(self, collection: Collection) -> bool:
        """Whether the options choose the collection; exits for the one kind that is not supported."""
        included = self.options.lists.get("--nsInclude", ["*"])
        if not matches(collection.namespace, included):
            return False
        if matches(collection.namespace, self.options.lists.get("--nsExclude", [])):
            return False
        if collection.namespace in ("admin.system.users", "admin.system.roles"):
            fail(f"Failed: restoring {collection.namespace}: not supported by the lab's stand-in for mongorestore")
        return collection.database not in ("admin", "config", "local")

    def prepare(self, collection: Collection) -> None:
        """Make the collection, after dropping the one that is there if asked for."""
        database = self.client[collection.database]
        there = collection.name in database.list_collection_names()
        if there and "drop" in self.options.flags:
            self.options.say(f"dropping collection {collection.namespace} before restoring")
            database.drop_collection(collection.name)
        elif there:
            self.options.say(f"restoring to existing collection {collection.namespace} without dropping")
        if not there or "drop" in self.options.flags:
            database.create_collection(collection.name, **loads(collection.metadata).get("options", {}))
        self.counts[collection.namespace] = [0, 0]

    def add(self, namespace: str, document: bytes) -> None:
        """Insert a document, with others of its collection at once."""
        self.waiting.setdefault(namespace, []).append(RawBSONDocument(document))
        if len(self.waiting[namespace]) >= BATCH:
            self.flush(namespace)

    def flush(self, namespace: str) -> None:
        """Insert what waits."""
        documents = self.waiting.pop(namespace, [])
        if not documents:
            return
        database, _, name = namespace.partition(".")
        failed = 0
        try:
            self.client[database].get_collection(name, codec_options=RAW).insert_many(documents, ordered=False)
        except BulkWriteError as problem:
            errors = (problem.details or {})["writeErrors"]
            failed = len(errors)
            for one in errors:
                if "stop" in self.options.flags:
                    raise
                say(f"continuing through error: {one['errmsg']}")
        self.counts[namespace][0] += len(documents) - failed
        self.counts[namespace][1] += failed

    def finish(self, collection: Collection) -> None:
        """Make the indexes, as the real one does after the documents."""
        restored, failed = self.counts[collection.namespace]
        plural = "" if restored == 1 else "s"
        self.options.say(f"finished restoring {collection.namespace} ({restored} document{plural}, {failed} failures)")
        indexes = [one for one in loads(collection.metadata).get("indexes", []) if one["name"] != "_id_"]
        if indexes:
            self.options.say(f"restoring indexes for collection {collection.namespace} from metadata")
            self.client[collection.database].command({"createIndexes": collection.name, "indexes": indexes})
        else:
            self.options.say(f"no indexes to restore for collection {collection.namespace}")


def restore(client: MongoClient[dict[str, Any]], options: Options, source: BinaryIO) -> tuple[int, int]:
    """Restore; gives how many documents were restored and how many failed.

    Raises:
        ArchiveError: the archive is none, or damaged.
        PyMongoError: the server refuses.
    """
    reader = Reader(source)
    run = Restore(client, options)
    collections = {one.namespace: one for one in reader.collections if run.wanted(one)}
    options.say("preparing collections to restore from")
    if "dry" in options.flags:
        options.say("dry run completed")
        return 0, 0
    for one in collections.values():
        run.prepare(one)
    for namespace, document in reader.documents():
        if namespace not in collections:
            continue
        if document:
            run.add(namespace, document)
        else:
            run.flush(namespace)
    for one in collections.values():
        run.finish(one)
    return sum(done for done, _ in run.counts.values()), sum(failed for _, failed in run.counts.values())


def main() -> int:
    """Restore; gives the exit code, which is 0 even where single documents failed."""
    flags = {"--drop": "drop", "--dryRun": "dry", "--stopOnError": "stop"}
    options = parse("mongorestore", sys.argv[1:], {}, flags, {"--nsInclude", "--nsExclude"})
    client = connect(options)
    target = options.values["archive"]
    try:
        source: Any = Path(target).open("rb") if target else sys.stdin.buffer  # noqa: SIM115 - ends with the process
        if "gzip" in options.flags:
            source = gzip.GzipFile(fileobj=source)
        restored, failed = restore(client, options, source)
    except (ArchiveError, PyMongoError, OSError, EOFError) as problem:
        say(f"Failed: {problem}")
        say("0 document(s) restored successfully. 0 document(s) failed to restore.")
        return 1
    say(f"{restored} document(s) restored successfully. {failed} document(s) failed to restore.")
    return 0
