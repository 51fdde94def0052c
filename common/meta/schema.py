"""The key map: everything the store keeps in Redis.

The keys of a bucket carry its hash tag, so that a script which touches several of them stays in
one slot of a cluster. Their number does not depend on what the bucket holds: objects and files
are fields, so scripts know every key beforehand, many calls share one script call, and an object
costs no key of its own.

```
key                           type    field or member → value or score
putter:{b:<bucket>}:files     HASH    key → file value (below)
putter:{b:<bucket>}:names     ZSET    key → 0; names that hold something, in the order of bytes
putter:{b:<bucket>}:tombs     ZSET    key → ms when its tombstone may be dropped
putter:{b:<bucket>}:versions  HASH    "<stamp> <key>" → file value of a version that is not the
                                      name's present one, while any of its bytes are kept;
                                      "#<stamp> <key>" → how many of its objects are left, if it
                                      had more than one
putter:{b:<bucket>}:objects   HASH    ObjectID → object value (below)
putter:{b:<bucket>}:writing   ZSET    ObjectID → ms when the writer's lease ends
putter:{b:<bucket>}:trash     ZSET    ObjectID → ms from which its bytes may be freed
putter:{b:<bucket>}:readers   ZSET    "<ObjectID> <reader>" → ms when the reader's hold ends
putter:{b:<bucket>}:holds     HASH    ObjectID → how many readers hold it
putter:{b:<bucket>}:claims    ZSET    key → ms when the claim of a conditional write ends
putter:{b:<bucket>}:claimants HASH    key → who holds that claim
putter:{b:<bucket>}:owed      ZSET    "<node> <ObjectID> <bytes>" → 0; what putters should hold of
                                      written objects and do not; "*": no putter is chosen yet
putter:{b:<bucket>}:owing     HASH    node → "<objects> <bytes>": all of that for this node
putter:{b:<bucket>}:surplus   ZSET    "<node> <ObjectID> <ms>" → 0; from when on the node may free
                                      what it holds of the object and no extent places there
putter:{b:<bucket>}:missed    ZSET    "<node> <stamp> <node,node…|-> <record>" → 0; commit records
                                      without an object that the first node lacks, and who holds
                                      them; the stamp has 20 digits
putter:{b:<bucket>}:missing   HASH    node → "<records> <bytes>": all of that for this node
putter:{b:<bucket>}:access    HASH    access key id → access value (below), under the bucket
                                      "@keys", which is none; empty everywhere else
putter:{b:<bucket>}:events    ZSET    "<target> <number> <event>" → 0; events that wait for their
                                      delivery; the number has 16 digits
putter:{b:<bucket>}:outbox    HASH    "#" → number of the last event; target → how many of its
                                      events had to go undelivered
putter:{b:<bucket>}:bucket    HASH    "since" → stamp of the first version; "run" → run id of the
                                      server in which it is complete; "settings" → settings value
                                      (below); "followed" → stamp of the change of settings that
                                      all its objects follow; "versioning" → "Enabled" or
                                      "Suspended", "quota" → "<bytes> <files>" at most, 0 for any
                                      number, both as the settings say; "use" → "<files> <bytes>"
                                      that the names hold, delete markers left out, of this bucket
                                      and of "@versions.<bucket>"; counted from the names where it
                                      is not there
putter:{b:<bucket>}:@<noun>           the same of "@versions.<bucket>", where the versions of the
                                      bucket are (common.versions): scripts look at both at once
putter:{counters}:buckets     SET     every bucket that was ever written to
putter:{counters}:runs        ZSET    run id of a server → turn in which it was last completed
putter:{counters}:marks       HASH    putter → "<n> <epoch>": its commit records up to number n are
                                      applied; the run in which those above were last replayed
putter:{counters}             HASH    "tickets" "objects" "stamps" → next free number;
                                      "tickets.ceiling" … → ceiling; "epoch" → the run in which
                                      they were established; "complete" → the run in which all
                                      that may have been lost was last brought back,
                                      "complete.stamp" → below all stamps given out since,
                                      "completed" → how often, "attempt" → token of whoever is
                                      at it now; "born" → a random word that stands
                                      for the run where the server knows no INFO
putter:{counters}:members     HASH    node → "<ms of the last sign of life> <role> <msgpack>"
putter:{counters}:fences      HASH    putter → "<instance> <starts> <n> <ms> <address>" of the
                                      process taken last: how often its data directory was
                                      started, the number of its last commit record, its last
                                      sign of life or 0; kept when it signs off
putter:{counters}:decisions   HASH    putter → "draining" or "gone", by the operator
putter:lease:<name>           STRING  holder, expires
```

Values are text up to the one part that only Python reads (but for the size of a version), so that
scripts find their way with one pattern and nothing but core Lua:

```
file value       v <stamp> <ObjectID,ObjectID…|-> <bytes of etag><lock> <etag><msgpack of the rest>
                                 the rest is an array, its first element the version's bytes
                 t <stamp>        a tombstone
                 t <stamp> <own>  one of the version of this stamp alone, and its own stamp
                 a <stamp>        a tombstone for a name that held nothing
object value     w <acked> <router> <node,node…|-> <first+count,…>     writing
                 f <acked> <router> <node,node…|-> <first+count,…>     failed
                 c <stamp> <router> <node,node…|-> <key>               written ("committed")
                 d <stamp> <router> <node,node…|-> <key>               deleted
lock             "/" and G<ms> or C<ms>, if it is kept by one of the modes until then; H, if it
                 is held; empty, if neither
settings value   <stamp> <msgpack of the rest>
access value     <stamp> <msgpack of the rest>, the secret in it encrypted
```

The nodes of a written object stand in its version; they are repeated in the object's value only
when some putter beside them may hold a stray part of it, so that deleting finds that one too, and
after a rebuild. A failed object "!<stamp>" stands for a version without objects that was given up.

What is owed follows from the versions that names hold; it is kept in order by putter beside them.
Where more than 16 putters lack something, debts of a version that is deleted or overwritten stay
until somebody asks for what the putter is owed.

Times are milliseconds, stamps microseconds, both of Redis's clock.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from common.versions import has_versions, plain_bucket, versions_of

COUNTERS: Final = b"putter:{counters}"
BUCKETS: Final = b"putter:{counters}:buckets"
RUNS: Final = b"putter:{counters}:runs"
MARKS: Final = b"putter:{counters}:marks"
MEMBERS: Final = b"putter:{counters}:members"
FENCES: Final = b"putter:{counters}:fences"
DECISIONS: Final = b"putter:{counters}:decisions"

BUCKET_NOUNS: Final = (
    "files",
    "names",
    "tombs",
    "versions",
    "objects",
    "writing",
    "trash",
    "readers",
    "holds",
    "bucket",
    "claims",
    "claimants",
    "owed",
    "owing",
    "surplus",
    "missed",
    "missing",
    "access",
)
"""The keys of a bucket in the order in which scripts find them in ``KEYS``."""


TWIN_NOUNS: Final = ("files", "names", "claims", "claimants", "bucket")
"""Behind these, the keys of the bucket that holds the versions of this one, or the other way round.
"""
SHARED_NOUNS: Final = ("events", "outbox")
"""Behind these, keys of the bucket that clients know: it and the one with its versions share them.
"""
KEYS_OF_BUCKET: Final = len(BUCKET_NOUNS) + len(TWIN_NOUNS) + len(SHARED_NOUNS)


def bucket_key(bucket: str, noun: str) -> bytes:
    """One key of a bucket."""
    mark = "@" if has_versions(bucket) else ""
    return f"putter:{{b:{plain_bucket(bucket)}}}:{mark}{noun}".encode()


@lru_cache(maxsize=4096)
def bucket_keys(bucket: str) -> tuple[bytes, ...]:
    """All keys that scripts of a bucket get.

    `BUCKET_NOUNS`, then the twin's `TWIN_NOUNS`, then `SHARED_NOUNS`.
    """
    twin = plain_bucket(bucket) if has_versions(bucket) else versions_of(bucket)
    own = [bucket_key(bucket, noun) for noun in BUCKET_NOUNS]
    shared = [bucket_key(plain_bucket(bucket), noun) for noun in SHARED_NOUNS]
    return (*own, *(bucket_key(twin, noun) for noun in TWIN_NOUNS), *shared)


def bucket_of(key: bytes) -> str:
    """The bucket that a key is of; "" if it is of none."""
    head, _, tail = key.decode().partition("{b:")
    bucket, _, noun = tail.partition("}:")
    if head != "putter:":
        return ""
    return versions_of(bucket) if noun.startswith("@") else bucket


def lease_key(name: str) -> bytes:
    """The key of a lease on work."""
    return f"putter:lease:{name}".encode()
