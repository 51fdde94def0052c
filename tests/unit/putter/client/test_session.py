"""Short sessions with a putter: what it says that it needs."""

from __future__ import annotations

from common.records import Encryption, Tombstone, Version, encode
from putter.client.session import keys_named
from putter.storage.engine import Record
from tests.node_kit import HOST, PORT, RING, FaultyEngine, make_node, network_of, play
from tests.simulation.loop import World
from tests.storage_kit import run_of


def test_the_keys_of_checksums_and_of_encrypted_files_are_named() -> None:
    engine = FaultyEngine()
    engine.put(run_of(0, b"x", key_id="aaaaaaaa"))
    of_files = {700: "bbbbbbbb", 1_200: "cccccccc", 1_201: ""}
    for number in range(1, 1_300):
        record: Version | Tombstone = Tombstone("b", "k", number, 0)
        if number % 2 or number in of_files:
            key_id = of_files.get(number, "aaaaaaaa")
            encryption = Encryption(key_id, bytes(16)) if number > 600 else None
            record = Version("b", "k", number, 1, "e", 0, (), encryption=encryption)
        engine.put_record(Record(number, "", encode(record)))

    async def main(world: World) -> list[str]:
        network = network_of(world.random)
        node = make_node(network, engine)
        await node.start()
        try:
            return await keys_named(network, HOST, PORT, RING)
        finally:
            await node.stop()

    assert play(main) == ["aaaaaaaa", "bbbbbbbb", "cccccccc"]
