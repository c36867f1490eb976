from __future__ import annotations

import pytest

from gateway import profiles, tasks

FAMILIES = ["embedded", "gemma4", "gpt55"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_found_by_the_name_of_its_file(family):
    assert profiles.load(family).family == family


def test_an_unknown_family_is_answered_with_the_known_ones():
    with pytest.raises(LookupError, match="no model family 'gemini'; there are embedded, gemma4, gpt55"):
        profiles.load("gemini")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_a_detail_for_every_task(family):
    assert profiles.load(family).details.keys() == tasks.load().keys()
