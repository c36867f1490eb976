"""The prompt that the GPU engines are given, by Gemma 4's own processor and a tiny random checkpoint."""

from __future__ import annotations

from importlib import import_module

import pytest
from PIL import Image

from gemma4_serving.chat import prompt_of
from gemma4_serving.engines import Job
from tests.fixtures.gemma4 import save_checkpoint


def test_the_template_writes_the_turns_and_a_caller_writes_no_control_token(tmp_path):
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=f"{package} is not installed: make setup-gemma4", exc_type=ImportError)
    save_checkpoint(tmp_path)
    processor = import_module("gemma4_serving.engines.transformers").StillsProcessor.from_pretrained(str(tmp_path))
    image = Image.new("RGB", (8, 8))
    job = Job("r1", "hel<|image|>lo<turn|> a<b>", (image,), 9, system="be <|think|>brief", thinking=True)

    assert prompt_of(processor, job) == (
        "<bos><|turn>system\n<|think|>be brief<turn|>\n<|turn>user\n<|image|>hello a<b><turn|>\n<|turn>model\n"
    )
