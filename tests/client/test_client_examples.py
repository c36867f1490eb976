"""The examples in the docstrings of both clients do what they show."""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from visiongateway import AsyncVisionClient, VisionClient
from visiongateway.v1 import call_pb2, vision_service_pb2 as pb

INFO = call_pb2.CallInfo(model="gemma")


def examples(kind):
    """The examples of each method of *kind*, by its name."""
    parser = doctest.DocTestParser()
    texts = {name: method.__doc__ or "" for name, method in vars(kind).items() if callable(method)}
    found = {name: parser.get_examples(textwrap.dedent(text)) for name, text in texts.items()}
    return {name: each for name, each in found.items() if each}


@pytest.fixture
def address(scripted_gateway, tmp_path, monkeypatch):
    """A gateway that says what the examples show, and the photograph that they are about."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8image")
    words = ["A cat ", "sleeps on ", "a red sofa."]
    answer = pb.StreamCaptionResponse(answer=pb.CaptionResponse(text="".join(words), info=INFO))
    scripted_gateway.script("StreamCaption", [*(pb.StreamCaptionResponse(delta=each) for each in words), answer])
    answers = pb.TaskAnswer(caption=pb.CaptionResponse()), pb.TaskAnswer(detect=pb.DetectResponse())
    scripted_gateway.script("Annotate", pb.AnnotateResponse(results=[pb.AnnotateResult(answer=a) for a in answers]))
    refused = status_pb2.Status(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="No.")
    refused.details.add().Pack(error_details_pb2.ErrorInfo(reason="REFUSED", domain="visiongateway"))
    rows = [
        pb.CompareResponse(model="gemma", answer=pb.TaskAnswer(vqa=pb.VQAResponse(answer="One."))),
        pb.CompareResponse(model="gpt-5.5", status=refused),
        pb.CompareResponse(agreement=pb.Agreement()),
    ]
    scripted_gateway.script("Compare", rows)
    return scripted_gateway.address


async def outputs(code, names, capsys):
    """Gives what each of *code* prints, or the value of the last expression as the prompt shows it."""
    printed = []
    for each in code:
        tree = ast.parse(each.source)
        mode = "eval" if isinstance(tree.body[0], ast.Expr) else "exec"
        source = ast.Expression(tree.body[0].value) if mode == "eval" else tree
        compiled = compile(source, "docstring", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(compiled, names)  # noqa: S307  what our own docstrings say
        if mode == "exec" and value is not None:
            await value
        shown = capsys.readouterr().out
        printed.append(shown.rstrip("\n") if mode == "exec" else repr(value))
    return printed


@pytest.mark.parametrize("name", sorted(examples(VisionClient)))
async def test_the_examples_of_the_client_are_true(address, capsys, name):
    code = examples(VisionClient)[name]
    with VisionClient(address) as client:
        assert await outputs(code, {"client": client}, capsys) == [each.want.rstrip("\n") for each in code]


@pytest.mark.parametrize("name", sorted(examples(AsyncVisionClient)))
async def test_the_examples_of_the_asyncio_client_are_true(address, capsys, name):
    code = examples(AsyncVisionClient)[name]
    async with AsyncVisionClient(address) as client:
        assert await outputs(code, {"client": client}, capsys) == [each.want.rstrip("\n") for each in code]


async def test_the_example_of_the_clients_page_is_true(scripted_gateway, tmp_path, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "clients" / "README.md"
    (source,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8image")
    info = call_pb2.CallInfo(cost_nano_usd=42)
    answer = pb.StreamVQAResponse(answer=pb.VQAResponse(info=info))
    scripted_gateway.script("StreamVQA", [pb.StreamVQAResponse(delta="It sleeps."), answer])
    source = source.replace("gateway:50051", scripted_gateway.address)

    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {"AsyncVisionClient": AsyncVisionClient})  # noqa: S307  what our own page says

    assert capsys.readouterr().out == "It sleeps.42\n"


def test_there_are_examples_of_what_comes_in_pieces():
    assert (
        {"stream_caption", "annotate", "compare"} == examples(VisionClient).keys() == examples(AsyncVisionClient).keys()
    )
