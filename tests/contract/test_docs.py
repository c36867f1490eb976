"""The documents name what there is: every setting, reason and metric, and no other."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway import app, errors
from gateway.metrics import Metrics
from gateway.policies.escalate import DISAGREEMENT
from gateway.server.identity import CAUSES
from gateway.settings import (
    AgreementSettings,
    BudgetsSettings,
    CacheSettings,
    HedgeSettings,
    ImageSettings,
    JwtSettings,
    LedgerSettings,
    ModelSettings,
    PrincipalSettings,
    RouteSettings,
    ServerSettings,
    ShadowSettings,
    TlsSettings,
    TracingSettings,
    load,
)
from gateway.tasks import Doubt

DOCS = Path(__file__).parents[2] / "docs"


def named_in(text):
    """Words in backquotes at the start of a table's row."""
    first_cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return {word for cell in first_cells for word in re.findall(r"`([a-z_0-9]+)`", cell)}


def section(text, heading):
    return text.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## `[server]`", ServerSettings),
        ("### `[server.tls]`", TlsSettings),
        ("## `[jwt]`", JwtSettings),
        ("## `[images]`", ImageSettings),
        ("## `[ledger]`", LedgerSettings),
        ("## `[models.NAME]`", ModelSettings),
        ("## `[principals.NAME]`", PrincipalSettings),
        ("## `[budgets]`", BudgetsSettings),
        ("## `[cache]`", CacheSettings),
        ("## `[tracing]` ↻", TracingSettings),
        ("### `[routes.NAME]`", RouteSettings),
        ("### `[routes.NAME.agreement]`", AgreementSettings),
        ("### `[routes.NAME.hedge]`", HedgeSettings),
        ("### `[routes.NAME.shadow]`", ShadowSettings),
    ],
)
def test_every_setting_is_documented_and_no_other(heading, table):
    text = section((DOCS / "settings.md").read_text(), heading)

    assert named_in(text) == set(table.model_fields)


def test_the_example_of_routes_is_fine():
    example = re.search(r"```toml\n(\[routes\]\n.*?)```", (DOCS / "settings.md").read_text(), re.DOTALL)[1]
    kinds = {"gemma-4-26b-a4b": "triton", "gemma-4-next": "triton", "gpt-5.5": "openai"}
    models = {name: {"kind": kind} for name, kind in kinds.items()}

    routes = load(models=models, **tomllib.loads(example)).routes

    assert {route.choose for route in routes.values()} == {"order", "cheapest", "weights", "quality"}


@pytest.mark.parametrize("kind", ["triton", "openai"])
def test_every_option_of_a_backend_is_documented_and_no_other(kind):
    text = section((DOCS / "settings.md").read_text(), f'### `kind = "{kind}"`')

    assert named_in(text) == set(import_module(f"gateway.backends.{kind}").Options.model_fields)


def test_every_option_of_the_scripted_backend_is_named():
    text = section((DOCS / "settings.md").read_text(), '### `kind = "fake"`')

    assert set(re.findall(r"`([a-z_0-9]+)`", text)) - {"profile"} == set(
        import_module("gateway.backends.fake").Options.model_fields
    )


def leaves(cls):
    return {cls} if not cls.__subclasses__() else {leaf for sub in cls.__subclasses__() for leaf in leaves(sub)}


def test_every_reason_is_documented_with_its_code_and_no_other():
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE))

    assert rows == {cls.reason: cls.code.name for cls in leaves(errors.GatewayError)}


def test_every_metric_is_documented_with_its_labels_and_no_other():
    registry = CollectorRegistry()
    Metrics(registry)
    collectors = set(registry._collector_to_names)
    present = {
        f"{each._name}{'_total' if each._type == 'counter' else ''}": set(each._labelnames) for each in collectors
    }
    rows = re.findall(r"^\| `([a-z_]+)` \| ([^|]*) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    four = {"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model"}
    documented = {}
    for name, labels in rows:
        words = set(re.findall(r"[a-z_]+", re.sub("the same four|none", "", labels)))
        documented[name] = words | (four if "the same four" in labels else set())

    assert documented == present


def test_every_cause_of_a_refusal_is_documented_and_no_other():
    text = section((DOCS / "security.md").read_text(), "## What is refused")

    assert named_in(text) == CAUSES


def test_the_example_of_a_secured_door_is_fine():
    example = re.search(r"```toml\n(.*?)```", (DOCS / "security.md").read_text(), re.DOTALL)[1]
    models = {"gemma-4-26b-a4b": {"kind": "triton"}}

    assert app.check(load(models=models, **tomllib.loads(example))) == []


def test_every_doubt_is_documented_and_no_other():
    text = section((DOCS / "routing.md").read_text(), "## Escalation")

    assert set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)) == {
        *Doubt,
        DISAGREEMENT,
        errors.TruncatedAnswer.reason,
    }


def test_the_example_settings_are_fine():
    assert app.check(load(DOCS.parent / "deploy" / "gateway.toml")) == []
