"""Reads a request of wire contract v1 and checks it, since Triton counts inputs and does not look at their names."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from gemma4_serving.engines import InvalidJobError, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    # Gives an input by its name, or None where the request has none of it.
    Tensors = Callable[[str], NDArray[Any] | None]

_CONTRACT = 1
_BUDGETS = (70, 140, 280, 560, 1120)
_FORMATS = ("JPEG", "PNG", "WEBP")
_DEFAULT_MAX_TOKENS = 1024
_MAX_TEXT_BYTES = 1 << 20
_MAX_STOPS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may bring: images, and the bytes and pixels of each."""

    max_images: int = 8
    max_image_bytes: int = 20 << 20
    max_pixels: int = 40_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read; *images* are encoded, and *settings* are the other fields of its `Job`."""

    images: tuple[bytes, ...]
    streaming: bool
    settings: Mapping[str, Any]

    def job(self, request_id: str, limits: Limits) -> Job:
        """Decodes the images, which takes its time; raises `InvalidJobError` for one that cannot be decoded."""
        images = tuple(_decode(data, limits) for data in self.images)
        return Job(request_id=request_id, images=images, **self.settings)


def read(tensors: Tensors, parameters: Mapping[str, Any], limits: Limits) -> Asked:
    """Reads the inputs; raises `InvalidJobError` where one is missing or is not what the contract says."""
    if parameters.get("contract", _CONTRACT) != _CONTRACT:
        raise InvalidJobError(f"only contract {_CONTRACT} is spoken")
    inputs = _Inputs(tensors)
    user = inputs.text("text_input")
    if user is None:
        raise InvalidJobError("the required input 'text_input' is missing")
    images = inputs.strings("image_bytes")
    if len(images) > limits.max_images:
        # Not called images: the gateway takes that word to mean that one cannot be decoded.
        raise InvalidJobError(f"{len(images)} pictures were sent; at most {limits.max_images} are taken")
    if any(len(data) > limits.max_image_bytes for data in images):
        raise InvalidJobError(f"an image has more than {limits.max_image_bytes} bytes")
    stop = tuple(_utf8(value, "sampling_param_stop") for value in inputs.strings("sampling_param_stop"))
    if len(stop) > _MAX_STOPS or not all(stop):
        raise InvalidJobError(f"the input 'sampling_param_stop' takes at most {_MAX_STOPS} strings, none of them empty")
    max_tokens = inputs.number("sampling_param_max_tokens", at_least=1)
    settings = {
        "user": user,
        "system": inputs.text("system_prompt") or "",
        "schema": _schema(inputs.text("guided_json")),
        "thinking": bool(inputs.scalar("enable_thinking")),
        "image_token_budget": _budget(inputs.scalar("image_token_budget")),
        "max_tokens": _DEFAULT_MAX_TOKENS if max_tokens is None else int(max_tokens),
        "temperature": inputs.number("sampling_param_temperature", at_least=0),
        "top_p": inputs.number("sampling_param_top_p", at_least=0, at_most=1),
        "top_k": inputs.number("sampling_param_top_k", at_least=1),
        "seed": inputs.scalar("sampling_param_seed"),
        "stop": stop,
    }
    return Asked(images, bool(inputs.scalar("streaming")), settings)


class _Inputs:
    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def strings(self, name: str) -> tuple[bytes, ...]:
        tensor = self._tensors(name)
        return () if tensor is None else tuple(bytes(value) for value in tensor.reshape(-1))

    def text(self, name: str) -> str | None:
        values = self.strings(name)
        if not values:
            return None
        if len(values) > 1 or len(values[0]) > _MAX_TEXT_BYTES:
            raise InvalidJobError(f"the input '{name}' takes one text of at most {_MAX_TEXT_BYTES} bytes")
        return _utf8(values[0], name)

    def scalar(self, name: str) -> Any:
        tensor = self._tensors(name)
        if tensor is None:
            return None
        if tensor.size != 1:
            raise InvalidJobError(f"the input '{name}' takes one value")
        return tensor.reshape(-1)[0].item()

    def number(self, name: str, *, at_least: float, at_most: float = math.inf) -> Any:
        value = self.scalar(name)
        if value is not None and not (math.isfinite(value) and at_least <= value <= at_most):
            raise InvalidJobError(f"{name} is out of its range")
        return value


def _utf8(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidJobError(f"the input '{name}' is not UTF-8") from error


def _budget(value: int | None) -> int | None:
    if value is not None and value not in _BUDGETS:
        raise InvalidJobError(f"image_token_budget is none of {', '.join(map(str, _BUDGETS))}")
    return value


def _schema(text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidJobError("guided_json is not JSON") from error
    if not isinstance(schema, dict):
        raise InvalidJobError("guided_json is not a JSON object")
    return schema


def _decode(data: bytes, limits: Limits) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        # The header tells the size; pixels are decoded only when it is allowed.
        if image.width * image.height <= limits.max_pixels:
            return _on_white(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise whatever they like on broken files.
        raise InvalidJobError("an image cannot be decoded") from error
    raise InvalidJobError(f"an image has more than {limits.max_pixels} pixels")


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
