"""The calls of the GPU engines against the published signatures of TensorRT-LLM and vLLM, which are not installed here.

`signatures/extract.py` writes the signatures down from the packages' own sources.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from signatures.extract import parameters

from gemma4_serving.chat import sampling_of
from gemma4_serving.engines import Job

yaml = pytest.importorskip("yaml", reason="yaml is not installed: make setup-gemma4")

_MODEL = Path(__file__).parents[2] / "triton_repo" / "gemma4" / "1"
_PACKAGES = {"trtllm": "tensorrt_llm", "vllm": "vllm"}
_OPTIONS_OF = {"trtllm": "LLM", "vllm": "AsyncEngineArgs"}
# What a method is called on, where it is no class that the engine imports.
_OWNERS = {
    "trtllm": {"self._llm": "LLM", "result": "GenerationResult"},
    "vllm": {"self._llm": "AsyncLLM"},
}
_BOTH = pytest.mark.parametrize("name", ["trtllm", "vllm"])


def _published(name: str) -> dict[str, inspect.Signature]:
    said = json.loads((Path(__file__).parent / "signatures" / f"{_PACKAGES[name]}.json").read_text())
    return {called: _signature(parameters) for called, parameters in said["callables"].items()}


def _signature(parameters: list[tuple[str, str, bool]]) -> inspect.Signature:
    built = [
        inspect.Parameter(name, getattr(inspect.Parameter, kind), default=None if optional else inspect.Parameter.empty)
        for name, kind, optional in parameters
    ]
    # A dataclass that extends another, and a reference by name, have no order that inspect would take.
    return inspect.Signature(sorted(built, key=lambda one: (one.kind, one.default is None)))


def _source(name: str) -> str:
    return (_MODEL / "gemma4_serving" / "engines" / f"{name}.py").read_text()


def _settings(name: str) -> dict[str, object]:
    settings: dict[str, object] = yaml.safe_load((_MODEL / f"model.{name}.yaml").read_text())
    return settings


def _sampling() -> list[frozenset[str]]:
    plain = Job(request_id="r1", user="What?", images=(), max_tokens=64, seed=7, stop=("x",))
    greedy = Job(request_id="r1", user="What?", images=(), max_tokens=64, temperature=0.0)
    return [frozenset(sampling_of(job)) for job in (plain, greedy)]


def _calls(name: str, source: str) -> Iterator[tuple[str, ast.Call]]:
    tree = ast.parse(source)
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == _PACKAGES[name]
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            on = ast.unparse(node.func.value)
            owner = on if on in imported else _OWNERS[name].get(on)
            if owner:
                yield f"{owner}.{node.func.attr}", node
        elif ast.unparse(node.func) in imported:
            yield ast.unparse(node.func), node


def _mismatches(name: str, source: str, unpacked: Mapping[str, list[frozenset[str]]]) -> list[str]:
    """Gives a line for each call of the package that its published signature does not take.

    *unpacked* has, for what stands behind `**`, the sets of names that it may hold.
    """
    published = _published(name)
    found = []
    for called, call in _calls(name, source):
        named = [word.arg for word in call.keywords if word.arg]
        dicts = [ast.unparse(word.value) for word in call.keywords if not word.arg]
        assert len(dicts) <= 1
        for keys in unpacked[dicts[0]] if dicts else [frozenset[str]()]:
            try:
                published[called].bind(*call.args, **dict.fromkeys([*named, *keys]))
            except (KeyError, TypeError) as error:
                found.append(f"{called}, line {call.lineno}: {error}")
    return found


def _unpacked(name: str) -> dict[str, list[frozenset[str]]]:
    return {"options": [frozenset(_settings(name))], "sampling_of(job)": _sampling()}


@_BOTH
def test_every_call_of_an_engine_fits_the_published_signature(name):
    assert _mismatches(name, _source(name), _unpacked(name)) == []


@pytest.mark.parametrize(
    ("name", "called"),
    [
        (
            "trtllm",
            {
                *("LLM", "LLM.generate_async", "LLM.shutdown", "SamplingParams", "GuidedDecodingParams"),
                "GenerationResult.abort",
            },
        ),
        (
            "vllm",
            {
                *("AsyncEngineArgs", "AsyncLLM.from_engine_args", "AsyncLLM.generate", "AsyncLLM.check_health"),
                *("AsyncLLM.shutdown", "SamplingParams", "StructuredOutputsParams"),
            },
        ),
    ],
)
def test_the_check_sees_every_call(name, called):
    assert {seen for seen, _ in _calls(name, _source(name))} == called


@_BOTH
def test_every_setting_of_an_engines_file_is_one_of_its_package(name):
    assert set(_settings(name)) - set(_published(name)[_OPTIONS_OF[name]].parameters) == set()


@_BOTH
def test_every_setting_that_an_engine_looks_at_is_one_of_its_package(name):
    looked = {
        ast.literal_eval(node.args[0] if isinstance(node, ast.Call) else node.slice)
        for node in ast.walk(ast.parse(_source(name)))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "options.get")
        or (isinstance(node, ast.Subscript) and ast.unparse(node.value) == "options")
    }

    assert looked >= {"model"}
    assert looked - set(_published(name)[_OPTIONS_OF[name]].parameters) == set()


def test_every_setting_of_the_cache_is_one_of_tensorrt_llms():
    settings = _settings("trtllm")["kv_cache_config"]

    assert isinstance(settings, dict)
    assert set(settings) - set(_published("trtllm")["KvCacheConfig"].parameters) == set()


@pytest.mark.parametrize(
    ("name", "written", "instead"),
    [
        ("trtllm", "streaming=True", "stream=True"),
        ("trtllm", "guided_decoding=self", "structured_outputs=self"),
        ("trtllm", "result.abort()", "result.abort('r1')"),
        ("trtllm", "self._llm.shutdown()", "self._llm.close()"),
        ("vllm", "            job.request_id,\n", ""),
        ("vllm", "tokenization_kwargs=", "tokenizer_kwargs="),
        ("vllm", "structured_outputs=_guide", "guided_decoding=_guide"),
        ("vllm", "job.request_id,", "job.request_id, job.user,"),
    ],
)
def test_a_call_that_does_not_fit_is_found(name, written, instead):
    source = _source(name)
    assert source.count(written) == 1

    assert len(_mismatches(name, source.replace(written, instead), _unpacked(name))) >= 1


@pytest.mark.parametrize(("name", "behind"), [("trtllm", "options"), ("vllm", "options"), ("vllm", "sampling_of(job)")])
def test_an_argument_behind_two_stars_that_does_not_fit_is_found(name, behind):
    unpacked = _unpacked(name) | {behind: [frozenset({"max_new_tokens", "model"})]}

    assert len(_mismatches(name, _source(name), unpacked)) == 1


_STANDINS = {
    "trtllm": {
        "tensorrt_llm/__init__.py": ["LLM.__init__", "LLM.generate_async", "LLM.shutdown"],
        "tensorrt_llm/sampling_params.py": ["SamplingParams", "GuidedDecodingParams"],
    },
    "vllm": {
        "vllm/engine/arg_utils.py": ["AsyncEngineArgs"],
        "vllm/sampling_params.py": ["SamplingParams", "StructuredOutputsParams"],
        "vllm/v1/engine/async_llm.py": [
            *("AsyncLLM.from_engine_args", "AsyncLLM.generate", "AsyncLLM.check_health", "AsyncLLM.shutdown")
        ],
    },
}


@pytest.mark.parametrize(
    ("name", "path", "called"),
    [(name, path, called) for name, paths in _STANDINS.items() for path, names in paths.items() for called in names],
)
def test_a_stand_in_takes_no_call_that_its_package_would_not(name, path, called):
    standin = parameters(ast.parse((Path(__file__).parent / "standins" / path).read_text()), called)
    published = _published(name)[called.removesuffix(".__init__")].parameters

    by_place = [one[0] for one in standin if one[1] == "POSITIONAL_OR_KEYWORD"]
    in_order = [one.name for one in published.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert by_place == in_order[: len(by_place)]
    assert {one[0] for one in standin} <= set(published)
    assert {one.name for one in published.values() if one.default is one.empty} <= {one[0] for one in standin}
