"""Messages of events: the structure that S3 gives them."""

from __future__ import annotations

import json

from router.event_messages import message, sequencer
from router.events import DELETE, PUT, TEST, Event


def test_a_message_has_one_record_of_the_structure_of_s3() -> None:
    event = Event(
        PUT, "photos", "in/red flower+ü%.jpg", 1_700_000_000_123, 77, 5, "etag-1", "3F",
        "ann", "10.0.0.1", "request-1", "rule",
    )  # fmt: skip
    made = message(9, event, "bob")
    assert (made.number, made.name) == (9, "s3:ObjectCreated:Put")
    assert made.subject == "photos/in/red flower+ü%.jpg"
    assert json.loads(made.body) == {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "putter:s3",
                "awsRegion": "",
                "eventTime": "2023-11-14T22:13:20.123Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "ann"},
                "requestParameters": {"sourceIPAddress": "10.0.0.1"},
                "responseElements": {"x-amz-request-id": "request-1"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "rule",
                    "bucket": {
                        "name": "photos",
                        "ownerIdentity": {"principalId": "bob"},
                        "arn": "arn:aws:s3:::photos",
                    },
                    "object": {
                        "key": "in/red+flower%2B%C3%BC%25.jpg",
                        "size": 5,
                        "eTag": "etag-1",
                        "versionId": "3F",
                        "sequencer": "000000000000004D",
                    },
                },
            }
        ]
    }


def test_what_is_not_there_is_not_told() -> None:
    (record,) = json.loads(message(1, Event(DELETE, "photos", "a", 0, 5), "").body)["Records"]
    assert record["s3"]["object"] == {"key": "a", "sequencer": "0000000000000005"}
    assert record["userIdentity"] == {"principalId": "anonymous"}


def test_a_test_is_told_as_s3_does() -> None:
    made = message(1, Event(TEST, "photos", "", 1_700_000_000_000, 0, request="r-1"), "bob")
    assert made.name == "s3:TestEvent"
    assert json.loads(made.body) == {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2023-11-14T22:13:20.000Z",
        "Bucket": "photos",
        "RequestId": "r-1",
    }


def test_sequencers_sort_as_stamps_do() -> None:
    stamps = [0, 9, 10, 255, 256, 1_700_000_000_000_000, (1 << 53) - 1]
    assert sorted(map(sequencer, stamps)) == [sequencer(each) for each in stamps]
