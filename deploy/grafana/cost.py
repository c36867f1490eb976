"""What is spent, what that saved, whether quotes hold, and what is left."""

from __future__ import annotations

from deploy.grafana.panels import Dashboard, Panel, Row

_G = 'job=~"$job"'
_GM = f'{_G}, model=~"$model"'
_COST = f"vision_gateway_cost_usd_total{{{_GM}}}"
_SAVED = f"vision_gateway_cost_saved_usd_total{{{_GM}}}"

_SPEND = Row(
    "Spend",
    [
        Panel("An hour", "currencyUSD", {f"3600 * sum(rate({_COST}[$__rate_interval]))": "now"}, number=True),
        Panel("Last 24 hours", "currencyUSD", {f"sum(increase({_COST}[24h]))": "spent"}, number=True),
        Panel("Saved in 24 hours", "currencyUSD", {f"sum(increase({_SAVED}[24h]))": "saved"}, number=True),
        Panel(
            "1000 calls",
            "currencyUSD",
            {
                f"1000 * sum(rate({_COST}[$__rate_interval]))"
                f' / sum(rate(vision_gateway_requests_total{{{_G}, code="OK"}}[$__rate_interval]))': "1000 answers"
            },
            "What 1000 answers cost, failed attempts included.",
            number=True,
        ),
        Panel(
            "Least of a budget left",
            "percentunit",
            {f"min(vision_gateway_budget_remaining_usd{{{_G}}} / (vision_gateway_budget_usd{{{_G}}} > 0))": "least"},
            number=True,
        ),
        Panel(
            "Spent on failures",
            "percentunit",
            {
                f'(sum(rate(vision_gateway_cost_usd_total{{{_GM}, kind="failure"}}[$__rate_interval])) or vector(0))'
                f" / sum(rate({_COST}[$__rate_interval]))": "share"
            },
            number=True,
        ),
        Panel(
            "Spend an hour, by model",
            "currencyUSD",
            {f"3600 * sum by (model) (rate({_COST}[$__rate_interval]))": "{{model}}"},
            stacked=True,
        ),
        Panel(
            "Spend an hour, by RPC",
            "currencyUSD",
            {f"3600 * sum by (rpc) (rate({_COST}[$__rate_interval]))": "{{rpc}}"},
            stacked=True,
        ),
        Panel(
            "Spend an hour, by service tier and kind",
            "currencyUSD",
            {f"3600 * sum by (service_tier, kind) (rate({_COST}[$__rate_interval]))": "{{service_tier}} {{kind}}"},
        ),
    ],
)
_SAVINGS = Row(
    "Savings and quotes",
    [
        Panel(
            "Saved an hour, by the model that answered",
            "currencyUSD",
            {f"3600 * sum by (model) (rate({_SAVED}[$__rate_interval]))": "{{model}}"},
            "Against asking the dearest configured model; below zero where attempts together cost more.",
            lowest=None,
        ),
        Panel(
            "Billed over quoted, mean",
            "none",
            {
                f"sum by (model) (rate(vision_gateway_quote_error_ratio_sum{{{_GM}}}[$__rate_interval]))"
                f" / sum by (model) (rate(vision_gateway_quote_error_ratio_count{{{_GM}}}[$__rate_interval]))": (
                    "{{model}}"
                )
            },
            "1 is a quote that held.",
        ),
        Panel(
            "Billed over quoted, p95",
            "none",
            {
                "histogram_quantile(0.95, sum by (le, model) "
                f"(rate(vision_gateway_quote_error_ratio_bucket{{{_GM}}}[$__rate_interval])))": "{{model}}"
            },
        ),
    ],
)
_BUDGETS = Row(
    "Budgets",
    [
        Panel(
            "Left",
            "currencyUSD",
            {f"min by (principal, window) (vision_gateway_budget_remaining_usd{{{_G}}})": "{{principal}} {{window}}"},
            "Neither spent nor reserved. What any principal spent: `vision-gateway usage --by principal`.",
        ),
        Panel(
            "Share left",
            "percentunit",
            {
                "min by (principal, window) "
                f"(vision_gateway_budget_remaining_usd{{{_G}}} / (vision_gateway_budget_usd{{{_G}}} > 0))": (
                    "{{principal}} {{window}}"
                )
            },
            highest=1,
        ),
        Panel(
            "Spend of the principals with a budget, an hour",
            "currencyUSD",
            {
                "3600 * clamp_min(-deriv((min by (principal, window) "
                f"(vision_gateway_budget_remaining_usd{{{_G}}}))[$__rate_interval:]), 0)": "{{principal}} {{window}}"
            },
            "How fast a budget shrinks; what is reserved counts until its call ends.",
        ),
    ],
)
_TOKENS = Row(
    "Tokens",
    [
        Panel(
            "Tokens a second, by model and type",
            "short",
            {
                "sum by (gen_ai_request_model, gen_ai_token_type) "
                f'(rate(gen_ai_client_token_usage_sum{{{_G}, gen_ai_request_model=~"$model"}}[$__rate_interval]))': (
                    "{{gen_ai_request_model}} {{gen_ai_token_type}}"
                )
            },
        ),
        Panel(
            "Image tokens an attempt, mean",
            "short",
            {
                f"sum by (model) (rate(vision_gateway_image_tokens_sum{{{_GM}}}[$__rate_interval]))"
                f" / sum by (model) (rate(vision_gateway_image_tokens_count{{{_GM}}}[$__rate_interval]))": "{{model}}"
            },
        ),
        Panel(
            "Answers out of the cache",
            "percentunit",
            {
                f'sum(rate(vision_gateway_cache_total{{{_G}, outcome=~"hit|coalesced"}}[$__rate_interval]))'
                f' / sum(rate(vision_gateway_cache_total{{{_G}, outcome=~"hit|coalesced|miss"}}[$__rate_interval]))': (
                    "share of look-ups"
                )
            },
            highest=1,
        ),
    ],
)

DASHBOARD = Dashboard(
    "vision-gateway-cost",
    "Vision Gateway: cost",
    "Spend, savings, quotes and budgets.",
    {"job": "vision_gateway_settings_applied_timestamp_seconds", "model": "vision_gateway_model_ready"},
    [_SPEND, _SAVINGS, _BUDGETS, _TOKENS],
)
