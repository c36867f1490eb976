"""Alerts: that they can be loaded, fire when they should, and each has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.fixtures.prometheus import program

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted(FOLDER.glob("*.rules.yml"))
TESTS = sorted(FOLDER.glob("*.test.yml"))
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
CASES = [case for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]]


def promtool(*arguments):
    done = subprocess.run(  # noqa: PLW1510  the code is what the test looks at
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=110
    )
    return done.returncode, done.stdout + done.stderr


def test_promtool_takes_configuration_and_rules():
    code, said = promtool("check", "config", FOLDER / "prometheus.yml")

    assert code == 0, said
    assert all(f"Checking {file}\n" in said for file in RULES), said


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_alerts_fire_when_they_should_and_not_when_they_need_not(file):
    code, said = promtool("test", "rules", file)

    assert code == 0, said


def test_of_each_alert_it_is_tested_that_it_fires_and_that_it_does_not():
    tested = {(check["alertname"], bool(check["exp_alerts"])) for case in CASES for check in case["alert_rule_test"]}

    assert tested == {(alert, fires) for alert in ALERTS for fires in (True, False)}


def test_each_alert_has_a_page_and_each_page_an_alert():
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "runbooks").glob("*.md")}

    assert {rule["annotations"]["runbook"] for rule in ALERTS.values()} == pages - {"docs/runbooks/README.md"}
    assert {alert: rule["annotations"]["runbook"] for alert, rule in ALERTS.items()} == {
        alert: f"docs/runbooks/{alert}.md" for alert in ALERTS
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_says_what_it_means_what_callers_see_what_to_look_at_and_what_to_do(alert):
    page = (ROOT / "docs" / "runbooks" / f"{alert}.md").read_text()

    assert page.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == ["What callers see", "Look at", "Do"]
    assert "```" in page


def test_the_queries_on_the_pages_can_be_asked(tmp_path):
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "runbooks").glob("*.md"))
    queries = [line for block in re.findall(r"```promql\n(.*?)```", pages, re.DOTALL) for line in block.splitlines()]
    rules = [{"record": f"query:{index}", "expr": query} for index, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))

    code, said = promtool("check", "rules", tmp_path / "queries.yml")

    assert (code, len(queries) > len(ALERTS)) == (0, True), said


def test_rules_and_pages_name_metrics_that_there_are():
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    files = [*RULES, *(ROOT / "docs" / "runbooks").glob("*.md")]
    named = {
        name for file in files for name in re.findall(r"(?<![:\w])(?:vision_gateway|gen_ai)_\w+", file.read_text())
    }

    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    labels = {"gen_ai_request_model", "gen_ai_token_type"}
    # A beginning that `grep` is given.
    assert {name for name in plain - labels if not any(each.startswith(name) for each in documented)} == set()


def test_the_index_of_pages_names_each_with_its_severity():
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text()

    rows = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", index, re.MULTILINE)
    assert dict(rows) == {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items()}
