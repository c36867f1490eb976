from __future__ import annotations

import pytest

from gateway.errors import UnusableAnswer
from gateway.tasks import _answers as answers
from gateway.tasks._json import values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', [({"a": 1}, True)]),
        ("Sure:\n```json\n[1, 2]\n```\nDone.", [([1, 2], True)]),
        ('{"a": 1}\n{"a": 2}', [({"a": 1}, True), ({"a": 2}, True)]),
        ('[{"a": 1}, {"a": 2}, {"a"', [({"a": 1}, False), ({"a": 2}, False)]),
        ('[{"a": 1}, {"a" 2}, {"a": 3}]', [({"a": 1}, False), ({"a": 3}, False)]),
        ('{"a": "}{][", "b": "\\"}"}', [({"a": "}{][", "b": '"}'}, True)]),
        ('He said "go" and then [1]', [([1], True)]),
        ("[1, 2,]", [([1, 2], True)]),
        ("{'a': 'b'}", [({"a": "b"}, True)]),
        ('{"a": "line\nbreak"}', [({"a": "line\nbreak"}, True)]),
        ("[1)]", []),
        ("]]}}", []),
        ("no JSON at all", []),
        ("[" * 100_000 + "]" * 100_000, []),
        ('{"a":' * 1000 + "1" + "}" * 1000, []),
    ],
    ids=lambda case: str(case)[:40],
)
def test_json_is_found_wherever_and_however_it_stands(text, found):
    assert list(values(text)) == found


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("[]", []),
        ('{"items": []}', []),
        ('{"items": null}', []),
        ('{"items": [{"a": 1}]}', [{"a": 1}]),
        ('{"items": {"a": 1}}', [{"a": 1}]),
        ('[{"a": 1}, [{"a": 2}]]', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}', [{"a": 1}]),
    ],
)
def test_a_list_is_read_from_what_holds_it(text, elements):
    assert answers.elements(text, ("items",), "items") == elements


@pytest.mark.parametrize("text", ["", "none", "[", '{"items": [', '{"items": [], "more": ['])
def test_the_start_of_a_list_is_not_an_empty_one(text):
    with pytest.raises(UnusableAnswer, match="the model's answer has no usable items"):
        answers.elements(text, ("items",), "items")
