"""Gemma 4 by Hugging Face's own classes, one job at a time (`max_batch: 1`): the reference, for trials and for tests.

Options: `model`, the folder of a checkpoint; `dtype` (`auto`, `float32`, `bfloat16`); `device` (`auto`, `cpu`, `cuda`).
Needs torch, transformers and Pillow; neither torchvision nor the network.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"  # Read when transformers is imported: a checkpoint is a folder, never a download.

import torch
from tokenizers.decoders import DecodeStream
from transformers import Gemma4ForConditionalGeneration, Gemma4Processor, ProcessorMixin
from transformers.generation import BaseStreamer, StoppingCriteria

from gemma4_serving.borders import cut_marker
from gemma4_serving.engines import InvalidJobError, Job, Piece

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence


async def open_engine(options: Mapping[str, Any]) -> TransformersEngine:
    """Loads the checkpoint; raises OSError where it is not one, and TypeError for an option that is unknown."""
    return await asyncio.to_thread(partial(_load, **options))


def _load(model: str, dtype: str = "auto", device: str = "auto") -> TransformersEngine:
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    network = Gemma4ForConditionalGeneration.from_pretrained(model, dtype=dtype)
    return TransformersEngine(network.eval().to(where), StillsProcessor.from_pretrained(model))


class StillsProcessor(Gemma4Processor):  # type: ignore[misc] # transformers is untyped here
    """Gemma 4's own processor for text and images alone; the rest of it needs torchvision and audio's parts."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None, **_: Any) -> None:
        ProcessorMixin.__init__(self, image_processor=image_processor, tokenizer=tokenizer, chat_template=chat_template)
        self.image_token, self.image_token_id = tokenizer.image_token, tokenizer.image_token_id
        self.boi_token, self.eoi_token = tokenizer.boi_token, tokenizer.eoi_token
        self.video_token = self.video_token_id = None
        # The parent asks for them before it looks whether there is audio.
        self.boa_token = self.eoa_token = ""
        self.audio_token = self.audio_token_id = None


class TransformersEngine:
    """One network, and the one thread that works with it."""

    name = "transformers"

    def __init__(self, network: Any, processor: StillsProcessor) -> None:
        """*network* is a `Gemma4ForConditionalGeneration`, on its device."""
        self._network = network
        self._processor = processor
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gemma4")

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Waits for its turn, and then yields a piece for each token or few; seeds hold across restarts."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
            stop = threading.Event()

            def tell(piece: Piece) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

            work = loop.run_in_executor(self._thread, self._generate, job, stop, tell)
            work.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                await work
            finally:
                stop.set()
                # The next job's turn comes when the thread is free, within a token.
                await asyncio.wait([work])
                if not work.cancelled():
                    work.exception()

    def effective_budget(self, asked: int | None) -> int:
        """Gives *asked*, or what the checkpoint's processor is set to."""
        return asked or int(self._processor.image_processor.max_soft_tokens)

    async def is_ready(self) -> bool:
        """Tells that the network is there: work in this process leaves no other way to fail."""
        return self._network is not None

    async def close(self) -> None:
        """Ends the thread and lets the network go."""
        await asyncio.to_thread(self._thread.shutdown)
        self._network = None

    def _generate(self, job: Job, stop: threading.Event, tell: Callable[[Piece], None]) -> None:
        if stop.is_set():
            return
        inputs = self._inputs(job).to(self._network.device)
        read = int(inputs["input_ids"].shape[1])
        longest = self._network.config.get_text_config().max_position_embeddings
        if read + job.max_tokens > longest:
            raise InvalidJobError(f"{read} tokens and {job.max_tokens} for the answer are more than {longest}")
        ends = self._network.generation_config.eos_token_id
        writer = _Writer(self._processor.tokenizer, read, job, _ends(ends), tell)
        if job.seed is not None:
            torch.manual_seed(job.seed % (1 << 63))
        with torch.inference_mode():
            self._network.generate(
                **inputs,
                **_sampling(job),
                max_new_tokens=job.max_tokens,
                streamer=writer,
                stopping_criteria=[_Stopped(stop, writer)],
            )
        if not stop.is_set():
            writer.finish()

    def _inputs(self, job: Job) -> Any:
        user: list[dict[str, Any]] = [{"type": "image", "image": image} for image in job.images]
        user.append({"type": "text", "text": job.user})
        messages = [{"role": "user", "content": user}]
        if job.system:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": job.system}]})
        return self._processor.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            enable_thinking=job.thinking,
            # What a caller writes stays text, be it `<|image|>` or `<turn|>`.
            sanitize_control_tokens=True,
            processor_kwargs={"max_soft_tokens": job.image_token_budget} if job.image_token_budget else {},
        )


class _Writer(BaseStreamer):  # type: ignore[misc] # transformers is untyped here
    """Makes text of tokens, up to the first stop string, and tells it."""

    def __init__(self, tokenizer: Any, read: int, job: Job, ends: Sequence[int], tell: Callable[[Piece], None]) -> None:
        self.stopped = False
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=False)
        self._read = read
        self._job = job
        self._ends = ends
        self._tell = tell
        self._count = 0
        self._last = -1
        self._pending = ""
        self._in_prompt = True

    def put(self, value: Any) -> None:
        """Takes the prompt, and then one token after the other."""
        if self._in_prompt:
            self._in_prompt = False
            return
        if self.stopped:  # transformers comes to know of it a token late.
            return
        for token in value.reshape(-1).tolist():
            self._count += 1
            self._last = token
            self._pending += self._decoder.step(self._tokenizer, token) or ""
        if found := [at for stop in self._job.stop if (at := self._pending.find(stop)) >= 0]:
            self._pending = self._pending[: min(found)]
            self.stopped = True
        elif settled := len(self._pending) - cut_marker(self._pending, self._job.stop):
            self._tell(Piece(self._pending[:settled], self._read, self._count))
            self._pending = self._pending[settled:]

    def end(self) -> None:
        """Leaves the last piece to `finish`, since an aborted job has none."""

    def finish(self) -> None:
        """Tells the last piece."""
        whole = self.stopped or self._last in self._ends
        self._tell(Piece(self._pending, self._read, self._count, "stop" if whole else "length"))


class _Stopped(StoppingCriteria):  # type: ignore[misc] # transformers is untyped here
    """Ends a job that was aborted or that has come to a stop string."""

    def __init__(self, stop: threading.Event, writer: _Writer) -> None:
        self._stop = stop
        self._writer = writer

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Gives one flag for each row of *input_ids*."""
        ended = self._stop.is_set() or self._writer.stopped
        return torch.full((input_ids.shape[0],), ended, dtype=torch.bool, device=input_ids.device)


def _sampling(job: Job) -> dict[str, Any]:
    if job.temperature == 0 or job.top_k == 1:
        return {"do_sample": False}
    asked = {"temperature": job.temperature, "top_p": job.top_p, "top_k": job.top_k}
    given = {name: value for name, value in asked.items() if value is not None}
    return {"do_sample": True, **given} if given else {}


def _ends(ids: int | Iterable[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else tuple(ids)
