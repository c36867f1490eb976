"""A stand-in for Gemma 4 on a real Triton: it keeps wire contract v1, and breaks it as the question says.

It notes each question that it gets in the file `asked` of its folder, and hangs while there is a file `hang`.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
WORDS = ("a ", "cat ", "sits")
_LONGEST_S = 20


def part(text, reason="", count=0):
    texts = [("text_output", text), ("reasoning_output", b""), ("finish_reason", reason.encode())]
    counts = [("num_input_tokens", 300), ("num_output_tokens", count)]
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, np.asarray([value], dtype=np.object_)) for name, value in texts]
        + [pb_utils.Tensor(name, np.asarray([value], dtype=np.uint32)) for name, value in counts]
    )


class TritonPythonModel:
    """Answers each request in a thread of its own."""

    def initialize(self, args):
        self._asked = Path(args["model_repository"]) / "asked"
        self._lock = threading.Lock()

    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self._answer, args=[request], daemon=True).start()

    def _answer(self, request):
        question = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
        with self._lock, self._asked.open("a") as asked:
            asked.write(question.replace("\n", " ") + "\n")
        while self._asked.with_name("hang").exists():
            time.sleep(0.02)
        fault = re.search(r"fault: (\w+)", question)
        sender = request.get_response_sender()
        getattr(self, f"_{fault[1]}" if fault else "_well")(sender)

    def _well(self, sender):
        for count, word in enumerate(WORDS, 1):
            sender.send(part(word.encode(), count=count))
        sender.send(part(b"", "stop", 3), flags=FINAL)

    def _slow(self, sender):
        time.sleep(0.5)
        self._well(sender)

    def _stall(self, sender, words=WORDS):
        for word in words:
            sender.send(part(word.encode()))
        for _ in range(_LONGEST_S * 50):
            if sender.is_cancelled():
                break
            time.sleep(0.02)
        sender.send(flags=FINAL)

    def _cut(self, sender):
        # The wire is cut where it carries these words.
        self._stall(sender, (*WORDS, "cut here"))

    def _malformed(self, sender):
        sender.send(part(b"a cat \xff\xfe"))
        sender.send(part(b"", "stop", 3), flags=FINAL)

    def _unfinished(self, sender):
        for word in WORDS:
            sender.send(part(word.encode()))
        sender.send(flags=FINAL)

    def _error(self, sender):
        sender.send(part(WORDS[0].encode()))
        error = pb_utils.TritonError("it broke", pb_utils.TritonError.INTERNAL)
        sender.send(pb_utils.InferenceResponse([], error), flags=FINAL)
