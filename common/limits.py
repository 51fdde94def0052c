"""Every limit of the store in one place, with the relations between them asserted.

Units stand last in the names. What the operator may change is in `common.settings`; these
are the bounds that hold whatever the settings say.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Frames
FRAME_HEADER_BYTES: Final = 16
RAW_DATA_BYTES: Final = 1458
RAW_FRAME_BYTES: Final = FRAME_HEADER_BYTES + RAW_DATA_BYTES
FRAME_DATA_BYTES_MIN: Final = RAW_DATA_BYTES
FRAME_DATA_BYTES_MAX: Final = MIB
FRAME_DATA_BYTES_DEFAULT: Final = 64 * KIB
ACK_BYTES: Final = 9

# Runs and extents
RUN_BYTES_TARGET: Final = MIB
"""A run holds as many whole frames as fit in here, at least one."""
EXTENT_BYTES_MAX: Final = GIB

# Session messages
MESSAGE_HEADER_BYTES_MAX: Final = MIB
MESSAGE_PAYLOAD_BYTES_MAX: Final = 4 * MIB
HELLO_BYTES_MAX: Final = 4 * KIB
COMMIT_RECORD_BYTES_MAX: Final = 2 * MIB

# Bounds of memory
LINK_WINDOW_BYTES: Final = 16 * MIB
"""Unacknowledged frame bytes a router keeps per putter."""
CONNECTION_PENDING_BYTES_MAX: Final = 16 * MIB
"""Bytes received on one connection of a putter that are not yet durable; then it pauses."""
NODE_PENDING_BYTES_MAX: Final = 48 * MIB
"""The same over all connections of a putter."""
INGEST_PENDING_BYTES_MAX: Final = 64 * MIB
"""Bytes that all streams of a router together hold before they wait for acks."""
READS_PENDING_BYTES_MAX: Final = 256 * MIB
"""Bytes that all reads of a router together hold before they fetch one frame at a time."""
CONNECTIONS_MAX: Final = 4096
WORKERS_MAX: Final = 64
"""Processes of one router that share its ports."""
SIBLING_QUESTION_BYTES_MAX: Final = 256
SIBLING_ANSWER_BYTES_MAX: Final = 16 * MIB
"""What one of them tells another: its metrics, its part of the status."""
ADDRESS_CONNECTIONS_MAX: Final = 512
"""Of one remote address at one port, unless the operator says otherwise."""
HANDSHAKES_MAX: Final = 512
"""TLS handshakes of one port that are under way."""
LEAVING_MAX: Final = 64
"""Refused connections of a port that are still read, so that no reset overtakes the answer."""
WEB_LINE_BYTES_MAX: Final = 16 * KIB
"""A request line, or a header, of a web request."""
WEB_PROBES_MAX: Final = 16
"""Connections of a web port beyond its limit that may still ask for its health."""
S3_CHUNK_LINE_BYTES_MAX: Final = 512
"""A chunk's first line, or a trailer, in a body that is framed as aws-chunked."""
S3_FORM_BYTES_MAX: Final = 20 * KIB
"""Of an uploaded form, before the bytes of the file."""
S3_POLICY_BYTES_MAX: Final = 64 * KIB
"""Of a form's policy, in base 64."""
S3_BUCKET_POLICY_BYTES_MAX: Final = 20 * KIB
"""Of a bucket's policy, as JSON."""
RULES_BYTES_MAX: Final = 4 * MIB
"""Documents of policies that a router remembers, read; those take some ten times as much."""
S3_CONDITIONS_MAX: Final = 1_000
"""In a form's policy."""
S3_CHUNK_BYTES_MIN: Final = 8 * KIB
"""Of each chunk in such a body but the last."""
ANSWERS_UNREAD_BYTES_MAX: Final = 8 * MIB
"""Answers that a putter queues for a client that does not read them; then it reads no more
questions of it."""
ACKS_KEPT_BYTES_MAX: Final = MIB
"""Acks a putter keeps for a router that cannot be reached; older ones are dropped, and the
router sends those frames again."""

# Names
BUCKET_CHARS_MIN: Final = 3
BUCKET_CHARS_MAX: Final = 63
KEY_BYTES_MAX: Final = 1024
HEADERS_BYTES_MAX: Final = 8 * KIB
BUCKET_SETTINGS_BYTES_MAX: Final = 256 * KIB
"""All that is set for one bucket, documents such as a policy among it, as a commit record."""
LIST_PAGE_MAX: Final = 1000
OBJECT_BYTES_MAX: Final = 50 * 1024 * GIB
UPLOAD_PARTS_MAX: Final = 10_000
PART_BYTES_MIN: Final = 5 * MIB
"""Of each part of an upload but the last."""
PART_BYTES_MAX: Final = 5 * GIB

ACCESS_KEYS_MAX: Final = 10_000

