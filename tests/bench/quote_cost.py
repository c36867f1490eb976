"""Measures the CPU time of one quote in the gateway: reading the request, the image's header, and pricing two models.

python -m tests.bench.quote_cost
"""

from __future__ import annotations

import io
import time
from statistics import median

from PIL import Image

from gateway import profiles, tasks
from gateway.domain import Ask, Options
from gateway.imaging import Limits, inspect
from gateway.pricing import listed, per_million
from gateway.quoting import Quoter
from gateway.server.parse import parse
from visiongateway.v1 import image_pb2, vision_service_pb2 as pb

ROUNDS, CALLS = 7, 300


def main() -> None:
    known = tasks.load()
    quoters = [
        Quoter("gemma", profiles.load("gemma4"), per_million("0.060", "0.330"), known),
        Quoter("gpt", profiles.load("gpt55"), listed("gpt-5.5", "openai"), known),
    ]
    for size in ((1000, 750), (4000, 3000)):
        measure(size, quoters, known)


def measure(size, quoters, known):
    photograph = io.BytesIO()
    Image.effect_noise(size, 20).convert("RGB").save(photograph, "JPEG", quality=60)
    detect = pb.DetectRequest(image=image_pb2.Image(data=photograph.getvalue()), labels=["person", "car", "dog"])
    raw = pb.QuoteRequest(detect=detect).SerializeToString()
    task = known["Detect"]

    def quote() -> None:
        request = parse(raw, pb.QuoteRequest).detect
        image = inspect(request.image.data, Limits(), field="image", header_only=True)
        ask = Ask(task.query(request), (image,), Options(), 0.0, "id")
        for quoter in quoters:
            quoter.quote(ask)

    quote()
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            quote()
        rounds.append((time.process_time() - started) / CALLS * 1000)
    print(
        f"{len(raw) / 1e6:.2f} MB, {len(quoters)} models: {median(rounds):.3f} ms of CPU a quote (median of {ROUNDS})"
    )


if __name__ == "__main__":
    main()
