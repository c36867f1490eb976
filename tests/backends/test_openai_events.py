"""Server-sent events, cut where they may be, as the standard reads them and as the SDK does."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from openai._streaming import SSEDecoder

from gateway.backends._openai_events import Event, EventReader, EventTooLong

BODY = (
    b": a comment\n"
    b"event: greeting\n"
    b'data: {"text": "caf\xc3\xa9"}\n'
    b"id: 1\n"
    b"\n"
    b"data:first\n"
    b"data: second: \n"
    b"retry: 100\n"
    b"\n"
    b"event: without data\n"
    b"\n"
    b"data\n"
    b"\n"
    b"data: never ended\n"
)
EVENTS = [Event(b"greeting", '{"text": "café"}'.encode()), Event(b"", b"first\nsecond: "), Event(b"", b"")]
ENDS = [b"\n", b"\r\n", b"\r"]


def read(chunks):
    reader = EventReader()
    return [event for chunk in chunks for event in reader.read(chunk)]


@pytest.mark.parametrize("end", ENDS)
def test_a_body_may_be_cut_anywhere(end):
    body = BODY.replace(b"\n", end)

    assert [read([body[:cut], body[cut:]]) for cut in range(len(body))] == [EVENTS] * len(body)


@pytest.mark.parametrize("end", ENDS)
def test_a_body_may_come_byte_by_byte(end):
    body = BODY.replace(b"\n", end)

    assert read([body[at : at + 1] for at in range(len(body))]) == EVENTS


def test_an_event_is_given_as_soon_as_it_ends():
    reader = EventReader()

    assert [list(reader.read(chunk)) for chunk in (b"data: a\n", b"\n", b"data: b\n\ndata: c")] == [
        [],
        [Event(b"", b"a")],
        [Event(b"", b"b")],
    ]


@pytest.mark.parametrize("line", [b"x" * 1024, b"data: " + b"x" * 1024 + b"\n"], ids=["line", "lines"])
def test_an_event_that_does_not_end_is_given_up(line):
    with pytest.raises(EventTooLong):
        read(line for _ in range(10 * 1024))


def test_comments_may_go_on_for_as_long_as_a_model_thinks():
    assert read([*(b": " + b"x" * 1024 + b"\n" for _ in range(10 * 1024)), b"data: a\n\n"]) == [Event(b"", b"a")]


_word = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8)
_event = st.tuples(_word.filter(lambda word: "\0" not in word), st.lists(_word, min_size=1, max_size=3))


@given(st.lists(_event), st.sampled_from(["\n", "\r\n"]), st.data())
def test_it_reads_what_the_sdk_reads(events, end, data):
    body = "".join(
        end.join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""]) for name, lines in events
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    chunks = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]

    theirs = [(event.event, event.data) for event in SSEDecoder().iter_bytes(iter([body]))]

    assert [(event.type.decode(), event.data.decode()) for event in read(chunks)] == theirs
