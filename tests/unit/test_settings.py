from __future__ import annotations

import pytest

from gateway.settings import BreakerSettings, RouteSettings, SettingsError, load

TWO_MODELS = """
[models.small]
kind = "triton"
address = "127.0.0.1:8001"

[models.large]
kind = "openai"
price = { input = "5", output = "30" }
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def test_the_default_route_is_the_order_of_the_file(written):
    assert load(written(TWO_MODELS)).all_routes == {"default": RouteSettings(models=("small", "large"))}


def test_what_the_gateway_does_not_know_of_a_model_is_left_to_its_backend(written):
    assert load(written(TWO_MODELS)).models["small"].options == {"address": "127.0.0.1:8001"}


def test_the_environment_overrides_the_file_setting_by_setting(written, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_SERVER__MAX_INFLIGHT", "7")

    server = load(written(TWO_MODELS + "[server]\nmax_inflight = 9\ngrace_s = 3\n")).server

    assert (server.max_inflight, server.grace_s) == (7, 3.0)


def test_what_the_program_gives_overrides_both(written, monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_SERVER__GRPC_ADDRESS", "0.0.0.0:1")

    assert load(written(TWO_MODELS), server={"grpc_address": "127.0.0.1:0"}).server.grpc_address == "127.0.0.1:0"


def test_every_problem_is_named_at_once(written):
    with pytest.raises(SettingsError) as caught:
        load(written("[server]\nspeed = 1\nmax_inflight = 0\n[models.x]\nprice = 3\n"))

    assert {problem.split(":")[0] for problem in caught.value.problems} >= {
        "server.speed",
        "server.max_inflight",
        "models.x.kind",
    }
    assert "server.speed: there is no such setting" in caught.value.problems


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[server]\nmax_inflght = 1", "server.max_inflght: there is no such setting; did you mean max_inflight?"),
        ("[server.tls]\ncet = 'x'", "server.tls.cet: there is no such setting; did you mean cert?"),
        ("[image]\nmax_mib = 1", "image: there is no such setting; did you mean images?"),
        (
            "[routes.ocr]\nmodels = ['small']\ntolerence = 0.1",
            "routes.ocr.tolerence: there is no such setting; did you mean tolerance?",
        ),
        (
            "[models.x]\nkind = 'fake'\nbreaker = { failure = 2 }",
            "models.x.breaker.failure: there is no such setting; did you mean failures?",
        ),
    ],
)
def test_a_misspelt_setting_is_told_with_the_name_it_is_most_like(written, table, problem):
    with pytest.raises(SettingsError) as caught:
        load(written(f"{TWO_MODELS}\n{table}\n"))

    assert problem in caught.value.problems


def test_a_route_to_nowhere_is_told_along_with_what_is_wrong_elsewhere(written):
    with pytest.raises(SettingsError) as caught:
        load(written(f"{TWO_MODELS}[server]\nspeed = 1\n[routes]\nocr = ['smal']\n"))

    assert caught.value.problems == [
        "server.speed: there is no such setting",
        "routes.ocr names 'smal', which is not among the models: small, large",
    ]


@pytest.mark.parametrize(
    ("price", "problems"),
    [
        (
            '{ inptu = "5", output = "30" }',
            [
                "models.x.price.input: Field required",
                "models.x.price.inptu: there is no such setting; did you mean input?",
            ],
        ),
        (
            '{ gpu_hour = "2.50", input_tokens_per_s = 9000, output_token_per_s = 1221 }',
            [
                "models.x.price.output_tokens_per_s: Field required",
                "models.x.price.output_token_per_s: there is no such setting; did you mean output_tokens_per_s?",
            ],
        ),
        (
            "3",
            ['models.x.price: must be "free", or a table with input and output, or with gpu_hour and tokens a second'],
        ),
    ],
)
def test_a_wrong_price_is_told_as_what_it_was_meant_to_be(written, price, problems):
    with pytest.raises(SettingsError) as caught:
        load(written(f"[models.x]\nkind = 'fake'\nprice = {price}\n"))

    assert caught.value.problems == problems


def test_everything_wrong_with_a_route_is_told_at_once(written):
    with pytest.raises(SettingsError) as caught:
        load(
            written(
                f"{TWO_MODELS}[routes.x]\nmodels = ['small', 'small']\nchoose = 'weights'\nweights = {{ big = 0 }}\n"
            )
        )

    assert caught.value.problems == [
        "routes.x: models: small is there twice",
        "routes.x: weights: big is not among the route's models",
        "routes.x: weights: one at least is above 0",
    ]


def test_routes_and_principals_that_do_not_fit_are_told_at_once(written):
    with pytest.raises(SettingsError) as caught:
        load(written(f"{TWO_MODELS}[routes]\nocr = ['smal']\n[principals.me]\nmodels = ['big']\n"))

    assert caught.value.problems == [
        "routes.ocr names 'smal', which is not among the models: small, large",
        "principals.me.models names 'big', which is not there",
    ]


def test_a_route_must_name_configured_models(written):
    with pytest.raises(SettingsError, match="names 'huge', which is not among the models: small, large"):
        load(written(TWO_MODELS + '[routes]\ndefault = ["huge"]\n'))


def test_a_route_that_names_a_model_twice_is_told_which(written):
    with pytest.raises(SettingsError, match=r"routes\.default: models: small is there twice"):
        load(written(TWO_MODELS + '[routes]\ndefault = ["small", "large", "small"]\n'))


def test_a_route_must_name_a_model_at_all(written):
    with pytest.raises(SettingsError, match=r"routes\.default names no model"):
        load(written(TWO_MODELS + "[routes]\ndefault = []\n"))


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ('models = ["small"]\nhedge = {}', "hedge: there is no next model"),
        ('models = ["small", "large"]\nhedge = {}\nescalate = true', "hedge: the next model is asked for one reason"),
        ('models = ["small"]\nescalate = true', "escalate: there is no next model"),
        ('models = ["small", "large"]\nagreement = {share = 0.1}', "agreement: is of no use without escalate"),
        ('models = ["small"]\nshadow = {model = "small", share = 0.1}', "shadow.model: is not the route's only model"),
        ('models = ["small"]\nshadow = {model = "huge", share = 0.1}', "names 'huge'"),
    ],
)
def test_a_route_whose_second_model_has_no_part_is_refused(written, route, problem):
    with pytest.raises(SettingsError) as caught:
        load(written(TWO_MODELS + f"[routes.default]\n{route}\n"))

    assert [line for line in caught.value.problems if line.startswith("routes.default") and problem in line]


def test_nobody_has_a_key_to_call_as_shadow_calls_do(written):
    with pytest.raises(SettingsError, match=r"principals\.shadow\.key_sha256"):
        load(written(TWO_MODELS + f'[principals.shadow]\nkey_sha256 = ["{"0" * 64}"]\n'))


def test_no_model_at_all_is_an_error(written):
    with pytest.raises(SettingsError, match="no model is configured"):
        load(written(""))


def test_a_file_that_is_not_there_and_one_that_is_not_toml_are_named(written, tmp_path):
    with pytest.raises(SettingsError, match="there is no settings file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(written("[["))
    (tmp_path / "gateway.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not TOML: it is not UTF-8"):
        load(tmp_path / "gateway.toml")


def test_a_problem_never_repeats_the_value(written):
    with pytest.raises(SettingsError) as caught:
        load(written('[models.x]\nkind = "openai"\nprice = "sk-canary"\n'))

    assert "canary" not in str(caught.value)


def test_a_breaker_is_set_in_part_or_switched_off(written):
    models = load(
        written(
            '[models.a]\nkind = "triton"\nbreaker = { failures = 3 }\n[models.b]\nkind = "triton"\nbreaker = false\n'
        )
    ).models

    assert (models["a"].breaker, models["b"].breaker) == (BreakerSettings(failures=3), False)
