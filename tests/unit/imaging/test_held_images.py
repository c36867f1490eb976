"""Images that were sent are found by their digest for a while, by their own principal, within their bounds."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from gateway.imaging import HeldImages, held as module

RECORD = module._RECORD_BYTES
LARGE = module._LARGE_BYTES


def digest(data):
    return hashlib.sha256(data).digest()


@pytest.fixture
def held(clock):
    store = HeldImages(clock=clock)
    store.limit(most_bytes=10 * (RECORD + 100), held_s=60)
    return store


async def test_an_image_is_found_by_its_digest(held):
    data = b"an image"
    held.hold("ann", data)

    assert await held.find("ann", digest(data)) is data


async def test_nobody_else_finds_it(held):
    held.hold("ann", b"an image")

    assert await held.find("bob", digest(b"an image")) is None


async def test_an_image_that_was_never_sent_is_not_found(held):
    held.hold("ann", b"an image")

    assert await held.find("ann", digest(b"another one")) is None


async def test_an_image_is_let_go_a_while_after_its_last_use(held, clock):
    held.hold("ann", b"an image")
    clock.now += 50
    assert await held.find("ann", digest(b"an image"))
    clock.now += 50
    assert await held.find("ann", digest(b"an image"))
    clock.now += 61

    assert (await held.find("ann", digest(b"an image")), held._bytes) == (None, 0)


async def test_the_bytes_stay_within_their_bound_and_the_longest_unused_go_first(held):
    images = [bytes([each]) * 100 for each in range(12)]
    for each in images[:10]:
        held.hold("ann", each)
    await held.find("ann", digest(images[0]))
    for each in images[10:]:
        held.hold("bob", each)

    found = [await held.find("ann", digest(each)) is not None for each in images[:4]]
    assert (found, held._bytes) == ([True, False, False, True], 10 * (RECORD + 100))


async def test_very_many_empty_images_are_bounded_too(held):
    for _ in range(10_000):
        held.hold("ann", b"")

    assert held._bytes <= 10 * (RECORD + 100)


async def test_an_image_above_the_bound_is_not_held_and_drives_none_out(held):
    held.hold("ann", b"an image")
    held.hold("ann", bytes(20 * RECORD))

    assert await held.find("ann", digest(b"an image"))


@pytest.mark.parametrize("named_between", [False, True])
async def test_the_same_image_twice_is_held_once_and_as_long_as_the_latest(held, clock, named_between):
    held.hold("ann", b"an image")
    clock.now += 30
    if named_between:
        assert await held.find("ann", digest(b"an image"))
    held.hold("ann", b"an image")
    if not named_between:
        assert await held.find("ann", digest(b"an image"))
    clock.now += 40

    assert await held.find("ann", digest(b"another one")) is None
    assert await held.find("ann", digest(b"an image"))
    assert held._bytes == RECORD + len(b"an image")


async def test_images_are_hashed_only_when_one_is_named_and_once(held, monkeypatch):
    hashed = []
    digests = module._digests
    monkeypatch.setattr(module, "_digests", lambda images, wanted: hashed.extend(images) or digests(images, wanted))
    held.hold("ann", b"an image")
    held.hold("bob", b"an image")
    before = len(hashed)
    for _ in range(3):
        await held.find("ann", digest(b"another one"))

    assert (before, len(hashed)) == (0, 1)


async def test_the_latest_image_is_found_without_hashing_those_before(held):
    for each in (b"one", b"two", b"three"):
        held.hold("ann", each)

    await held.find("ann", digest(b"three"))

    assert [image.data for image in held._unhashed["ann"]] == [b"one", b"two"]


async def test_large_images_are_hashed_off_the_event_loop_once_for_all_who_ask(held, monkeypatch):
    held.limit(most_bytes=4 * LARGE, held_s=60)
    threads = []
    to_thread = asyncio.to_thread
    monkeypatch.setattr(asyncio, "to_thread", lambda *given: threads.append(given) or to_thread(*given))
    data = bytes(LARGE + 1)
    held.hold("ann", data)

    found = await asyncio.gather(*(held.find("ann", digest(data)) for _ in range(5)))

    assert (found, len(threads)) == ([data] * 5, 1)


async def test_an_image_that_had_to_go_while_it_was_hashed_is_not_found(held, monkeypatch):
    held.limit(most_bytes=4 * LARGE, held_s=60)
    to_thread = asyncio.to_thread

    async def meanwhile(*given):
        held.limit(most_bytes=0, held_s=60)
        return await to_thread(*given)

    monkeypatch.setattr(asyncio, "to_thread", meanwhile)
    data = bytes(LARGE + 1)
    held.hold("ann", data)

    assert (await held.find("ann", digest(data)), held._bytes) == (None, 0)


async def test_new_limits_hold_for_what_is_held_already(held):
    held.hold("ann", b"an image")
    held.limit(most_bytes=0, held_s=60)
    held.hold("ann", b"an image")

    assert (await held.find("ann", digest(b"an image")), held._bytes) == (None, 0)


async def test_nothing_stays_for_longer_because_nobody_calls(held, clock):
    held.hold("ann", b"an image")
    clock.now += 61
    watch = asyncio.create_task(held.watch(lambda: 0))
    async with asyncio.timeout(20):
        while held._bytes:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0)
    watch.cancel()

    assert held._bytes == 0
