"""How a stream of the provider's ends: whole, cut, refused, incomplete, or by a failure."""

from __future__ import annotations

import pytest

from gateway.errors import (
    BackendUnavailable,
    BrokenOff,
    Refused,
    TruncatedAnswer,
    UnusableAnswer,
    UpstreamRateLimited,
)
from gateway.usage import Usage
from tests.fixtures.openai_calls import UNTOLD
from tests.fixtures.openai_streams import (
    CHUNKED,
    USAGE,
    chunk,
    delta,
    end,
    event,
    read,
    says,
)

pytestmark = pytest.mark.usefixtures("unblocked_loop", "key")


@pytest.mark.parametrize("last", [b"", b"data: [DONE]\n\n", end("a cat")[:-1]], ids=["nothing", "done", "cut"])
async def test_text_without_the_whole_response_is_cut(prompt, last):
    pieces, error = await read(prompt, says(delta("a cat"), last))

    assert (pieces, type(error), error.elsewhere, error.estimated) == (["a cat"], BrokenOff, True, True)
    assert error.usage == UNTOLD + Usage(output=2)


@pytest.mark.parametrize(
    "parts",
    [(), (chunk(event("response.created")), b"10\r\n")],
    ids=["cut", "cut in a chunk"],
)
async def test_a_stream_that_breaks_before_its_first_word_is_unavailable_and_may_be_billed(prompt, parts):
    pieces, error = await read(prompt, says(*parts, head=CHUNKED))

    assert (pieces, type(error), error.usage) == ([], BackendUnavailable, UNTOLD)


async def test_text_that_goes_on_after_done_is_none_of_the_answer(prompt):
    pieces, error = await read(prompt, says(delta("a "), b"data: [DONE]\n\n", delta("cat"), end("a cat")))

    assert (pieces, type(error)) == (["a "], BrokenOff)


@pytest.mark.parametrize(
    "data",
    [b"{", b'{"delta": "\xff"}', b"[]", b"1", b"x" * 1024],
    ids=["no json", "no utf-8", "a list", "a number", "words"],
)
@pytest.mark.parametrize("said", [(), ("a ",)], ids=["first", "later"])
async def test_an_event_that_cannot_be_read_is_no_answer_be_it_the_first_or_a_later_one(prompt, said, data):
    broken = b"event: response.output_text.delta\ndata: " + data + b"\n\n"

    pieces, error = await read(prompt, says(*map(delta, said), broken, end("a cat")))

    assert (tuple(pieces), type(error), error.estimated) == (said, UnusableAnswer, True)


async def test_an_event_without_an_end_is_no_answer(prompt):
    pieces, error = await read(prompt, says(delta("a "), b"data: ", b"x" * (9 << 20)))

    assert (pieces, type(error)) == (["a "], UnusableAnswer)


@pytest.mark.parametrize(
    "failed",
    [
        event("error", code="rate_limit_exceeded", message="too many"),
        b'data: {"error": {"code": "rate_limit_exceeded", "message": "too many"}}\n\n',
        event("response.failed", response={"status": "failed", "error": {"code": "rate_limit_exceeded"}}),
    ],
    ids=["error", "as in a body", "failed"],
)
async def test_a_failure_told_in_the_stream_is_read_by_its_code(prompt, failed):
    pieces, error = await read(prompt, says(delta("a "), failed))

    assert (pieces, type(error), error.usage) == (["a "], UpstreamRateLimited, None)


async def test_a_refusal_in_the_stream_is_refused_and_none_of_its_words_is_text(prompt):
    refusal = {"type": "refusal", "refusal": "No."}
    last = event("response.completed", response={"output": [{"type": "message", "content": [refusal]}], "usage": USAGE})

    pieces, error = await read(prompt, says(event("response.refusal.delta", delta="No."), last))

    assert (pieces, type(error), error.usage.output) == ([], Refused, 74)


@pytest.mark.parametrize("last", [b"", event("response.completed", response={"output": []})], ids=["cut", "bare end"])
async def test_a_refusal_counts_also_where_the_last_event_does_not_repeat_it(prompt, last):
    pieces, error = await read(prompt, says(event("response.refusal.delta", delta="No."), last))

    assert (pieces, type(error), error.estimated) == ([], Refused, True)


@pytest.mark.parametrize(("reason", "expected"), [("max_output_tokens", TruncatedAnswer), ("content_filter", Refused)])
async def test_an_answer_that_ends_incomplete_says_why(prompt, reason, expected):
    last = end("a c", "response.incomplete", status="incomplete", incomplete_details={"reason": reason}, usage=USAGE)

    pieces, error = await read(prompt, says(delta("a c"), last))

    assert (pieces, type(error), error.usage.output, error.estimated) == (["a c"], expected, 74, False)


async def test_an_end_that_does_not_repeat_the_text_ends_the_text_all_the_same(prompt):
    bare = event("response.completed", response={"usage": USAGE})

    pieces, error = await read(prompt, says(delta("a "), delta("cat"), bare))

    assert (pieces[-1].text, pieces[-1].usage.output, error) == ("a cat", 74, None)
