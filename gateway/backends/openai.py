"""Models behind OpenAI's Responses API, at OpenAI itself or at any server that speaks it.

The official SDK gives authentication, transport and error classes; the body goes past its object transforms, which
would cost five times the CPU of everything else here (measured with a 200 KB image).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import httpx2
import structlog
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from gateway.backends._openai_answer import broken_off, completion, late
from gateway.backends._openai_errors import failure
from gateway.backends._openai_quota import quotas
from gateway.backends._openai_request import Body
from gateway.backends._openai_stream import StreamedAnswer, is_stream
from gateway.errors import BackendUnavailable, GatewayError, UpstreamAuth

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from gateway.domain import Clock, Completion, Prompt, QuotaListener, SentImage

# Seconds that the backend stays unready after a failure that only the operator can mend, before a call tries again.
_BLOCKED_S = 60.0
# Seconds for which any HTTP answer shows that the provider can be reached, and what a look at it may take.
_REACHED_S = 15.0
_LOOK_S = 3.0
# Seconds that the end of a stream may take after its last event, for the connection to be used again.
_READ_OUT_S = 0.1
# The SDK's transport lets some of aiohttp's own errors through, such as that of a bad status line.
_BROKEN = (APIConnectionError, httpx2.HTTPError, aiohttp.ClientError)
# What of the provider's own words may be logged: a code such as `unsupported_parameter`. A word by itself, or a name
# with figures in it, may be one that it was sent.
_IDENTIFIER = re.compile(r"(?=.{1,64}\Z)[a-z]+(_[a-z]+)+")
_log = structlog.get_logger()


class Options(BaseModel):
    """Settings of a model behind the Responses API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Model as the provider names it.
    model: str = Field(default="gpt-5.5", min_length=1)
    # Where `/responses` is. OPENAI_BASE_URL is not read: where images are sent stands in the settings alone.
    base_url: HttpUrl = HttpUrl("https://api.openai.com/v1")
    # Environment variable that holds the key, or a file that does; the file wins. Read once, at start.
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: Path | None = None
    # Unset: OPENAI_ORG_ID and OPENAI_PROJECT_ID, else what the key belongs to.
    organization: str | None = None
    project: str | None = None
    # Seconds to open a connection.
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    # Connections open at once; each carries one call. Further calls wait for one until their deadline.
    max_connections: int = Field(default=1000, ge=1, le=100_000)
    # Seconds that an idle connection is kept; the SDK's 5 would cost sparse traffic a TLS handshake a call.
    keepalive_expiry_s: float = Field(default=60.0, ge=0, le=3600)

    def api_key(self) -> SecretStr:
        """Reads the key, empty when there is none. Raises OSError when the file that is named cannot be read."""
        if self.api_key_file is not None:
            return SecretStr(self.api_key_file.read_text().strip())
        return SecretStr(os.environ.get(self.api_key_env, "").strip())


class _BrokeOff(Exception):
    """The connection broke after the provider had begun to answer."""


@asynccontextmanager
async def connect(
    options: Options, *, on_quota: QuotaListener = lambda _: None, clock: Clock = time.monotonic
) -> AsyncGenerator[OpenAI]:
    """Opens a pool of connections; without a key the backend opens too, and says that it is not ready."""
    # In a thread, since it reads certificates and the key from disk.
    key, http = await asyncio.to_thread(lambda: (options.api_key(), _http(options)))
    async with http:
        yield OpenAI(http, options, key, on_quota, clock)


def _http(options: Options) -> httpx2.AsyncClient:
    return DefaultAioHttpClient(
        limits=httpx2.Limits(max_connections=options.max_connections, keepalive_expiry=options.keepalive_expiry_s),
        # Only connecting has a time limit of its own: for the rest there is the caller's deadline.
        timeout=httpx2.Timeout(None, connect=options.connect_timeout_s),
        # A redirect would send the image somewhere that the operator did not name.
        follow_redirects=False,
    )


