"""How far two texts are alike, character by character."""

from __future__ import annotations

import unicodedata
from collections import Counter
from os.path import commonprefix

# Characters in which two texts may differ to be compared exactly: some 10 ms of work on one core, at most.
_MOST_EXACT = 4096
_GRAM = 3


def similarity(first: str, second: str) -> float:
    """Gives 1 minus the Levenshtein distance over the longer one's length, in [0, 1]; 1 for two empty texts.

    Runs of white space count as one space. Texts that differ over thousands of characters are compared by the share of
    character trigrams that they have in common (Dice 1945), which takes linear time and knows no order.
    """
    a, b = _normalised(first), _normalised(second)
    longest = max(len(a), len(b))
    if a == b:
        return 1.0
    # What both begin and end with changes nothing about the distance.
    start = len(commonprefix((a, b)))  # noqa: RUF071  these are no paths
    a, b = a[start:], b[start:]
    end = len(commonprefix((a[::-1], b[::-1])))  # noqa: RUF071  nor are these
    a, b = a[: len(a) - end], b[: len(b) - end]
    if max(len(a), len(b)) <= _MOST_EXACT:
        return 1 - _levenshtein(a, b) / longest
    # Of what is left, both have what was cut off besides.
    return (longest - max(len(a), len(b)) * (1 - _dice(a, b))) / longest


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _levenshtein(a: str, b: str) -> int:
    """Counts the characters to insert, delete or replace, a column of the matrix at once in the bits of an integer.

    Myers 1999, "A fast bit-vector algorithm for approximate string matching based on dynamic programming", J. ACM 46;
    in the form of Hyyro 2003 for whole strings.
    """
    if not a or not b:
        return len(a) + len(b)
    full = (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    where: dict[str, int] = {}
    for index, character in enumerate(a):
        where[character] = where.get(character, 0) | 1 << index
    distance = len(a)
    up, down = full, 0
    for character in b:
        equal = where.get(character, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        grows = down | ~(diagonal | up) & full
        shrinks = up & diagonal
        if grows & last:
            distance += 1
        elif shrinks & last:
            distance -= 1
        grows = (grows << 1 | 1) & full
        shrinks = shrinks << 1 & full
        up = shrinks | ~(diagonal | grows) & full
        down = grows & diagonal
    return distance


def _dice(a: str, b: str) -> float:
    first, second = _grams(a), _grams(b)
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 0.0


def _grams(text: str) -> Counter[str]:
    return Counter(text[index : index + _GRAM] for index in range(len(text) - _GRAM + 1))
