"""The GPU engines, driven through stand-ins of their packages.

A call that does not bind to the stand-ins fails here; the stand-ins in `standins/` are held to the published signatures
by test_gemma4_signatures.py. What the packages themselves would refuse beyond that is not seen here.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gemma4_serving.engines import InvalidJobError, Job, Piece

_SCHEMA = {"type": "object"}


def _step(text: str, tokens: int, reason: str | None) -> Any:
    output = SimpleNamespace(text=text, token_ids=[0] * tokens, finish_reason=reason)
    return SimpleNamespace(outputs=[output], prompt_token_ids=[0] * 270)


@dataclass
class _Fake:
    """Scripted steps, and what was asked; stands in for either engine."""

    steps: list[Any]
    fails: Exception | None = None
    asked: Any = None
    sampling: Any = None
    aborted: bool = False
    closed: bool = False
    well: bool = True
    tokenization: Any = field(default=None)

    async def _answer(self) -> Any:
        try:
            for step in self.steps:
                yield step
        except GeneratorExit:
            self.aborted = True
            raise

    def generate_async(self, inputs: Any, sampling_params: Any = None, *, streaming: bool = False) -> Any:
        if self.fails:
            raise self.fails
        assert streaming
        self.asked, self.sampling = inputs, sampling_params
        return _Result(self)

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, tokenization_kwargs: Any = None
    ) -> Any:
        assert request_id == "r1"
        self.asked, self.sampling, self.tokenization = prompt, sampling_params, tokenization_kwargs
        if self.fails:
            raise self.fails
        try:
            for step in self.steps:
                yield step
        except GeneratorExit:
            self.aborted = True
            raise

    async def check_health(self) -> None:
        if not self.well:
            raise RuntimeError

    def shutdown(self) -> None:
        self.closed = True


class _Result:
    def __init__(self, fake: _Fake) -> None:
        self._fake = fake

    def __aiter__(self) -> Any:
        return self._fake._answer()

    def abort(self) -> None:
        self._fake.aborted = True


class _Processor:
    image_processor = SimpleNamespace(max_soft_tokens=280)
    tokenizer = SimpleNamespace(
        all_special_tokens=["<|image|>"],
        added_tokens_decoder={
            106: SimpleNamespace(content="<turn|>", special=True),
            107: SimpleNamespace(content="\n", special=False),
        },
    )

    def apply_chat_template(
        self, messages: Any, *, tokenize: bool, add_generation_prompt: bool, enable_thinking: bool
    ) -> str:
        assert (tokenize, add_generation_prompt) == (False, True)
        parts = [part.get("text", "<|image|>") for turn in messages for part in turn["content"]]
        return f"think={enable_thinking} " + "|".join(parts)


def _stand_in(name: str) -> ModuleType:
    """Loads one module of the stand-ins without the package around it, which needs transformers."""
    path = Path(__file__).parent / "standins" / f"{name.replace('.', '/')}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for what their annotations name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    return module


@pytest.fixture
def engines(monkeypatch):
    standins = [
        _module("transformers", AutoProcessor=None),
        _module("tensorrt_llm", LLM=None),
        _module("vllm"),
        _module("vllm.engine"),
        _module("vllm.engine.arg_utils", AsyncEngineArgs=None),
        _module("vllm.v1"),
        _module("vllm.v1.engine"),
        _module("vllm.v1.engine.async_llm", AsyncLLM=None),
    ]
    for module in standins:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("tensorrt_llm.sampling_params", "vllm.sampling_params"):
        # Noted first, so that it is gone again afterwards.
        monkeypatch.setitem(sys.modules, name, None)
        _stand_in(name)
    for name in ("trtllm", "vllm"):
        monkeypatch.delitem(sys.modules, f"gemma4_serving.engines.{name}", raising=False)
    trtllm, vllm = (importlib.import_module(f"gemma4_serving.engines.{name}") for name in ("trtllm", "vllm"))
    yield {
        "trtllm": lambda fake: trtllm.TrtllmEngine(fake, _Processor(), guided=True),
        "vllm": lambda fake: vllm.VllmEngine(fake, _Processor()),
    }
    for name in ("trtllm", "vllm"):
        sys.modules.pop(f"gemma4_serving.engines.{name}", None)


_STEPS = {
    "trtllm": [_step("A cat", 2, None), _step("A cat sits", 3, "stop")],
    "vllm": [_step("A cat", 2, None), _step(" sits", 1, "stop")],
}
_BOTH = pytest.mark.parametrize("name", ["trtllm", "vllm"])


def _job(**changes: Any) -> Job:
    return Job(**({"request_id": "r1", "user": "What?", "images": (), "max_tokens": 64} | changes))


@_BOTH
async def test_an_answer_comes_in_deltas_with_the_counts_so_far(engines, name):
    engine = engines[name](_Fake(_STEPS[name]))

    assert [piece async for piece in engine.generate(_job())] == [
        Piece("A cat", 270, 2),
        Piece(" sits", 270, 3, "stop"),
    ]


@_BOTH
async def test_images_stand_before_words_and_a_callers_control_tokens_are_dropped(engines, name):
    fake, image = _Fake(_STEPS[name]), Image.new("RGB", (4, 4))

    _ = [piece async for piece in engines[name](fake).generate(_job(user="a<tu<turn|>rn|>\nb", images=(image,)))]

    assert fake.asked == {"prompt": "think=False <|image|>|a\nb", "multi_modal_data": {"image": [image]}}


@_BOTH
async def test_sampling_is_what_was_asked(engines, name):
    fake = _Fake(_STEPS[name])

    _ = [piece async for piece in engines[name](fake).generate(_job(temperature=0.5, top_k=9, seed=7, stop=("x",)))]

    said = fake.sampling
    assert (said.max_tokens, said.temperature, said.top_k, said.top_p) == (64, 0.5, 9, 0.95)
    assert (said.seed, said.stop, said.skip_special_tokens) == (7, ["x"], False)


@_BOTH
@pytest.mark.parametrize(("thinking", "guide"), [(False, _SCHEMA), (True, None)])
async def test_a_schema_guides_an_answer_without_thoughts(engines, name, thinking, guide):
    fake = _Fake(_STEPS[name])

    _ = [piece async for piece in engines[name](fake).generate(_job(schema=_SCHEMA, thinking=thinking))]

    given = fake.sampling.guided_decoding if name == "trtllm" else fake.sampling.structured_outputs
    assert (given and given.json) == guide


@_BOTH
async def test_closing_early_aborts_the_job(engines, name):
    fake = _Fake(_STEPS[name])
    pieces = engines[name](fake).generate(_job())

    await anext(pieces)
    await pieces.aclose()

    assert fake.aborted


@_BOTH
async def test_a_request_that_the_engine_refuses_is_an_invalid_job(engines, name):
    with pytest.raises(InvalidJobError):
        await anext(engines[name](_Fake([], fails=ValueError("secret"))).generate(_job()))


@_BOTH
async def test_a_job_that_the_engine_gives_up_is_a_failure(engines, name):
    with pytest.raises(RuntimeError):
        await anext(engines[name](_Fake([_step("", 0, "cancelled")])).generate(_job()))


@pytest.mark.parametrize(("name", "budget"), [("trtllm", 280), ("vllm", 560)])
def test_only_vllm_takes_a_budget_per_request(engines, name, budget):
    assert engines[name](_Fake([])).effective_budget(560) == budget


async def test_vllm_is_not_ready_when_its_engine_is_dead(engines):
    assert await engines["vllm"](_Fake([], well=False)).is_ready() is False


async def test_trtllm_is_not_ready_once_its_workers_are_gone(engines):
    engine = engines["trtllm"](_Fake([], fails=RuntimeError()))
    before = await engine.is_ready()

    with pytest.raises(RuntimeError):
        await anext(engine.generate(_job()))

    assert (before, await engine.is_ready()) == (True, False)
