"""What deploy/triton says and starts: its flags, the files it names, and the figures of its tables."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.tritonserver.installation import TritonUnavailable, find, lay_out

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/triton"
LAUNCH = DEPLOY / "launch.sh"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
ENGINES = ("trtllm", "vllm", "transformers", "embedded")
# Newer than the 2.51 that the wheel nvidia-pytriton has.
NOT_IN_2_51 = {"--grpc-max-response-pool-size"}
WEIGHTS_GIB = {"BF16": 48.5, "FP8": 26, "NVFP4": 17}
KIB_PER_MIB = 1024


def command(engine, *more, **environment):
    """The command that `launch.sh` would run, by its own word."""
    printed = subprocess.run(
        [LAUNCH, engine, *more],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "VISION_GATEWAY_TRITON_DRY_RUN": "1", **environment},
    )
    return printed.stdout.splitlines()


def flags(arguments):
    return dict(each.partition("=")[::2] for each in arguments if each.startswith("--"))


def rows(text, head):
    """The cells of the table whose first column is called *head*."""
    _, table = text.split(f"| {head} |", 1)
    return [
        [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", table, re.MULTILINE)
    ][1:]


def test_the_script_is_sound_bash():
    assert subprocess.run(["bash", "-n", LAUNCH], check=False).returncode == 0  # noqa: S607  any bash will do


@pytest.mark.parametrize("engine", ENGINES)
def test_admin_interfaces_need_a_key_that_is_new_at_each_start(engine):
    started = [flags(command(engine)) for _ in range(2)]

    keys = {each["--grpc-restricted-protocol"] for each in started}
    assert all(
        re.fullmatch(r"model-repository,shared-memory,trace,logging:admin=[0-9a-f]{32}", each["--http-restricted-api"])
        for each in started
    )
    assert (len(keys), keys) == (2, {each["--http-restricted-api"] for each in started})


def test_an_admin_key_that_is_given_is_taken():
    given = flags(command("vllm", TRITON_ADMIN_KEY="opens"))

    assert given["--grpc-restricted-protocol"] == "model-repository,shared-memory,trace,logging:admin=opens"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gateway_may_ping_and_nothing_is_guessed_or_loaded_besides(engine):
    given = flags(command(engine))

    assert given["--grpc-http2-min-recv-ping-interval-without-data"] == "5000"
    assert given["--grpc-keepalive-permit-without-calls"] == "1"
    assert given["--model-control-mode"] == "explicit"
    assert "--disable-auto-complete-config" in given


@pytest.mark.parametrize(
    ("engine", "program", "model", "config"),
    [
        ("trtllm", ["trtllm-llmapi-launch", "tritonserver"], "gemma4", "trtllm"),
        ("vllm", ["tritonserver"], "gemma4", "vllm"),
        ("transformers", ["tritonserver"], "gemma4", None),
        ("embedded", ["tritonserver"], "embedded", None),
    ],
)
def test_each_engine_has_its_program_model_and_configuration(engine, program, model, config):
    arguments = command(engine)

    given = flags(arguments)
    assert arguments[: len(program) + 1] == [*program, "--model-repository=/models"]
    assert (given["--load-model"], given.get("--model-config-name")) == (model, config)


@pytest.mark.parametrize("engine", ["trtllm", "vllm", "transformers"])
def test_what_streams_hold_back_is_bounded(engine):
    assert flags(command(engine))["--grpc-max-response-pool-size"] == "64"


def test_further_flags_come_last_and_so_win():
    assert command("vllm", "--log-verbose=1")[-1] == "--log-verbose=1"


def test_an_engine_that_there_is_not_is_refused_with_those_there_are():
    refused = subprocess.run([LAUNCH, "onnx"], check=False, capture_output=True, text=True)

    assert (refused.returncode, "trtllm|vllm|transformers|embedded" in refused.stderr) == (2, True)


def test_a_configuration_that_is_missing_is_told_before_triton_takes_another(tmp_path):
    refused = subprocess.run(
        [LAUNCH, "vllm"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MODEL_REPOSITORY": str(tmp_path)},
    )

    assert (refused.returncode, refused.stderr) == (1, f"there is no gemma4/configs/vllm.pbtxt in {tmp_path}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_it_does_not_run_as_root():
    environment = {**os.environ, "MODEL_REPOSITORY": str(ROOT / "triton_repo")}
    refused = subprocess.run([LAUNCH, "embedded"], check=False, capture_output=True, text=True, env=environment)

    assert (refused.returncode, refused.stderr.startswith("refusing to run as root")) == (1, True)


@pytest.fixture
async def launched(tmp_path, unused_tcp_port_factory):
    """A real Triton that runs by the script's command for the embedded model, and a stub for it."""
    try:
        layout = lay_out(find(), tmp_path, ROOT / "triton_repo", ("embedded",))
    except TritonUnavailable as error:
        pytest.skip(str(error))
    grpc_port, http_port, metrics_port = (unused_tcp_port_factory() for _ in range(3))
    ours = [f"--{name}-address=127.0.0.1" for name in ("grpc", "http", "metrics")]
    ours += [f"--grpc-port={grpc_port}", f"--http-port={http_port}", f"--metrics-port={metrics_port}"]
    ours += [f"--backend-directory={layout.backends}", "--allow-gpu-metrics=false"]
    _, *arguments = command("embedded", *ours, MODEL_REPOSITORY=str(layout.repository), TRITON_ADMIN_KEY="opens")
    process = await asyncio.create_subprocess_exec(
        layout.server, *arguments, env=layout.environment, stderr=asyncio.subprocess.DEVNULL
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", [("grpc.enable_http_proxy", 0)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
    process.terminate()
    await process.wait()


async def test_a_real_triton_starts_by_it_and_keeps_its_models_to_who_has_the_key(launched):
    request = service_pb2.ModelReadyRequest(name="embedded")
    ready = await launched.ModelReady(request, wait_for_ready=True, timeout=60)
    index = service_pb2.RepositoryIndexRequest()
    opened = await launched.RepositoryIndex(index, metadata=(("triton-grpc-protocol-admin", "opens"),), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await launched.RepositoryIndex(index, timeout=10)

    assert (ready.ready, [model.name for model in opened.models]) == (True, ["embedded"])
    assert "restricted" in refused.value.details()


def test_the_real_tritonserver_knows_every_flag():
    try:
        found = find()
    except TritonUnavailable as error:
        pytest.skip(str(error))
    libraries = f"{found.libraries}:{found.libpython.parent}"
    # It ends with 1 after its help, which goes to standard error.
    shown = subprocess.run(
        [found.server, "--help"], check=False, capture_output=True, text=True, env={"LD_LIBRARY_PATH": libraries}
    )
    known = set(re.findall(r"--[a-z0-9-]+", shown.stdout + shown.stderr))

    used = {flag for engine in ENGINES for flag in flags(command(engine))}
    assert used - known == NOT_IN_2_51


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.suffix)
def test_a_dockerfile_copies_what_there_is_and_ends_as_a_user_without_rights(dockerfile):
    text = dockerfile.read_text()

    sources = [source for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for source in line.split()]
    missing = [source for source in sources if not (ROOT / source).exists()]
    assert (missing, re.findall(r"^USER (.*)$", text, re.MULTILINE)) == ([], ["1000:1000"])


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.suffix)
def test_a_dockerfile_starts_its_engine_from_a_base_that_can_be_pinned(dockerfile):
    text = dockerfile.read_text()

    (engine,) = re.findall(r'^CMD \["(\w+)"\]$', text, re.MULTILINE)
    assert engine == {".cpu": "embedded"}.get(dockerfile.suffix, dockerfile.suffix[1:])
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE_IMAGE}"]


