"""What the client package offers."""

from __future__ import annotations

import inspect

import visiongateway


def test_public_names_are_sorted_and_there():
    names = visiongateway.__all__

    assert names == sorted(names)
    assert [name for name in names if not hasattr(visiongateway, name)] == []


def test_every_error_is_public():
    errors = {cls.__name__ for cls in visiongateway.VisionError.__subclasses__()} | {"VisionError"}

    assert errors - set(visiongateway.__all__) == set()


def test_nothing_public_is_without_a_docstring():
    offered = [getattr(visiongateway, name) for name in visiongateway.__all__]

    assert [each for each in offered if inspect.isclass(each) and not each.__doc__] == [visiongateway.Image]
