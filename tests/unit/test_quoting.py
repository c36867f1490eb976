from __future__ import annotations

from dataclasses import replace

import pytest

from gateway import profiles, tasks
from gateway.domain import Ask, ImageDetail, Options, Reasoning, ServiceTier, SourceImage
from gateway.errors import CostAboveLimit, UnsupportedByModel
from gateway.pricing import FREE, listed, per_million
from gateway.quoting import Quoter
from gateway.tasks.caption import CaptionQuery
from gateway.tasks.detect import DetectQuery
from gateway.tasks.vqa import VQAQuery

SMALL = SourceImage(b"bytes", "image/jpeg", 640, 427)
LARGE = SourceImage(b"bytes", "image/jpeg", 4000, 3000)
CAPTION = CaptionQuery(detail="normal", language="")
DETECT = DetectQuery(labels=("cat",), prompt="", max_detections=100)


def quoter(family, price=None):
    prices = {"gemma4": per_million("0.060", "0.330"), "gpt55": listed("gpt-5.5", "openai"), "embedded": FREE}
    return Quoter("m", profiles.load(family), price or prices[family], tasks.load())


def ask(query=CAPTION, image=SMALL, images=1, **options):
    return Ask(query, (image,) * images, Options(**options), deadline=1.0, request_id="id")


@pytest.mark.parametrize(("detail", "image_tokens"), [(None, 128), (ImageDetail.MEDIUM, 262), (ImageDetail.MAX, 1082)])
def test_a_quote_counts_image_tokens_by_the_familys_own_rule(detail, image_tokens):
    assert quoter("gemma4").quote(ask(image_detail=detail)).image_tokens == image_tokens


def test_the_worst_case_is_a_token_for_each_byte_and_the_longest_answer_at_the_dearer_tier():
    quoted = quoter("gpt55").quote(ask(service_tier=ServiceTier.FLEX, max_output_tokens=100))
    text_bytes = (quoted.max_cost - 100 * 30_000) // 5000 - quoted.image_tokens

    # Four bytes to a token, rounded up, is what the expected input is made of.
    assert quoted.input_tokens == quoted.image_tokens + -(-text_bytes // 4)
    assert quoted.expected_cost == quoted.input_tokens * 2500 + 100 * 15_000


def test_the_schema_that_is_sent_is_counted():
    schema = {"type": "object", "properties": {"x" * 1000: {"type": "string"}}}

    without, given = (
        quoter("gpt55").quote(ask(VQAQuery(question="?", answer_schema=each))).max_cost for each in (None, schema)
    )

    assert given - without >= 1000 * 5000


def test_a_free_model_costs_nothing_and_fits_into_nothing():
    embedded = quoter("embedded")

    assert (embedded.quote(ask()).max_cost, embedded.fit(ask(), 0)) == (0, ask())


def test_an_ask_that_fits_is_left_as_it_is():
    worst = quoter("gpt55").quote(ask(image=LARGE)).max_cost

    assert quoter("gpt55").fit(ask(image=LARGE), worst) == ask(image=LARGE)


def test_one_nano_dollar_less_makes_the_answer_shorter_by_one_token():
    gpt55 = quoter("gpt55")
    whole = gpt55.quote(ask(DETECT, LARGE))

    fitted = gpt55.fit(ask(DETECT, LARGE), whole.max_cost - 1)

    assert fitted.options.max_output_tokens == whole.max_output_tokens - 1
    assert gpt55.quote(fitted).image_tokens == whole.image_tokens


@pytest.mark.parametrize("family", ["gemma4", "gpt55"])
@pytest.mark.parametrize("query", [CAPTION, DETECT, VQAQuery(question="How many?", answer_schema=None)])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.2, 0.1, 0.05, 0.01])
@pytest.mark.parametrize("options", [{}, {"service_tier": ServiceTier.FLEX}, {"reasoning": Reasoning.LOW}])
def test_what_was_made_to_fit_never_costs_more_than_it_may(family, query, share, options):
    model = quoter(family)
    asked = ask(query, LARGE, **options)
    allowance = int(model.quote(asked).max_cost * share)

    try:
        fitted = model.fit(asked, allowance)
    except CostAboveLimit as exc:
        assert int(exc.metadata["least_worst_case_nano_usd"]) > allowance  # noqa: PT017  one or the other
    else:
        assert model.quote(fitted).max_cost <= allowance