class OpenAI:
    """One model at one provider."""

    def __init__(
        self, http: httpx2.AsyncClient, options: Options, key: SecretStr, on_quota: QuotaListener, clock: Clock
    ) -> None:
        """Calls *options.model* over *http*."""
        self._http = http
        self._options = options
        self._on_quota = on_quota
        self._clock = clock
        self._has_key = bool(key.get_secret_value())
        self._client = AsyncOpenAI(
            api_key=key.get_secret_value() or "none",
            organization=options.organization,
            project=options.project,
            base_url=str(options.base_url),
            timeout=http.timeout,
            max_retries=0,
            http_client=http,
        )
        self._blocked_until = -float("inf")
        self._reached_until = -float("inf")
        self._told_differs = False

    async def complete(self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float) -> Completion:
        """Posts one request, not streamed, so there is no time to first token to tell.

        A call that ran out of time, or whose answer broke off, may have been billed: its error carries an estimate of
        what was read.
        """
        body = Body(prompt, images, model=self._options.model)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._post(body, prompt)
        except TimeoutError as error:
            raise late(prompt, images) from error
        except _BrokeOff as error:
            raise broken_off(prompt, images) from error
        return completion(response.content, prompt, images, model=self._options.model)

    @property
    def streams(self) -> bool:
        """It does; a compatible server that does not is read as a whole."""
        return True

    async def stream(
        self, prompt: Prompt, images: Sequence[SentImage], *, timeout_s: float
    ) -> AsyncGenerator[str | Completion]:
        """Like `complete`, but in pieces; what breaks off after some text is `BrokenOff`."""
        started = self._clock()
        answer = StreamedAnswer(prompt, images, model=self._options.model)
        # Only waits are timed: what the caller does between two pieces is nothing that this could interrupt.
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._post(
                    Body(prompt, images, model=self._options.model, streaming=True), prompt, streaming=True
                )
            async with aclosing(response.aiter_bytes()) as chunks:
                if not is_stream(response.headers.get("content-type", "")):
                    async with asyncio.timeout_at(deadline):
                        content = b"".join([chunk async for chunk in chunks])
                    yield completion(content, prompt, images, model=self._options.model)
                    return
                while not answer.ended:
                    async with asyncio.timeout_at(deadline):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    for text in answer.add(chunk, self._clock() - started):
                        yield text
                await _read_out(chunks)
        except TimeoutError as error:
            raise answer.late() from error
        except (*_BROKEN, _BrokeOff):
            # A connection that breaks is one more way to end too early.
            self._reached_until = -float("inf")
        whole = answer.completion()
        if answer.differs and not self._told_differs:
            self._told_differs = True
            _log.warning("openai_stream_differs", model=self._options.model)
        yield whole

    async def ready(self) -> bool:
        """Tells whether there is a key that works as far as known, and a server that can be reached.

        Costs nothing: a server that has not answered lately is sent a HEAD without the key. A key refused, an
        account without credit, or an unknown model count for a minute, after which a call may try again.
        """
        if not self._has_key or self._clock() < self._blocked_until:
            return False
        if self._clock() < self._reached_until:
            return True
        try:
            async with asyncio.timeout(_LOOK_S):
                response = await self._http.head(str(self._options.base_url))
        except (*_BROKEN, TimeoutError):
            return False
        if response.status_code >= httpx2.codes.BAD_GATEWAY:
            return False
        self._reached_until = self._clock() + _REACHED_S
        return True

    async def _post(self, body: Body, prompt: Prompt, *, streaming: bool = False) -> httpx2.Response:
        """Gives the answer's head, and its body too unless *streaming*."""
        if not self._has_key:
            raise UpstreamAuth("the gateway has no key for the provider")
        headers = {"content-type": "application/json", "content-length": str(body.length), **dict(prompt.trace_headers)}
        if prompt.request_id:
            # The provider keeps it with its own id, so that its support can find the call.
            headers["x-client-request-id"] = prompt.request_id
        try:
            response = await self._client.post(
                "/responses", content=body, cast_to=httpx2.Response, options={"headers": headers}, stream=streaming
            )
        except APIStatusError as error:
            raise self._failed(error) from error
        except _BROKEN as error:
            # Timeouts too: those of the transport are of connecting, and it also calls a dropped connection one.
            self._reached_until = -float("inf")
            if _in_answer(error):
                raise _BrokeOff from error
            raise BackendUnavailable("the provider cannot be reached") from error
        self._reached_until = self._clock() + _REACHED_S
        self._blocked_until = -float("inf")
        self._tell_quotas(response.headers)
        return response

    def _failed(self, error: APIStatusError) -> GatewayError:
        code = next((word for word in (error.code, error.type) if isinstance(word, str)), "")
        failed = failure(error.status_code, code, error.response.headers)
        self._tell_quotas(error.response.headers)
        self._reached_until = self._clock() + _REACHED_S
        if failed.blocks:
            self._blocked_until = self._clock() + _BLOCKED_S
        if failed.hint:
            shown = code if _IDENTIFIER.fullmatch(code) else ""
            _log.warning(
                "openai_failed", model=self._options.model, status=error.status_code, code=shown, hint=failed.hint
            )
        return failed.error

    def _tell_quotas(self, headers: Mapping[str, str]) -> None:
        # Here and not with the answer: a stream has the head long before its end, when others have told newer figures.
        for quota in quotas(headers):
            self._on_quota(quota)


def _in_answer(error: BaseException | None) -> bool:
    """Tells whether aiohttp, at the bottom of *error*, had the head of an answer already."""
    while error is not None and not isinstance(error, aiohttp.ClientPayloadError):
        error = error.__cause__
    return error is not None


async def _read_out(chunks: AsyncGenerator[bytes]) -> None:
    with suppress(TimeoutError, *_BROKEN):
        async with asyncio.timeout(_READ_OUT_S):
            async for _ in chunks:
                pass
