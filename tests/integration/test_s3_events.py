"""Events of buckets with real processes: told to a webhook and to streams, whatever dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError

from tests.metadata_kit import ValkeyServer, running
from tests.s3_kit import refusal, s3_cluster
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow
HOOK = "arn:putter:sqs::hook:webhook"
OWN = "arn:putter:sqs::own:redis"
OTHER = "arn:putter:sqs::other:redis"
TOKEN = "a-secret-of-the-hook"


class Hook:
    """A webhook that remembers what it took, and may refuse.

    Attributes:
        bodies: what it took, in the order of its answers.
        headers: of the last request.
        refuses: what it answers nothing but 503 to: buckets.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.refuses: set[str] = set()
        self.refused = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.headers = dict(self.headers)
                taken = bucket_of(body) not in hook.refuses
                if taken:
                    hook.bodies.append(body)
                else:
                    hook.refused += 1
                self.send_response(200 if taken else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{TOKEN}@127.0.0.1:{self.server.server_port}/events?of=mine"

    def records(self, bucket: str) -> list[dict[str, Any]]:
        told = [each["Records"][0] for each in self.bodies if "Records" in each]
        return [each for each in told if each["s3"]["bucket"]["name"] == bucket]

    def names(self, bucket: str) -> list[tuple[str, str]]:
        return [(each["eventName"], each["s3"]["object"]["key"]) for each in self.records(bucket)]


def bucket_of(body: dict[str, Any]) -> str:
    if "Records" not in body:
        return str(body["Bucket"])
    return str(body["Records"][0]["s3"]["bucket"]["name"])


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, hook: Hook, other: ValkeyServer
) -> Iterator[Cluster]:
    targets = f"hook={hook.url},own=redis:?stream=told,other={other.url}?stream=told&length=50"
    flags = ("--notify-targets", targets)
    with s3_cluster(tmp_path_factory.mktemp("store"), routers=2, router_flags=flags) as made:
        yield made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("other"))
    with running(server):
        yield server


def notify(client: Any, bucket: str, *rules: dict[str, Any], **more: Any) -> None:
    configuration = {"QueueConfigurations": list(rules)}
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration, **more
    )


def rule(arn: str = HOOK, *events: str, **sides: str) -> dict[str, Any]:
    filters = [{"Name": name, "Value": value} for name, value in sides.items()]
    made: dict[str, Any] = {"QueueArn": arn, "Events": list(events) or ["s3:ObjectCreated:*"]}
    return made | ({"Filter": {"Key": {"FilterRules": filters}}} if filters else {})


def test_a_webhook_is_told_of_all_that_happens(
    store: Cluster, client: Any, bucket: str, hook: Hook
) -> None:
    everything = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*")
    notify(client, bucket, rule(HOOK, *everything, prefix="in/", suffix=".jpg"))
    told = client.get_bucket_notification_configuration(Bucket=bucket)
    (kept,) = told["QueueConfigurations"]
    assert kept["QueueArn"] == HOOK
    assert kept["Events"] == list(everything)

    key, copy, whole = "in/red flower ü.jpg", "in/copy.jpg", "in/whole.jpg"
    etag = client.put_object(Bucket=bucket, Key=key, Body=b"12345")["ETag"]
    client.put_object(Bucket=bucket, Key="out/red.jpg", Body=b"nobody hears")
    client.put_object(Bucket=bucket, Key="in/red.png", Body=b"nobody hears")
    client.copy_object(Bucket=bucket, Key=copy, CopySource={"Bucket": bucket, "Key": key})
    upload = client.create_multipart_upload(Bucket=bucket, Key=whole)["UploadId"]
    of = {"Bucket": bucket, "Key": whole, "UploadId": upload}
    part = client.upload_part(**of, PartNumber=1, Body=b"x" * 20_000)["ETag"]
    parts = [{"PartNumber": 1, "ETag": part}]
    client.complete_multipart_upload(**of, MultipartUpload={"Parts": parts})
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    client.put_object_tagging(Bucket=bucket, Key=copy, Tagging=tags)
    client.delete_object_tagging(Bucket=bucket, Key=copy)
    client.delete_object(Bucket=bucket, Key=copy)
    assert store.http("PUT", f"/file/{bucket}/in/rest.jpg", b"")[0] == 201
    assert store.http("DELETE", f"/file/{bucket}/in/rest.jpg")[0] == 204

    put, removed = "ObjectCreated:Put", "ObjectRemoved:Delete"
    written = "in/red+flower+%C3%BC.jpg"
    wanted = [
        (put, written),
        ("ObjectCreated:Copy", copy),
        ("ObjectCreated:CompleteMultipartUpload", whole),
        ("ObjectTagging:Put", copy),
        ("ObjectTagging:Delete", copy),
        (removed, copy),
        (put, "in/rest.jpg"),
        (removed, "in/rest.jpg"),
    ]
    eventually(lambda: set(hook.names(bucket)) == set(wanted))
    for name in (copy, "in/rest.jpg"):
        assert [each for each in hook.names(bucket) if each[1] == name] == [
            each for each in wanted if each[1] == name
        ], "those of one file come in order"
    record = next(each for each in hook.records(bucket) if each["s3"]["object"]["key"] == written)
    thing = record["s3"]["object"]
    assert (thing["size"], f'"{thing["eTag"]}"') == (5, etag)
    assert "versionId" not in thing
    assert record["requestParameters"] == {"sourceIPAddress": "127.0.0.1"}
    assert record["userIdentity"]["principalId"]
    assert record["s3"]["bucket"]["ownerIdentity"]["principalId"]
    sequence = [
        each["s3"]["object"]["sequencer"]
        for each in hook.records(bucket)
        if each["s3"]["object"]["key"] == copy
    ]
    assert sequence == sorted(set(sequence))
    assert hook.headers["Authorization"] == f"Bearer {TOKEN}"
    assert any(each.get("Event") == "s3:TestEvent" for each in hook.bodies)
    assert TOKEN not in "".join(process.text() for process in store.routers)


