"""What a model would be told for one ask: sizes of the images, words, and how long it may answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from gateway.domain import Reasoning
from gateway.errors import UnsupportedByModel
from gateway.tasks import Wording
from gateway.usage import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.domain import Ask, ImagePlan, Options
    from gateway.profiles import Profile
    from gateway.tasks import AnyTask

# Between the medians that Roboflow's comparison gives for Gemma 4 26B A4B (214) and GPT-5.5 (138).
TYPICAL_OUTPUT = 176
# Tokens left for thoughts where the caller sets no bound: an answer cut off after long thinking is paid for nothing.
_THOUGHT_ROOM = {Reasoning.NONE: 0, Reasoning.LOW: 2_048, Reasoning.MEDIUM: 8_192, Reasoning.HIGH: 24_576}
_MOST_OUTPUT = 32_768


@dataclass(frozen=True, slots=True)
class Brief:
    """What one ask comes to for one family: a plan for each image, the words, and the bound on output tokens.

    *text_bytes* is the length in UTF-8 of all words and of the schema.
    """

    plans: tuple[ImagePlan, ...]
    wording: Wording
    max_output_tokens: int
    text_bytes: int

    @property
    def image_tokens(self) -> int:
        """The tokens of all images, by the family's own rule."""
        return sum(plan.token_count for plan in self.plans)

    @property
    def text_tokens(self) -> int:
        """The tokens to expect of the text: one for four bytes, as in English prose, rounded up."""
        return -(-self.text_bytes // BYTES_PER_TOKEN)


def prompt_version(profile: Profile, task: AnyTask) -> str:
    """Names the wording that *profile*'s family is asked *task* with, and how its answer is read."""
    return f"{profile.family}/{profile.version}/{task.rpc.lower()}/{task.version}"


def brief(ask: Ask, name: str, profile: Profile, tasks: Mapping[str, AnyTask]) -> Brief:
    """Says what the model called *name*, of *profile*'s family, would be told for *ask*.

    Raises `UnsupportedByModel` when the ask has more images, or more tokens, than the family takes.
    """
    plans = _plans(ask, name, profile)
    wording = _wording(ask, profile, tasks, plans[0])
    made = Brief(plans, wording, _most_output(ask.options, wording), _text_bytes(wording))
    tokens = made.image_tokens + made.text_tokens + made.max_output_tokens
    if profile.context_tokens and tokens > profile.context_tokens:
        raise UnsupportedByModel(
            f"{name} takes {profile.context_tokens} tokens in all; this call comes to about {tokens}: "
            "send fewer or smaller images, less text, or lower max_output_tokens",
            metadata={"limit": "context_tokens", "context_tokens": str(profile.context_tokens)},
        )
    return made


def _plans(ask: Ask, name: str, profile: Profile) -> tuple[ImagePlan, ...]:
    if len(ask.images) > profile.max_images:
        raise UnsupportedByModel(
            f"{name} takes at most {profile.max_images} image(s); {len(ask.images)} were sent",
            metadata={"limit": "images", "max_images": str(profile.max_images)},
        )
    detail = ask.options.image_detail or profile.detail(ask.query)
    most = ask.options.max_image_tokens
    return tuple(profile.plan(image.width_px, image.height_px, detail, most) for image in ask.images)


def _wording(ask: Ask, profile: Profile, tasks: Mapping[str, AnyTask], plan: ImagePlan) -> Wording:
    if profile.takes_query and len(ask.query.parts) == 1:
        query = {"rpc": ask.query.rpc, **asdict(ask.query)}  # type: ignore[call-overload]  # Every Query is a dataclass.
        return Wording(user=orjson.dumps(query).decode(), max_output_tokens=TYPICAL_OUTPUT)
    wording: Wording = tasks[ask.query.rpc].wording(ask.query, profile, plan)
    return wording


def _text_bytes(wording: Wording) -> int:
    schema = orjson.dumps(wording.schema) if wording.schema else b""
    return len(f"{wording.system}{wording.user}".encode("utf-8", "surrogatepass")) + len(schema)


def _most_output(options: Options, wording: Wording) -> int:
    """Gives the most tokens of answer and thoughts together: the caller's bound, else the task's and room to think."""
    room = wording.max_output_tokens + _THOUGHT_ROOM[options.reasoning]
    return options.max_output_tokens or min(room, _MOST_OUTPUT)
