from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.budget import Balance, Claim, Exhausted, StoreFailed, TooMany, Window
from gateway.budget.redis import RedisStore
from gateway.budget.sqlite import SqliteStore

NOON = datetime(2026, 2, 28, 12, 30, tzinfo=UTC).timestamp()
HOUR = 3600
CLAIM = Claim("anna", 60, {Window.HOUR: 100, Window.DAY: 150, Window.MONTH: 1000}, NOON, 30.0)


def everywhere(spent, reserved):
    return dict.fromkeys(Window, Balance(spent, reserved))


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.HOUR, datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2026, 2, 28, 13, tzinfo=UTC)),
        (Window.DAY, datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        (Window.MONTH, datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_windows_are_those_of_the_calendar(window, start, end):
    assert (window.starts_at(NOON), window.ends_at(NOON)) == (start.timestamp(), end.timestamp())


async def test_what_is_reserved_is_charged_at_what_it_came_to(open_store):
    store = open_store()

    reservation = await store.reserve(CLAIM)
    assert await store.balance("anna", NOON) == everywhere(0, 60)
    await store.settle(reservation, 25)

    assert await store.balance("anna", NOON) == everywhere(25, 0)


async def test_a_claim_that_does_not_fit_is_refused_and_changes_nothing(open_store):
    store = open_store()
    await store.reserve(CLAIM)

    with pytest.raises(Exhausted) as refused:
        await store.reserve(replace(CLAIM, amount=41))

    exc = refused.value
    assert (exc.window, exc.limit, exc.balance) == (Window.HOUR, 100, Balance(0, 60))
    assert exc.resets_at == Window.HOUR.ends_at(NOON)
    assert await store.balance("anna", NOON) == everywhere(0, 60)


async def test_a_limit_can_be_reached_to_the_last_nano_dollar(open_store):
    store = open_store()
    await store.reserve(CLAIM)

    await store.reserve(replace(CLAIM, amount=40))

    assert await store.balance("anna", NOON) == everywhere(0, 100)


async def test_every_window_is_held_to_its_limit(open_store):
    store = open_store()
    await store.settle(await store.reserve(CLAIM), 60)
    later = NOON + HOUR
    await store.settle(await store.reserve(replace(CLAIM, now=later)), 60)

    with pytest.raises(Exhausted) as refused:
        await store.reserve(replace(CLAIM, now=later, amount=40))

    assert (refused.value.window, refused.value.balance) == (Window.DAY, Balance(120, 0))


async def test_a_new_window_begins_empty(open_store):
    store = open_store()
    await store.settle(await store.reserve(replace(CLAIM, amount=100)), 100)

    await store.reserve(replace(CLAIM, now=NOON + HOUR, amount=50))

    assert (await store.balance("anna", NOON + HOUR))[Window.HOUR] == Balance(0, 50)


async def test_a_bill_belongs_to_the_windows_that_had_room_for_it(open_store):
    store = open_store()
    reservation = await store.reserve(CLAIM)
    await store.reserve(replace(CLAIM, now=NOON + HOUR, amount=10))

    await store.settle(reservation, 60)

    assert (await store.balance("anna", NOON))[Window.HOUR] == Balance(60, 0)
    assert (await store.balance("anna", NOON + HOUR))[Window.HOUR] == Balance(0, 10)


async def test_a_principal_does_not_spend_another_s_budget(open_store):
    store = open_store()
    await store.reserve(replace(CLAIM, amount=100))

    await store.reserve(replace(CLAIM, principal="bert", amount=100))

    assert await store.balance("bert", NOON) == everywhere(0, 100)


async def test_what_expires_counts_as_spent(open_store):
    store = open_store()
    await store.reserve(CLAIM)

    await store.reserve(replace(CLAIM, now=NOON + 31, amount=5))

    assert await store.balance("anna", NOON) == everywhere(60, 5)


async def test_what_expires_is_dealt_with_also_by_a_claim_that_is_refused(open_store):
    store = open_store()
    await store.reserve(CLAIM)

    with pytest.raises(Exhausted):
        await store.reserve(replace(CLAIM, now=NOON + 31, amount=100))

    assert await store.balance("anna", NOON) == everywhere(60, 0)


async def test_what_expires_can_be_released_instead(open_store):
    store = open_store(charge_expired=False)
    await store.reserve(CLAIM)

    await store.reserve(replace(CLAIM, now=NOON + 31, amount=5))

    assert await store.balance("anna", NOON) == everywhere(0, 5)


@pytest.mark.parametrize("charge_expired", [True, False])
async def test_a_bill_that_comes_after_the_expiry_is_the_one_that_counts(open_store, charge_expired):
    store = open_store(charge_expired=charge_expired)
    reservation = await store.reserve(CLAIM)
    await store.reserve(replace(CLAIM, now=NOON + 31, amount=5))

    await store.settle(reservation, 20)

    assert await store.balance("anna", NOON) == everywhere(20, 5)


async def test_a_bill_is_charged_once(open_store):
    store = open_store()
    reservation = await store.reserve(CLAIM)

    await store.settle(reservation, 20)
    await store.settle(reservation, 20)

    assert await store.balance("anna", NOON) == everywhere(20, 0)


async def test_a_reservation_of_nothing_can_expire(open_store):
    store = open_store()
    await store.reserve(replace(CLAIM, amount=0))

    await store.reserve(replace(CLAIM, now=NOON + 31, amount=5))

    assert await store.balance("anna", NOON) == everywhere(0, 5)


async def test_figures_of_months_ago_are_forgotten_and_the_others_stay(open_store):
    store = open_store()
    await store.reserve(CLAIM)
    await store.settle(await store.reserve(replace(CLAIM, amount=1)), 1)
    later = NOON + 41 * 24 * HOUR

    await store.reserve(replace(CLAIM, now=later))
    await store.reserve(replace(CLAIM, now=later + HOUR))

    assert (await store.balance("anna", later + HOUR))[Window.DAY] == Balance(60, 60)
    assert (await store.balance("anna", NOON))[Window.DAY] == Balance()


async def test_all_workers_see_one_budget(open_store):
    await open_store().reserve(CLAIM)

    assert await open_store().balance("anna", NOON) == everywhere(0, 60)


async def test_no_more_calls_than_places_are_let_in(open_store):
    store = open_store()
    places = [await store.enter("anna", 2, now=NOON, lease_s=10) for _ in range(2)]

    with pytest.raises(TooMany):
        await store.enter("anna", 2, now=NOON, lease_s=10)
    await store.leave("anna", places[0])

    assert await store.enter("anna", 2, now=NOON, lease_s=10) not in places


async def test_the_place_of_a_worker_that_died_is_free_again(open_store):
    store = open_store()
    await store.enter("anna", 1, now=NOON, lease_s=10)

    assert await store.enter("anna", 1, now=NOON + 11, lease_s=10)


async def test_a_file_that_is_no_database_is_a_failure_of_the_store(tmp_path):
    path = tmp_path / "budgets.db"
    path.write_text("something else entirely, and long enough to be looked at " * 20)
    store = SqliteStore(path)

    with pytest.raises(StoreFailed):
        await store.reserve(CLAIM)
    await store.aclose()


async def test_a_redis_that_died_is_a_failure_of_the_store(start_redis):
    url, process = start_redis()
    store = RedisStore(url)
    await store.reserve(CLAIM)
    process.kill()
    process.wait()

    with pytest.raises(StoreFailed):
        await store.reserve(CLAIM)
    await store.aclose()
