"""What the models do, and what is done when they do not."""

from __future__ import annotations

from deploy.grafana.panels import Dashboard, Panel, Row

_G = 'job=~"$job"'
_GM = f'{_G}, model=~"$model"'
_GENAI = f'{_G}, gen_ai_request_model=~"$model"'
_BY = "gen_ai_request_model"


def _p95(metric: str, labels: str, by: str) -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"


def _attempts(outcome: str) -> str:
    return f'rate(vision_gateway_attempts_total{{{_GM}, outcome="{outcome}"}}[$__rate_interval])'


_ATTEMPTS = Row(
    "Attempts",
    [
        Panel("Answers, by model", "reqps", {f"sum by (model) ({_attempts('ok')})": "{{model}}"}, stacked=True),
        Panel(
            "Failures, by model and reason",
            "reqps",
            {f"sum by (model, reason) ({_attempts('failed')})": "{{model}} {{reason}}"},
        ),
        Panel(
            "Passed over, by model and reason",
            "reqps",
            {f"sum by (model, reason) ({_attempts('skipped')})": "{{model}} {{reason}}"},
        ),
        Panel(
            "Ready",
            "short",
            {f"sum by (model) (vision_gateway_model_ready{{{_GM}}})": "{{model}}"},
            "Gateways that can ask the model.",
        ),
        Panel(
            "Breaker",
            "short",
            {f"max by (model) (vision_gateway_breaker_state{{{_GM}}})": "{{model}}"},
            "0 closed: calls go through; 1 half-open: one call tries; 2 open: calls are turned away.",
            highest=2,
        ),
        Panel(
            "Time of an attempt, p95",
            "s",
            {_p95("vision_gateway_upstream_duration_seconds", _GM, "model"): "{{model}}"},
        ),
    ],
)
_SPEED = Row(
    "Speed",
    [
        Panel(
            "Time to the first token, p95",
            "s",
            {_p95("gen_ai_server_time_to_first_token_seconds", _GENAI, _BY): f"{{{{{_BY}}}}}"},
            "Streamed attempts, and models that tell it.",
        ),
        Panel(
            "Time to the whole answer, p95, by the server's name of its model",
            "s",
            {
                _p95(
                    "gen_ai_server_request_duration_seconds",
                    f'{_GENAI}, error_type=""',
                    f"{_BY}, gen_ai_response_model",
                ): f"{{{{{_BY}}}}} {{{{gen_ai_response_model}}}}"
            },
        ),
        Panel(
            "Tokens a second of an attempt",
            "short",
            {
                f"sum by ({_BY}) (rate(gen_ai_client_token_usage_sum"
                f'{{{_GENAI}, gen_ai_token_type="output"}}[$__rate_interval]))'
                f" / sum by ({_BY}) (rate(gen_ai_server_request_duration_seconds_sum"
                f"{{{_GENAI}}}[$__rate_interval]))": f"{{{{{_BY}}}}}"
            },
            "Tokens written for each second that an attempt took, its wait and its reading included.",
        ),
    ],
)
_INSTEAD = Row(
    "What was done instead",
    [
        Panel(
            "Passed on to the next model",
            "reqps",
            {
                "sum by (rpc, reason) "
                f"(rate(vision_gateway_fallbacks_total{{{_G}}}[$__rate_interval]))": "{{rpc}} {{reason}}"
            },
        ),
        Panel(
            "Asked once more",
            "reqps",
            {
                "sum by (model, reason, outcome) "
                f"(rate(vision_gateway_retries_total{{{_GM}}}[$__rate_interval]))": "{{model}} {{reason}} {{outcome}}"
            },
            "`refused`: too many retries were going on.",
        ),
        Panel(
            "Doubtful answers passed over",
            "reqps",
            {
                "sum by (model, reason) "
                f"(rate(vision_gateway_escalations_total{{{_GM}}}[$__rate_interval]))": "{{model}} {{reason}}"
            },
        ),
        Panel(
            "Two models raced, by whose answer was given",
            "reqps",
            {f"sum by (outcome) (rate(vision_gateway_hedges_total{{{_G}}}[$__rate_interval]))": "{{outcome}}"},
        ),
        Panel(
            "Shadow calls",
            "reqps",
            {
                "sum by (model, outcome) "
                f"(rate(vision_gateway_shadows_total{{{_GM}}}[$__rate_interval]))": "{{model}} {{outcome}}"
            },
        ),
        Panel(
            "Agreement of two models, mean",
            "percentunit",
            {
                f"sum by (model, other) (rate(vision_gateway_agreement_ratio_sum{{{_GM}}}[$__rate_interval]))"
                " / sum by (model, other) "
                f"(rate(vision_gateway_agreement_ratio_count{{{_GM}}}[$__rate_interval]))": "{{model}} and {{other}}"
            },
            highest=1,
        ),
    ],
)
_LIMITS = Row(
    "Limits and cache",
    [
        Panel(
            "Calls at the models, and their limits",
            "short",
            {
                f'sum by (scope) (vision_gateway_inflight{{{_G}, scope!="server", scope=~"$model"}})': "{{scope}}",
                f"sum by (model) (vision_gateway_model_limit{{{_GM}}})": "{{model}} limit",
            },
        ),
        Panel(
            "Calls that wait for a place",
            "short",
            {f"sum by (model) (vision_gateway_model_queue{{{_GM}}})": "{{model}}"},
        ),
        Panel(
            "Quota left",
            "percentunit",
            {
                f"min by (model, kind) (vision_gateway_upstream_ratelimit_remaining{{{_GM}}}"
                f" / (vision_gateway_upstream_ratelimit_limit{{{_GM}}} > 0))": "{{model}} {{kind}}"
            },
            "Of the provider's limits of requests and tokens, as it told with the last answer or failure.",
            highest=1,
        ),
        Panel(
            "Cache, by what it did",
            "reqps",
            {f"sum by (outcome) (rate(vision_gateway_cache_total{{{_G}}}[$__rate_interval]))": "{{outcome}}"},
            stacked=True,
        ),
    ],
)

DASHBOARD = Dashboard(
    "vision-gateway-models",
    "Vision Gateway: models",
    "Attempts, speed, fallbacks, limits and the cache.",
    {"job": "vision_gateway_settings_applied_timestamp_seconds", "model": "vision_gateway_model_ready"},
    [_ATTEMPTS, _SPEED, _INSTEAD, _LIMITS],
)
