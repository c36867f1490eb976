"""Checks a request and reports everything that is wrong with it at once; pixels are not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.domain import CachePolicy, ImageDetail, Options, Priority, Reasoning, ServiceTier, Urgency
from gateway.errors import InvalidField, InvalidImage, UrlForbidden, Violation
from visiongateway.v1 import call_pb2 as pb, image_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.tasks import AnyTask

_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: Priority.BALANCED,
    pb.PRIORITY_BALANCED: Priority.BALANCED,
    pb.PRIORITY_QUALITY: Priority.QUALITY,
    pb.PRIORITY_COST: Priority.COST,
}
_IMAGE_DETAILS = {
    pb.IMAGE_DETAIL_UNSPECIFIED: None,
    pb.IMAGE_DETAIL_LOW: ImageDetail.LOW,
    pb.IMAGE_DETAIL_MEDIUM: ImageDetail.MEDIUM,
    pb.IMAGE_DETAIL_HIGH: ImageDetail.HIGH,
    pb.IMAGE_DETAIL_MAX: ImageDetail.MAX,
}
_REASONINGS = {
    pb.REASONING_UNSPECIFIED: Reasoning.NONE,
    pb.REASONING_NONE: Reasoning.NONE,
    pb.REASONING_LOW: Reasoning.LOW,
    pb.REASONING_MEDIUM: Reasoning.MEDIUM,
    pb.REASONING_HIGH: Reasoning.HIGH,
}
_SERVICE_TIERS = {
    pb.SERVICE_TIER_UNSPECIFIED: ServiceTier.STANDARD,
    pb.SERVICE_TIER_STANDARD: ServiceTier.STANDARD,
    pb.SERVICE_TIER_FLEX: ServiceTier.FLEX,
    pb.SERVICE_TIER_PRIORITY: ServiceTier.PRIORITY,
}
_CACHE_POLICIES = {
    pb.CACHE_POLICY_UNSPECIFIED: CachePolicy.DEFAULT,
    pb.CACHE_POLICY_DEFAULT: CachePolicy.DEFAULT,
    pb.CACHE_POLICY_BYPASS: CachePolicy.BYPASS,
    pb.CACHE_POLICY_REFRESH: CachePolicy.REFRESH,
}
_URGENCIES = {
    pb.URGENCY_UNSPECIFIED: Urgency.INTERACTIVE,
    pb.URGENCY_INTERACTIVE: Urgency.INTERACTIVE,
    pb.URGENCY_BULK: Urgency.BULK,
}
_ENUMS: dict[str, dict[Any, Any]] = {
    "priority": _PRIORITIES,
    "image_detail": _IMAGE_DETAILS,
    "reasoning": _REASONINGS,
    "cache": _CACHE_POLICIES,
    "service_tier": _SERVICE_TIERS,
    "urgency": _URGENCIES,
}
_TOKENS = (16, 32_768)
_IMAGE_TOKENS = (64, 16_384)
_TEMPERATURES = (0.0, 2.0)
_LONGEST_CATEGORY = 100
_DIGEST_BYTES = 32
_MISSING = "there is no image, or it has no bytes: give its `data`, or the `digest` of one that you sent lately"
_NOTHING = (image_pb2.Image(), image_pb2.Image(data=b""), image_pb2.Image(url=""))


def check(task: AnyTask, request: Any, *, at: str = "") -> Options:
    """Gives the options of a request in which everything is in range.

    Raises `InvalidField` with every violation, those of images among them; `InvalidImage` when nothing but images is
    wrong; `UrlForbidden` when an image is an address and nothing else is wrong. *at* goes before each path, such as
    `caption.`.
    """
    given = [(f"{at}{path}", image) for path, image in task.images(request)]
    wrong = (*option_violations(request.options), *task.violations(request))
    check_images(given, [Violation(f"{at}{violation.field}", violation.description) for violation in wrong])
    return options(request.options)


def check_images(given: Sequence[tuple[str, image_pb2.Image]], wrong: Sequence[Violation] = ()) -> None:
    """Raises for what is *wrong* besides images, and for images, by path, that are not there or are addresses."""
    missing = [Violation(path, _MISSING) for path, image in given if _is_missing(image)]
    digests = [
        Violation(f"{path}.digest", f"has {len(image.digest)} bytes; a SHA-256 has {_DIGEST_BYTES}")
        for path, image in given
        if image.HasField("digest") and len(image.digest) != _DIGEST_BYTES
    ]
    if wrong or digests:
        raise InvalidField([*missing, *digests, *wrong])
    if missing:
        first, *others = missing
        raise InvalidImage(first.description, limit="missing", field=first.field, others=others)
    for path, image in given:
        if image.HasField("url"):
            raise UrlForbidden(
                "this gateway fetches no addresses; send the bytes of the image", metadata={"field": f"{path}.url"}
            )


def _is_missing(image: image_pb2.Image) -> bool:
    # Compared whole because reading `data` would copy it.
    return image in _NOTHING


def option_violations(options: pb.CallOptions) -> Iterator[Violation]:
    """Yields every option that is out of range."""
    if options.model and options.route:
        yield Violation("options.route", "must be unset when `model` is set")
    for name, known in _ENUMS.items():
        number = getattr(options, name)
        if number not in known:
            yield Violation(f"options.{name}", f"has no value {number}")
    if options.HasField("max_cost_nano_usd") and options.max_cost_nano_usd < 1:
        yield Violation("options.max_cost_nano_usd", "must be at least 1")
    least, most = _TOKENS
    if options.HasField("max_output_tokens") and not least <= options.max_output_tokens <= most:
        yield Violation("options.max_output_tokens", f"must be in [{least}, {most}]")
    least, most = _IMAGE_TOKENS
    if options.HasField("max_image_tokens") and not least <= options.max_image_tokens <= most:
        yield Violation("options.max_image_tokens", f"must be in [{least}, {most}]")
    coldest, hottest = _TEMPERATURES
    # Written so that NaN is out of range too.
    if options.HasField("temperature") and not coldest <= options.temperature <= hottest:
        yield Violation("options.temperature", f"must be a number in [{coldest:g}, {hottest:g}]")
    if options.HasField("seed") and options.seed < 0:
        yield Violation("options.seed", "must be at least 0")
    if len(options.category) > _LONGEST_CATEGORY:
        yield Violation("options.category", f"has more than {_LONGEST_CATEGORY} characters")


def options(message: pb.CallOptions) -> Options:
    """Gives options that are in range in our own words."""

    def given(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]  # mypy

    return Options(
        model=message.model,
        route=message.route,
        priority=_PRIORITIES[message.priority],
        max_cost_nano_usd=given("max_cost_nano_usd"),
        image_detail=_IMAGE_DETAILS[message.image_detail],
        reasoning=_REASONINGS[message.reasoning],
        max_output_tokens=given("max_output_tokens"),
        temperature=given("temperature"),
        seed=given("seed"),
        allow_fallback=given("allow_fallback"),
        local_only=message.local_only,
        service_tier=_SERVICE_TIERS[message.service_tier],
        max_image_tokens=given("max_image_tokens"),
        urgency=_URGENCIES[message.urgency],
        category=message.category,
        cache=_CACHE_POLICIES[message.cache],
    )