# Times
HANDSHAKE_TIMEOUT_MS: Final = 5_000
WORKER_LINKS_MS: Final = 5_000
"""How long one worker of a router leaves all clients to the others while it connects to putters."""
SIBLING_ANSWER_MS: Final = 2_000
"""What one worker of a router gives another to answer."""
WEB_IDLE_TIMEOUT_MS: Final = 75_000
"""A web connection without a request."""
WEB_HEAD_TIMEOUT_MS: Final = 20_000
"""From the first byte of a web request to the end of its head."""
STALL_TIMEOUT_MS: Final = 60_000
"""A client that takes no byte of what waits to be sent to it."""
WEB_PROBE_TIMEOUT_MS: Final = 2_000
"""From the connection to the end of the head, where a connection is beyond the limit."""
LINGER_MS: Final = 1_000
"""How long a refused connection is read after its answer."""
CONNECT_TIMEOUT_MS: Final = 3_000
RECONNECT_DELAY_MS_MIN: Final = 50
RECONNECT_DELAY_MS_MAX: Final = 2_000
HEARTBEAT_MS: Final = 1_000
MEMBER_SUSPECT_MS: Final = 3_000
MEMBER_LOST_MS: Final = 5_000
OBJECT_LEASE_MS: Final = 30_000
READER_LEASE_MS: Final = 30_000
STALE_AFTER_MS: Final = 2_000
"""How long a read waits for Redis that could go on without it."""
STALE_READS_S: Final = 300
"""How old what Redis said of a name may be then."""
LATELY_NAMES_MAX: Final = 16_384
"""Names that a router remembers for such reads."""
LATELY_BYTES_MAX: Final = 64 * MIB
ABORT_PATIENCE_MS: Final = 2_000
"""How long a sender waits for the abort of what it is then told to have failed."""
CLAIM_LEASE_MS: Final = 10_000
"""How long a conditional write has its name for itself: from the claim to the publication."""
CLAIM_WAIT_MS: Final = 12_000
"""How long another one waits for it."""
UPLOAD_LEASE_MS: Final = 30_000
"""How long an upload is not completed by another router after one that did it went silent."""
UPLOAD_LEFTOVER_MS: Final = 3_600_000
"""How old parts without an upload are before they are removed."""
JANITOR_PERIOD_MS: Final = 2_000
JANITOR_LEASE_MS: Final = 10_000
MARKS_PERIOD_MS: Final = 3_000
SWEEP_PERIOD_MS: Final = 6 * 3_600_000
"""Between two walks through all that the putters hold, for what nobody knows of."""
REPAIR_PERIOD_MS: Final = 2_000
"""Between two looks at what putters are owed."""
REPAIR_BYTES_PER_S: Final = 256 * MIB
AUDIT_PERIOD_S: Final = 24 * 3_600
"""Between two comparisons of what putters hold with what they should."""
LIFECYCLE_PERIOD_S: Final = 24 * 3_600
"""From one pass over the lifecycle rules of buckets to the next."""
EVENTS_WAITING_MAX: Final = 100_000
"""Events of a bucket that wait for a target at most; then the oldest go."""
REBALANCE_PERCENT: Final = 10
"""Of its share that a putter may be off before bytes move."""
REPLACE_AFTER_S: Final = 1_800
"""How long a putter may be away before others get copies of what it held."""
REPLICA_AWAY_MS: Final = 60_000
"""How long an unfinished object waits for a putter that its commit record names; then the record
is corrected."""

ROOM_GAINED_BYTES: Final = 4 * MIB
"""A putter whose disk was full is tried again when so much more of it is free."""

# Leases of numbers
TICKET_LEASE: Final = 65_536
OBJECT_LEASE: Final = 4_096
STAMP_HORIZON_US: Final = 60_000_000
"""How far above Redis's clock the ceiling of the stamps lies."""
CEILING_STEPS: Final = 16
"""A ceiling is raised by so many leases at once."""

# Retries
CHECKSUM_RETRIES_MAX: Final = 3

assert FRAME_DATA_BYTES_MIN <= FRAME_DATA_BYTES_DEFAULT <= FRAME_DATA_BYTES_MAX
assert FRAME_DATA_BYTES_MAX <= RUN_BYTES_TARGET
# A run with its frame headers, at the smallest frames, fits one message, and so does a record.
assert RUN_BYTES_TARGET // RAW_DATA_BYTES * RAW_FRAME_BYTES <= MESSAGE_PAYLOAD_BYTES_MAX
assert ADDRESS_CONNECTIONS_MAX <= CONNECTIONS_MAX
assert COMMIT_RECORD_BYTES_MAX <= MESSAGE_PAYLOAD_BYTES_MAX
assert BUCKET_SETTINGS_BYTES_MAX <= COMMIT_RECORD_BYTES_MAX
assert MESSAGE_PAYLOAD_BYTES_MAX <= CONNECTION_PENDING_BYTES_MAX <= NODE_PENDING_BYTES_MAX
assert MESSAGE_HEADER_BYTES_MAX + MESSAGE_PAYLOAD_BYTES_MAX < ANSWERS_UNREAD_BYTES_MAX
assert LINK_WINDOW_BYTES >= 4 * RUN_BYTES_TARGET
assert LINGER_MS < WEB_HEAD_TIMEOUT_MS < WEB_IDLE_TIMEOUT_MS
assert HEARTBEAT_MS * 3 <= MEMBER_SUSPECT_MS < MEMBER_LOST_MS < OBJECT_LEASE_MS
assert ABORT_PATIENCE_MS * 2 < OBJECT_LEASE_MS
# A router that died with a claim does not make its rivals fail.
assert CLAIM_LEASE_MS < CLAIM_WAIT_MS < OBJECT_LEASE_MS
assert JANITOR_PERIOD_MS * 2 < JANITOR_LEASE_MS
assert MEMBER_LOST_MS < REPLICA_AWAY_MS
