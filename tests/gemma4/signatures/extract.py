"""Writes down the parameters of what the GPU engines call: `extract.py SOURCE RELEASE FILE.json`.

SOURCE is a wheel or a folder of the package's published source, which is parsed and never imported; RELEASE is its
version or commits, for people; FILE is `tensorrt_llm.json` or `vllm.json`.

A field of a dataclass, of a msgspec struct or of a pydantic model is a parameter. TensorRT-LLM's `LLM` takes most of
its arguments as `**kwargs`; their names are in NVIDIA's own references of its API, beside its tests.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Parameter = list[Any]  # Name, name of its kind in `inspect`, whether it has a default.

_STABILITY = "tests/unittest/api_stability"
_CALLED = {
    "tensorrt_llm": {
        "tensorrt_llm/llmapi/llm.py": ["LLM.__init__", "LLM.generate_async", "LLM.shutdown"],
        "tensorrt_llm/sampling_params.py": ["SamplingParams", "GuidedDecodingParams"],
        "tensorrt_llm/executor/result.py": ["GenerationResult.abort"],  # Which `RequestOutput` is.
        "tensorrt_llm/llmapi/llm_args.py": ["KvCacheConfig"],
        f"{_STABILITY}/references_committed/llm.yaml": ["LLM"],
        f"{_STABILITY}/references/llm.yaml": ["LLM"],
    },
    "vllm": {
        "vllm/engine/arg_utils.py": ["AsyncEngineArgs"],
        "vllm/sampling_params.py": ["SamplingParams", "StructuredOutputsParams"],
        "vllm/v1/engine/async_llm.py": [
            "AsyncLLM.from_engine_args",
            "AsyncLLM.generate",
            "AsyncLLM.check_health",
            "AsyncLLM.shutdown",
        ],
    },
}


def main(source: Path, release: str, out: Path) -> None:
    read = _reader(source)
    callables: dict[str, list[Parameter]] = {}
    for path, names in _CALLED[out.stem].items():
        text = read(path)
        for name in names:
            key, named = name.removesuffix(".__init__"), path.endswith(".yaml")
            # Where a reference names them, `**kwargs` stands for no others.
            before = [one for one in callables.get(key, []) if not (named and one[1] == "VAR_KEYWORD")]
            found = _reference(text) if named else parameters(ast.parse(text), name)
            callables[key] = before + [one for one in found if one[0] not in {known[0] for known in before}]
    lines = [f"    {json.dumps(name)}: {json.dumps(found)}" for name, found in callables.items()]
    body = ",\n".join(lines)
    out.write_text(f'{{\n  "release": {json.dumps(release)},\n  "callables": {{\n{body}\n  }}\n}}\n')


def _reader(source: Path) -> Callable[[str], str]:
    if source.is_dir():
        return lambda path: (source / path).read_text()
    wheel = zipfile.ZipFile(source)
    return lambda path: wheel.read(path).decode()


def parameters(tree: ast.Module, name: str) -> list[Parameter]:
    """Gives the parameters of the class or of the method *name* without `self`."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    owner, _, method = name.partition(".")
    if not method:
        return list(_fields(classes, classes[owner]))
    for node in classes[owner].body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == method:
            return list(_arguments(node.args))
    parent = next(base for base in map(ast.unparse, classes[owner].bases) if base in classes)
    return parameters(tree, f"{parent}.{method}")


def _arguments(arguments: ast.arguments) -> Iterator[Parameter]:
    assert not arguments.posonlyargs
    required = len(arguments.args) - len(arguments.defaults)
    for at, argument in enumerate(arguments.args[1:], start=1):  # The first is `self` or `cls`.
        yield [argument.arg, "POSITIONAL_OR_KEYWORD", at >= required]
    if arguments.vararg:
        yield [arguments.vararg.arg, "VAR_POSITIONAL", False]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield [argument.arg, "KEYWORD_ONLY", default is not None]
    if arguments.kwarg:
        yield [arguments.kwarg.arg, "VAR_KEYWORD", False]


def _fields(classes: dict[str, ast.ClassDef], owner: ast.ClassDef) -> Iterator[Parameter]:
    bases = [ast.unparse(base) for base in owner.bases]
    for base in bases:
        if base in classes:
            yield from _fields(classes, classes[base])
    model = any("BaseModel" in base for base in bases)
    by_name = model or any("kw_only=True" in ast.unparse(decorator) for decorator in owner.decorator_list)
    for node in owner.body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
            continue
        field, value = ast.unparse(node.target), ast.unparse(node.value) if node.value else ""
        if "init=False" in value or (model and field.startswith("_")):
            continue
        yield [field, "KEYWORD_ONLY" if by_name else "POSITIONAL_OR_KEYWORD", bool(value)]


def _reference(text: str) -> list[Parameter]:
    # A reference lists names, without an order; `kwargs` stands for those of the other reference.
    listed = text.partition("  __init__:\n    parameters:\n")[2].partition("    return_annotation:")[0]
    blocks = re.findall(r"^ {6}(\w+):\n((?: {8}.*\n| *\n)*)", listed, re.MULTILINE)
    return [
        [name, "KEYWORD_ONLY", "default: inspect._empty" not in block] for name, block in blocks if name != "kwargs"
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