def least_of(model):
    """Gives the worst case of the smallest image and of a quarter of the answer."""
    asked = ask(DETECT, LARGE, image_detail=ImageDetail.LOW)
    output = model.quote(asked).max_output_tokens // 4
    return model.quote(ask(DETECT, LARGE, image_detail=ImageDetail.LOW, max_output_tokens=output)).max_cost


def test_the_image_shrinks_once_the_answer_cannot_get_shorter():
    gpt55 = quoter("gpt55")

    fitted = gpt55.fit(ask(DETECT, LARGE), least_of(gpt55))

    assert fitted.options.image_detail < ImageDetail.HIGH
    assert gpt55.quote(fitted).sent_px < (1824, 1368)


def test_a_detail_that_the_caller_chose_is_kept_or_refused():
    gpt55 = quoter("gpt55")

    with pytest.raises(CostAboveLimit, match="lower image_detail"):
        gpt55.fit(ask(DETECT, LARGE, image_detail=ImageDetail.MAX), least_of(gpt55))


@pytest.mark.parametrize("family", ["gemma4", "gpt55"])
@pytest.mark.parametrize("most", [72, 100, 280, 281, 700, 1500, 4000])
@pytest.mark.parametrize("size", [(4000, 3000), (640, 427), (1000, 1000), (300, 3000)])
def test_no_image_costs_more_tokens_than_its_caller_allows(family, most, size):
    image = SourceImage(b"bytes", "image/jpeg", *size)

    assert quoter(family).quote(ask(image=image, max_image_tokens=most)).image_tokens <= most


def test_too_few_image_tokens_for_a_family_are_refused_with_the_least_it_takes():
    with pytest.raises(UnsupportedByModel, match="at the least an image costs 66 tokens, and max_image_tokens is 64"):
        quoter("gemma4").quote(ask(image=SourceImage(b"bytes", "image/jpeg", 500, 500), max_image_tokens=64))


def test_an_image_is_shrunk_to_its_tokens_and_not_enlarged_by_them():
    assert quoter("gpt55").quote(ask(image=SMALL, max_image_tokens=16_384)).sent_px == (512, 342)


def test_more_than_the_model_can_hold_is_refused():
    asked = ask(VQAQuery(question="x" * 4 * 262_144, answer_schema=None))

    with pytest.raises(UnsupportedByModel, match="takes 262144 tokens in all"):
        quoter("gemma4").quote(asked)


def test_a_photograph_of_12_megapixels_is_captioned_for_less_than_a_tenth_of_the_input_of_the_original():
    gpt55 = quoter("gpt55")
    as_it_is, for_a_caption = (
        gpt55.quote(ask(image=LARGE, image_detail=detail)).input_tokens for detail in (ImageDetail.MAX, None)
    )

    assert for_a_caption * 10 < as_it_is


def test_an_ask_is_priced_once_for_all_who_want_to_know():
    model, asked = quoter("gemma4"), ask()

    assert model.quote(replace(asked, deadline=2.0)) is model.quote(asked)


@pytest.mark.parametrize(
    "change",
    [
        {"query": DETECT},
        {"images": (LARGE,)},
        {"options": Options(max_output_tokens=16)},
    ],
    ids=["query", "images", "options"],
)
def test_an_ask_that_became_another_is_priced_anew(change):
    model, asked = quoter("gemma4"), ask()
    before = model.quote(asked)

    after = model.quote(replace(asked, **change))

    assert after == model.quote(replace(ask(), **change)) != before


def test_each_model_has_its_own_price_for_one_ask():
    asked = ask()
    one, other = (Quoter(name, profiles.load("gemma4"), FREE, tasks.load()).quote(asked) for name in ("a", "b"))
    dear = Quoter("c", profiles.load("gpt55"), listed("gpt-5.5", "openai"), tasks.load()).quote(asked)

    assert one == other != dear
