"""`vision-gateway usage` and `vision-gateway reconcile` on ledgers with known rows."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from gateway.cli import app, process
from gateway.ledger import Ledger
from gateway.simulation.trace import Call, read as read_trace
from gateway.usage import Usage

DAY_S = 86_400
FIRST_S = 1_780_012_800  # 2026-05-29 00:00 UTC.


@pytest.fixture
async def ledger(url, row):
    """The URL of a ledger with five attempts: four on a first day, one of them never served, and one on the next."""
    first, second = FIRST_S * 1_000_000, (FIRST_S + DAY_S) * 1_000_000
    async with Ledger.open(url) as opened:
        for each in (
            row(time_us=first),
            row(time_us=second - 1, principal="alice", outcome="failed", reason="REFUSED", provider_model="gpt-5.5"),
            row(time_us=first, usage=Usage(), cost_nano_usd=0, outcome="failed", reason="UPSTREAM_RATE_LIMITED"),
            row(time_us=first, model="own", provider="triton", provider_model="gemma4", cost_nano_usd=7),
            row(time_us=second, rpc="OCR", basis="estimated", cost_nano_usd=2_000_000_000),
        ):
            opened.write(each)
    return url


def run(*arguments):
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, process.CannotStart):
        return 1, list(result.exception.lines)
    return result.exit_code, result.stdout


def lines_of(*arguments):
    code, out = run("usage", "--format", "json", *arguments)
    assert code == 0
    return json.loads(out)


def test_usage_is_told_by_day_principal_rpc_and_model(ledger):
    found = lines_of("--ledger", ledger)

    assert [(each["day"], each["principal"], each["rpc"], each["model"], each["attempts"]) for each in found] == [
        ("2026-05-29", "alice", "Caption", "gpt", 1),
        ("2026-05-29", "anonymous", "Caption", "gpt", 2),
        ("2026-05-29", "anonymous", "Caption", "own", 1),
        ("2026-05-30", "anonymous", "OCR", "gpt", 1),
    ]


def test_usage_adds_up_every_bucket(ledger):
    assert lines_of("--ledger", ledger, "--by", "") == [
        {
            "attempts": 5,
            "failed": 2,
            "served": 4,
            "input_tokens": 600,
            "image_tokens": 400,
            "cached_input_tokens": 120,
            "output_tokens": 60,
            "reasoning_tokens": 20,
            "cost_nano_usd": 2_000_003_007,
            "estimated_nano_usd": 2_000_000_000,
        }
    ]


@pytest.mark.parametrize(
    ("bounds", "attempts"),
    [
        (["--since", "2026-05-30"], [1]),
        (["--until", "2026-05-29"], [4]),
        (["--since", "2026-05-29", "--until", "2026-05-30"], [4, 1]),
        (["--since", "2026-06-01"], []),
    ],
)
def test_usage_is_bounded_by_days_that_count_themselves(ledger, bounds, attempts):
    found = lines_of("--ledger", ledger, "--by", "day", *bounds)

    assert [each["attempts"] for each in found] == attempts


def test_usage_as_csv_has_what_json_has(ledger):
    _, out = run("usage", "--ledger", ledger, "--format", "csv")

    found = [{name: str(value) for name, value in each.items()} for each in lines_of("--ledger", ledger)]
    assert list(csv.DictReader(io.StringIO(out))) == found


def test_usage_as_a_table_tells_dollars(ledger):
    _, out = run("usage", "--ledger", ledger, "--by", "rpc")

    assert [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "OCR" in line] == [
        ["OCR", "1", "0", "150", "100", "30", "15", "$2", "$2"]
    ]


def test_a_ledger_that_is_not_there_is_named(tmp_path):
    assert run("usage", "--ledger", f"sqlite:///{tmp_path}/none.db") == (1, [f"there is no ledger {tmp_path}/none.db"])


def test_a_group_that_there_is_not_is_wrong_use(tmp_path):
    assert run("usage", "--ledger", f"sqlite:///{tmp_path}/none.db", "--by", "colour")[0] == 2


def bucket(day, *results):
    start = FIRST_S + day * DAY_S
    return {"object": "bucket", "start_time": start, "end_time": start + DAY_S, "results": list(results)}


def served(requests=1, read=150, cached=30, written=15, model="gpt-5.5-2026-04-23"):
    return {
        "object": "organization.usage.completions.result",
        "model": model,
        "num_model_requests": requests,
        "input_tokens": read,
        "input_cached_tokens": cached,
        "output_tokens": written,
    }


def billed(dollars, item="gpt-5.5-2026-04-23, input"):
    return {"object": "costs", "amount": {"value": dollars, "currency": "usd"}, "line_item": item}


AGREES = [bucket(0, served(2, 300, 60, 30)), bucket(1, served())]


@pytest.fixture
def reconcile(tmp_path, ledger):
    def compare(export, *options):
        text = export if isinstance(export, str) else json.dumps(export)
        (tmp_path / "export").write_text(text)
        code, out = run("reconcile", str(tmp_path / "export"), "--ledger", ledger, *options)
        return (code, out.splitlines()[1:]) if isinstance(out, str) else (code, out)

    return compare


def page(*buckets):
    return {"object": "page", "data": list(buckets), "has_more": False}


def test_an_export_that_agrees_has_no_differences(reconcile):
    assert reconcile(page(*AGREES)) == (0, [])


def test_a_call_that_the_ledger_misses_is_found(reconcile):
    assert reconcile(page(bucket(0, served(3, 450, 90, 45)), AGREES[1])) == (
        1,
        [
            "2026-05-29  gpt-5.5  requests: ledger 2, provider 3 (-1)",
            "2026-05-29  gpt-5.5  input_tokens: ledger 300, provider 450 (-150)",
            "2026-05-29  gpt-5.5  input_cached_tokens: ledger 60, provider 90 (-30)",
            "2026-05-29  gpt-5.5  output_tokens: ledger 30, provider 45 (-15)",
        ],
    )


def test_a_day_that_the_provider_knows_nothing_of_is_found(reconcile):
    code, found = reconcile(page(AGREES[0], bucket(1)))

    assert (code, found[0]) == (1, "2026-05-30  gpt-5.5  requests: ledger 1, provider 0 (+1)")


def test_a_token_count_that_differs_is_found(reconcile):
    assert reconcile(page(AGREES[0], bucket(1, served(read=151)))) == (
        1,
        ["2026-05-30  gpt-5.5  input_tokens: ledger 150, provider 151 (-1)"],
    )


def test_what_is_within_the_tolerance_is_no_difference(reconcile):
    export = page(AGREES[0], bucket(1, served(read=151)))

    assert (reconcile(export, "--tolerance", "0.01")[0], reconcile(export, "--tolerance", "0.001")[0]) == (0, 1)


@pytest.mark.parametrize(
    ("costs", "found"),
    [
        ([billed(0.000002), billed(0.000001, "gpt-5.5-2026-04-23, output")], []),
        ([billed(0.000002)], ["2026-05-29  gpt-5.5  cost_nano_usd: ledger 3000, provider 2000 (+1000)"]),
        ([billed(0.000003, None)], []),
        ([billed(0.000004, None)], ["2026-05-29  all models  cost_nano_usd: ledger 3000, provider 4000 (-1000)"]),
    ],
)
def test_a_cost_that_differs_is_found(reconcile, costs, found):
    assert reconcile(page(bucket(0, *costs))) == (bool(found), found)


def test_usage_and_costs_may_be_in_one_file(reconcile):
    both = [page(*AGREES), page(bucket(0, billed(0.000003)), bucket(1, billed(2)))]

    assert reconcile(both) == (0, [])


def test_only_the_models_that_are_named_are_compared(reconcile):
    export = page(bucket(0, served(model="other-1"), served(1, 150, 30, 15, "gemma4")))

    assert reconcile(export, "--provider-models", "gemma4") == (0, [])


def test_an_export_may_be_csv(reconcile):
    names = "start_time,end_time,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens"
    lines = [names, f"{FIRST_S},{FIRST_S + DAY_S},gpt-5.5,2,300,60,30", "2026-05-30T00:00:00Z,,gpt-5.5,1,150,30,16"]

    assert reconcile("\n".join(lines)) == (1, ["2026-05-30  gpt-5.5  output_tokens: ledger 15, provider 16 (-1)"])


@pytest.mark.parametrize(
    ("export", "problem"),
    [
        ("no export", "the file has no buckets"),
        ('{"data": 3}', "the file is no usage export of OpenAI's, neither JSON nor CSV"),
        ("a,b\n1,2", "the file is no usage export of OpenAI's, neither JSON nor CSV"),
        (page(bucket(0, served(model=None))), "the usage is not told by model: export it with group_by=model"),
        (
            page(*AGREES) | {"has_more": True},
            "the file is one page of several: put all of them into one JSON array",
        ),
    ],
)
def test_a_file_that_is_no_whole_export_is_refused(reconcile, export, problem):
    assert reconcile(export) == (1, [problem])


async def test_the_calls_of_the_ledger_are_a_trace_to_simulate(url, row, tmp_path):
    at_us = FIRST_S * 1_000_000
    async with Ledger.open(url) as opened:
        for each in (
            row(time_us=at_us, request_id="first", outcome="failed", reason="BACKEND_UNAVAILABLE"),
            row(time_us=at_us + 3_000_000, request_id="first", model="own"),
            row(time_us=at_us + 1_500_000, request_id="second", rpc="OCR"),
            row(time_us=at_us + 1_600_000, request_id="second", rpc="OCR", principal="shadow"),
        ):
            opened.write(each)

    code, out = run("trace", "--ledger", url)

    file = tmp_path / "calls.jsonl"
    file.write_text(out)
    assert (code, read_trace(file)) == (0, [Call(rpc="Caption"), Call(at_s=1.5, rpc="OCR")])
