"""Is it up, is it right, is it quick, is it full: what callers meet."""

from __future__ import annotations

from deploy.grafana.panels import Dashboard, Panel, Row

_G = 'job=~"$job"'
_GR = f'{_G}, rpc=~"$rpc"'
_FAULTS = 'code=~"UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|DATA_LOSS|UNKNOWN"'


def _duration(quantile: float) -> str:
    buckets = f"rate(vision_gateway_request_duration_seconds_bucket{{{_GR}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by (le, rpc) ({buckets}))"


_GLANCE = Row(
    "At a glance",
    [
        Panel(
            "Calls a second",
            "reqps",
            {f"sum(rate(vision_gateway_requests_total{{{_GR}}}[$__rate_interval]))": "calls"},
            number=True,
        ),
        Panel(
            "Failures of ours",
            "percentunit",
            {
                f"(sum(rate(vision_gateway_requests_total{{{_GR}, {_FAULTS}}}[$__rate_interval])) or vector(0))"
                f" / sum(rate(vision_gateway_requests_total{{{_GR}}}[$__rate_interval]))": "share"
            },
            "Share of calls that ended UNAVAILABLE, INTERNAL, DEADLINE_EXCEEDED, DATA_LOSS or UNKNOWN.",
            number=True,
        ),
        Panel(
            "p95",
            "s",
            {
                "histogram_quantile(0.95, sum by (le) "
                f"(rate(vision_gateway_request_duration_seconds_bucket{{{_GR}}}[$__rate_interval])))": "p95"
            },
            number=True,
        ),
        Panel(
            "Models ready",
            "short",
            {f"sum(max by (model) (vision_gateway_model_ready{{{_G}}}))": "models"},
            "Models that at least one gateway can ask.",
            number=True,
        ),
        Panel(
            "Gateways up",
            "short",
            {f"sum(up{{{_G}}})": "gateways"},
            number=True,
        ),
        Panel(
            "Settings taken on",
            "dateTimeFromNow",
            {f"1000 * min(vision_gateway_settings_applied_timestamp_seconds{{{_G}}})": "oldest"},
            "By the gateway that did so longest ago.",
            number=True,
        ),
    ],
)
_CALLS = Row(
    "Calls",
    [
        Panel(
            "Calls by RPC",
            "reqps",
            {f"sum by (rpc) (rate(vision_gateway_requests_total{{{_GR}}}[$__rate_interval]))": "{{rpc}}"},
            stacked=True,
        ),
        Panel(
            "Calls that were not answered, by code",
            "reqps",
            {
                "sum by (rpc, code) "
                f'(rate(vision_gateway_requests_total{{{_GR}, code!="OK"}}[$__rate_interval]))': "{{rpc}} {{code}}"
            },
        ),
        Panel(
            "Burn of the error budget",
            "none",
            {
                f"job:vision_gateway_faults:ratio_rate{window}{{{_G}}} / 0.005": f"{{{{job}}}} {window}"
                for window in ("5m", "1h", "6h", "3d")
            },
            "1 spends exactly the budget of 0.5 % of calls in 30 days; 14.4 a fiftieth of it in an hour.",
        ),
    ],
)
_LATENCY = Row(
    "Latency",
    [
        Panel("p50 per RPC", "s", {_duration(0.5): "{{rpc}}"}),
        Panel("p95 per RPC", "s", {_duration(0.95): "{{rpc}}"}),
        Panel("p99 per RPC", "s", {_duration(0.99): "{{rpc}}"}),
        Panel(
            "What the gateway adds, p99",
            "s",
            {
                "histogram_quantile(0.99, sum by (le, rpc) "
                f"(rate(vision_gateway_overhead_seconds_bucket{{{_GR}}}[$__rate_interval])))": "{{rpc}}"
            },
            "Answered calls: total less body, queue, image work and models.",
        ),
        Panel(
            "Lag of the event loop, p99",
            "s",
            {
                "histogram_quantile(0.99, sum by (le, instance) "
                f"(rate(vision_gateway_event_loop_lag_seconds_bucket{{{_G}}}[$__rate_interval])))": "{{instance}}"
            },
            "Above 0.05 s the process has no CPU left.",
        ),
        Panel(
            "Size of images",
            "bytes",
            {
                "histogram_quantile(0.5, sum by (le) "
                f"(rate(vision_gateway_image_bytes_bucket{{{_GR}}}[$__rate_interval])))": "p50",
                "histogram_quantile(0.95, sum by (le) "
                f"(rate(vision_gateway_image_bytes_bucket{{{_GR}}}[$__rate_interval])))": "p95",
            },
        ),
        Panel(
            "Images named instead of sent",
            "reqps",
            {f"sum by (outcome) (rate(vision_gateway_images_named_total{{{_G}}}[$__rate_interval]))": "{{outcome}}"},
            "By their digest; those unknown here are sent after all.",
        ),
    ],
)
_SATURATION = Row(
    "Saturation",
    [
        Panel(
            "Calls in flight",
            "short",
            {f"sum by (scope) (vision_gateway_inflight{{{_G}}})": "{{scope}}"},
            "At the servers, and at each model.",
        ),
        Panel(
            "Calls that wait for a place at a model",
            "short",
            {f"sum by (model) (vision_gateway_model_queue{{{_G}}})": "{{model}}"},
        ),
        Panel(
            "Calls turned away before any work",
            "reqps",
            {f"sum by (reason) (rate(vision_gateway_shed_total{{{_G}}}[$__rate_interval]))": "{{reason}}"},
        ),
        Panel(
            "CPU",
            "short",
            {f"rate(process_cpu_seconds_total{{{_G}}}[$__rate_interval])": "{{instance}} {{worker}}"},
            "Cores in use by each gateway process.",
        ),
        Panel(
            "Memory",
            "bytes",
            {
                f"process_resident_memory_bytes{{{_G}}}": "{{instance}} {{worker}}",
                f"vision_gateway_held_image_bytes{{{_G}}}": "{{instance}}, of it images held after their calls",
            },
        ),
        Panel(
            "Images refused, by limit",
            "reqps",
            {f"sum by (limit) (rate(vision_gateway_images_rejected_total{{{_G}}}[$__rate_interval]))": "{{limit}}"},
        ),
    ],
)
_STORES = Row(
    "Ledger, budgets and settings",
    [
        Panel(
            "Attempts that wait for the ledger",
            "short",
            {f"sum by (instance) (vision_gateway_ledger_backlog{{{_G}}})": "{{instance}}"},
        ),
        Panel(
            "Lost or failed",
            "short",
            {
                f"sum(increase(vision_gateway_ledger_rows_lost_total{{{_G}}}[$__rate_interval]))": "ledger rows lost",
                "sum by (operation, decision) "
                f"(increase(vision_gateway_store_failures_total{{{_G}}}[$__rate_interval]))": (
                    "store {{operation}} {{decision}}"
                ),
            },
        ),
        Panel(
            "Settings read again",
            "short",
            {
                "sum by (outcome) "
                f"(increase(vision_gateway_settings_reloads_total{{{_G}}}[$__rate_interval]))": "{{outcome}}"
            },
        ),
    ],
)
_TLS_BEGUN = f"sum by (port) (rate(vision_gateway_tls_connections_total{{{_G}}}[$__rate_interval]))"
_DOOR = Row(
    "The door",
    [
        Panel(
            "Refused for their credentials, by cause",
            "reqps",
            {f"sum by (cause) (rate(vision_gateway_auth_refused_total{{{_G}}}[$__rate_interval]))": "{{cause}}"},
        ),
        Panel(
            "TLS connections begun, and come to nothing",
            "cps",
            {
                _TLS_BEGUN: "{{port}}: begun",
                f"{_TLS_BEGUN} - sum by (port) "
                f"(rate(vision_gateway_tls_connections_used_total{{{_G}}}[$__rate_interval]))": "{{port}}: never used",
            },
            "Those that are never used failed in their handshake, or no call came on them.",
        ),
        Panel(
            "Time until the certificate expires",
            "s",
            {
                f"(vision_gateway_tls_certificate_expiry_timestamp_seconds{{{_G}}} > 0) - time()": "{{instance}}",
            },
            "Empty without TLS.",
            lowest=None,
        ),
    ],
)

DASHBOARD = Dashboard(
    "vision-gateway-overview",
    "Vision Gateway: overview",
    "Requests, errors, latency and saturation.",
    {"job": "vision_gateway_settings_applied_timestamp_seconds", "rpc": "vision_gateway_requests_total"},
    [_GLANCE, _CALLS, _LATENCY, _SATURATION, _STORES, _DOOR],
)