def test_streams_are_told_in_order(
    store: Cluster, client: Any, bucket: str, other: ValkeyServer
) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    configuration = {
        "QueueConfigurations": [rule(OWN, prefix="a")],
        "TopicConfigurations": [
            {"TopicArn": OTHER, "Events": ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"]}
            | {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "b"}]}}}
        ],
    }
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration, SkipDestinationValidation=True
    )
    versions = [
        client.put_object(Bucket=bucket, Key=f"{letter}{n % 3}", Body=b"%d" % n)["VersionId"]
        for n in range(12)
        for letter in "ab"
    ]
    marker = client.delete_object(Bucket=bucket, Key="b0")["VersionId"]
    client.delete_object(Bucket=bucket, Key="b0", VersionId=marker)

    def own() -> None:
        told = entries(store.valkey.url, bucket)
        assert [each["versionId"] for _, each in told] == versions[::2]

    def others() -> None:
        told = entries(other.url, bucket)
        assert [each["versionId"] for _, each in told] == [*versions[1::2], marker, marker]
        assert [name for name, _ in told] == [
            *["s3:ObjectCreated:Put"] * 12,
            "s3:ObjectRemoved:DeleteMarkerCreated",
            "s3:ObjectRemoved:Delete",
        ]

    eventually(own)
    eventually(others)


def entries(url: str, bucket: str) -> list[tuple[str, Any]]:
    """Name and object of the events of a bucket in a stream."""
    found = []
    with redis.Redis.from_url(url) as client:
        for _, fields in client.xrange("told"):
            message = json.loads(fields[b"message"])
            if "Records" not in message:
                continue  # a test, of another bucket
            told = message["Records"][0]["s3"]
            assert fields[b"key"].decode() == f"{told['bucket']['name']}/{told['object']['key']}"
            if told["bucket"]["name"] == bucket:
                found.append((fields[b"event"].decode(), told["object"]))
    return found


def test_a_target_that_is_down_gets_everything_when_it_is_back(
    store: Cluster, client: Any, bucket: str, hook: Hook
) -> None:
    hook.refuses.add(bucket)
    notify(client, bucket, rule(HOOK))
    for n in range(20):
        client.put_object(Bucket=bucket, Key=f"{n % 7}", Body=b"%d" % n)

    def stuck() -> None:
        told = [status_of(store, bucket, router) for router in (0, 1)]
        assert all(each["waiting"] == 21 for each in told)
        assert any("503" in each["trouble"] for each in told), "who delivers knows why"

    eventually(stuck)
    before = hook.refused
    assert before
    eventually(lambda: hook.refused > before)
    hook.refuses.clear()
    eventually(lambda: len(hook.names(bucket)) >= 20)
    for n in range(7):
        sizes = [
            (each["s3"]["object"]["sequencer"], each["s3"]["object"]["size"])
            for each in hook.records(bucket)
            if each["s3"]["object"]["key"] == f"{n}"
        ]
        assert sizes == sorted(sizes), "each file's in order"
    eventually(lambda: not any(told_of(store, bucket, router) for router in (0, 1)))
    assert 'putter_events_delivered_total{target="hook"}' in metrics(store)
    assert 'putter_events_failed_total{target="hook"}' in metrics(store)
    assert 'putter_events_waiting{target="hook"}' in metrics(store)


def told_of(store: Cluster, bucket: str, router: int) -> list[Any]:
    told = json.loads(store.http("GET", "/status", router=router)[2])["events"]
    return [each for each in told if each["bucket"] == bucket]


def status_of(store: Cluster, bucket: str, router: int) -> Any:
    told = told_of(store, bucket, router)
    assert len(told) == 1
    return told[0]


def metrics(store: Cluster) -> str:
    return "".join(store.http("GET", "/metrics", router=n)[2].decode() for n in (0, 1))


def test_an_event_outlives_the_router_that_took_the_write(
    store: Cluster, client: Any, bucket: str, hook: Hook
) -> None:
    hook.refuses.add(bucket)
    notify(client, bucket, rule(HOOK))
    client.put_object(Bucket=bucket, Key="acknowledged", Body=b"x")
    store.routers[0].kill()
    try:
        hook.refuses.clear()
        eventually(lambda: hook.names(bucket) == [("ObjectCreated:Put", "acknowledged")])
    finally:
        store.routers[0].start()
        store.wait_ready(0)
    told = client.get_bucket_notification_configuration(Bucket=bucket)
    assert told["QueueConfigurations"][0]["QueueArn"] == HOOK


def test_what_nobody_can_be_told_is_refused(client: Any, bucket: str) -> None:
    def refused(*rules: dict[str, Any]) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            notify(client, bucket, *rules)
        return refusal(caught.value)

    assert refused(rule("arn:putter:sqs::nobody:webhook")) == ("InvalidArgument", 400)
    assert refused(rule(HOOK), rule(OWN)) == ("InvalidArgument", 400)
    assert refused(rule(HOOK, "s3:ObjectRestore:*")) == ("NotImplemented", 501)
    assert "QueueConfigurations" not in client.get_bucket_notification_configuration(Bucket=bucket)
    notify(client, bucket, rule(HOOK, prefix="a"), rule(OWN, prefix="b"))
    notify(client, bucket)
    assert "QueueConfigurations" not in client.get_bucket_notification_configuration(Bucket=bucket)
