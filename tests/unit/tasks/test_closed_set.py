from __future__ import annotations

import pytest

from gateway.tasks._labels import ClosedSet


@pytest.mark.parametrize(
    ("labels", "words", "label"),
    [
        (["cup"], "cup", "cup"),
        (["Cup"], " CUP ", "Cup"),
        (["traffic light"], "traffic_light", "traffic light"),
        (["traffic-light"], "TrafficLight", "traffic-light"),
        (["cups"], "cup", "cups"),
        (["cup"], "cups", "cup"),
        (["berry"], "Berries", "berry"),
        (["box"], "boxes", "box"),
        (["bus"], "buses", "bus"),
        (["wine glasses"], "wine glass", "wine glasses"),
        (["ﬁsh"], "fish", "ﬁsh"),
        (["Straße"], "STRASSE", "Straße"),
        (["cup", "cups"], "cups", "cups"),
        (["US", "us"], "us", "us"),
    ],
)
def test_a_label_is_found_in_any_case_spacing_and_number(labels, words, label):
    assert ClosedSet(labels).find(words) == label


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["cup"], "mug"),
        (["cup"], "coffee cup"),
        (["cup"], ""),
        (["gas"], "ga"),
        (["C++"], "C"),
        (["ax", "axe"], "axes"),
    ],
)
def test_another_word_is_no_label(labels, words):
    assert ClosedSet(labels).find(words) is None
