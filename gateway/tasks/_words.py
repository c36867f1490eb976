"""Parts text into words that can be compared: in one case, without articles, with numbers written in one way."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Scripts written without spaces: Thai and Lao, Burmese, Khmer, kana, Han. Each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(
    rf"""
      (?<!\w) [-+\u2212]? \d+ (?:,\d{{3}})* (?:[.,]\d+)? (?!\w)   # a number, its thousands parted by commas or not
    | [{_UNSPACED}]
    | [^\W{_UNSPACED}]+ (?:['\u2019][^\W{_UNSPACED}]+)*
    | [$%\u20ac\u00a3\u00a5]
    """,
    re.VERBOSE,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty"),
    *("fifty", "sixty", "seventy", "eighty", "ninety"),
)
_SPELLED = dict(zip(_NUMBER_WORDS, (*range(20), *range(20, 100, 10)), strict=True))
_TEN = 10


def words(text: str) -> list[str]:
    """Gives the words of *text* in its order, case folded; punctuation and English articles are left out.

    Numbers are written alike: `2.30` is `2.3`, `1,234` is `1234`, and `twenty-one` is `21`; but `230` stays `230`.
    After the normalisation that VQA answers are graded with (Antol et al. 2015, visualqa.org/evaluation.html), which
    would take the point out of `2.30`.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _spelled_out([_plain(token) for token in _TOKEN.findall(folded) if token not in _ARTICLES])


def numbers(tokens: Sequence[str]) -> list[str]:
    """Gives those of the words *tokens* that are numbers."""
    return [token for token in tokens if _NUMBER.fullmatch(token)]


def _plain(token: str) -> str:
    """Writes a number without sign of plus, thousands, leading or trailing zeros; leaves other words alone."""
    bare = token.lstrip("+-\u2212")
    if not bare[:1].isdigit() or not bare[-1].isdigit():
        return token
    whole, _, part = _THOUSANDS.sub("", bare).replace(",", ".").partition(".")
    if not (whole + part).isdigit():
        return token
    written = whole.lstrip("0") or "0"
    if part := part.rstrip("0"):
        written = f"{written}.{part}"
    return f"-{written}" if token[0] in "-\u2212" and written != "0" else written


def _spelled_out(tokens: list[str]) -> list[str]:
    """Replaces English number words up to ninety-nine by their digits."""
    found: list[str] = []
    tens = 0
    for token in tokens:
        value = _SPELLED.get(token)
        if value is None:
            found.append(token)
        elif tens and 0 < value < _TEN:
            found[-1] = str(tens + value)
        else:
            found.append(str(value))
        tens = value if value and value % _TEN == 0 and value > _TEN else 0
    return found