def test_no_base_is_claimed_for_tensorrt_llm():
    assert re.findall(r"^ARG (.*)$", (DEPLOY / "Dockerfile.trtllm").read_text(), re.MULTILINE) == ["BASE_IMAGE"]


def kv_mib(tokens):
    """KV cache of a call in 16 bits, by the rule that the README states."""
    local, everywhere = 25 * 2 * 8 * 256 * 2 / 1024, 5 * 2 * 2 * 512 * 2 / 1024
    return (min(tokens, 1024) * local + tokens * everywhere) / KIB_PER_MIB


def test_the_table_of_calls_follows_from_the_rule():
    table = rows((DEPLOY / "README.md").read_text(), "tokens of a call, answer included")[:4]

    tokens = [int(row[0].split()[0].replace(",", "")) for row in table]
    stated = [[int(cell.split()[0].replace(",", "")) for cell in row[1:]] for row in table]
    assert stated == [[round(kv_mib(each)), int(kv_mib(each) / 2 + 0.5)] for each in tokens]


def test_the_table_of_cards_follows_from_the_rule():
    text = (DEPLOY / "README.md").read_text()
    table = re.findall(r"^\| (\d+) \| (\w+) \| ([\d.]+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)

    expected = []
    for card, weights, *_ in table:
        kv_gib = 0.9 * int(card) - WEIGHTS_GIB[weights] - 3
        calls = [int(kv_gib * 1024 / kv_mib(tokens)) for tokens in (600, 1500)]
        expected.append((card, weights, f"{kv_gib:.1f}", *map(str, calls)))
    assert table == expected
    assert len(table) > 5
