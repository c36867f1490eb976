"""What Triton tells of itself, of its models, and of the machine.

Triton measures our models only from outside: they answer by themselves, so that its queue and its failures stay at
zero, and its time of a request is the whole of it. What happens inside is in the models' own series, `vision_*`.
"""

from __future__ import annotations

from deploy.grafana.panels import Dashboard, Panel, Row

_T = 'job=~"$triton_job"'
_TM = f'{_T}, model=~"$triton_model"'


def _mean(metric: str) -> str:
    return (
        f"sum by (model) (rate({metric}{{{_TM}}}[$__rate_interval])) / 1e6"
        f" / sum by (model) (rate(nv_inference_request_success{{{_TM}}}[$__rate_interval]))"
    )


_REQUESTS = Row(
    "Requests",
    [
        Panel(
            "Requests that ended well",
            "reqps",
            {f"sum by (model) (rate(nv_inference_request_success{{{_TM}}}[$__rate_interval]))": "{{model}}"},
        ),
        Panel(
            "Requests that failed",
            "reqps",
            {
                "sum by (model, reason) "
                f"(rate(nv_inference_request_failure{{{_TM}}}[$__rate_interval]))": "{{model}} {{reason}}"
            },
            "As Triton sees it: a failure that a model answers with is not counted here.",
        ),
        Panel(
            "Inferences, and executions of batches",
            "reqps",
            {
                f"sum by (model) (rate(nv_inference_count{{{_TM}}}[$__rate_interval]))": "{{model}} inferences",
                f"sum by (model) (rate(nv_inference_exec_count{{{_TM}}}[$__rate_interval]))": "{{model}} executions",
            },
        ),
        Panel("Time of a request, mean", "s", {_mean("nv_inference_request_duration_us"): "{{model}}"}),
        Panel(
            "Of it: queue and computing, mean",
            "s",
            {
                _mean("nv_inference_queue_duration_us"): "{{model}} queue",
                _mean("nv_inference_compute_input_duration_us"): "{{model}} input",
                _mean("nv_inference_compute_infer_duration_us"): "{{model}} inference",
                _mean("nv_inference_compute_output_duration_us"): "{{model}} output",
            },
        ),
        Panel(
            "Requests that wait",
            "short",
            {f"sum by (model) (nv_inference_pending_request_count{{{_TM}}})": "{{model}}"},
        ),
    ],
)
_CPU_MODEL = Row(
    "The CPU model `embedded`",
    [
        Panel(
            "Requests, by RPC and outcome",
            "reqps",
            {
                "sum by (rpc, outcome) "
                f"(rate(vision_embedded_requests_total{{{_T}}}[$__rate_interval])) > 0": "{{rpc}} {{outcome}}"
            },
        ),
        Panel("At work and waiting", "short", {f"vision_embedded_in_flight{{{_T}}}": "{{instance}}"}),
    ],
)
GEMMA4 = Row(
    "Gemma 4",
    [
        Panel(
            "Gemma 4: requests, by outcome",
            "reqps",
            {f"sum by (outcome) (rate(vision_gemma4_requests_total{{{_T}}}[$__rate_interval]))": "{{outcome}}"},
        ),
        Panel(
            "Gemma 4: at work and waiting, of the most that are taken",
            "percentunit",
            {f"vision_gemma4_in_flight{{{_T}}} / vision_gemma4_max_in_flight{{{_T}}}": "{{instance}}"},
            highest=1,
        ),
        Panel(
            "Gemma 4: tokens a second",
            "short",
            {f"sum by (kind) (rate(vision_gemma4_tokens_total{{{_T}}}[$__rate_interval]))": "{{kind}}"},
        ),
        Panel(
            "Gemma 4: time to the first token, mean",
            "s",
            {
                f"sum by (instance) (rate(vision_gemma4_time_to_first_token_seconds_sum{{{_T}}}[$__rate_interval]))"
                " / sum by (instance) "
                f"(rate(vision_gemma4_time_to_first_token_seconds_count{{{_T}}}[$__rate_interval]))": "{{instance}}"
            },
        ),
    ],
)
_MACHINE = Row(
    "Machine",
    [
        Panel("CPU in use", "percentunit", {f"nv_cpu_utilization{{{_T}}}": "{{instance}}"}, highest=1),
        Panel(
            "Memory",
            "bytes",
            {
                f"nv_cpu_memory_used_bytes{{{_T}}}": "{{instance}} used",
                f"nv_cpu_memory_total_bytes{{{_T}}}": "{{instance}} of",
            },
        ),
        Panel(
            "Pinned memory",
            "bytes",
            {
                f"nv_pinned_memory_pool_used_bytes{{{_T}}}": "{{instance}} used",
                f"nv_pinned_memory_pool_total_bytes{{{_T}}}": "{{instance}} of",
            },
            "0 where Triton runs without a GPU.",
        ),
    ],
)
# Triton has these series only where it finds a GPU and its DCGM library.
GPU = Row(
    "GPU: empty without one",
    [
        Panel("GPU: in use", "percentunit", {f"nv_gpu_utilization{{{_T}}}": "{{instance}} {{gpu_uuid}}"}, highest=1),
        Panel(
            "GPU: memory",
            "bytes",
            {
                f"nv_gpu_memory_used_bytes{{{_T}}}": "{{instance}} {{gpu_uuid}} used",
                f"nv_gpu_memory_total_bytes{{{_T}}}": "{{instance}} {{gpu_uuid}} of",
            },
        ),
        Panel(
            "GPU: power",
            "watt",
            {
                f"nv_gpu_power_usage{{{_T}}}": "{{instance}} {{gpu_uuid}}",
                f"nv_gpu_power_limit{{{_T}}}": "{{instance}} {{gpu_uuid}} limit",
            },
        ),
        Panel(
            "GPU: energy, as watts",
            "watt",
            {f"rate(nv_energy_consumption{{{_T}}}[$__rate_interval])": "{{instance}} {{gpu_uuid}}"},
        ),
    ],
)

DASHBOARD = Dashboard(
    "vision-gateway-triton",
    "Vision Gateway: Triton and GPU",
    "What Triton tells of itself, its models and the machine.",
    {"triton_job": "nv_inference_count", "triton_model": "nv_inference_count"},
    [_REQUESTS, GEMMA4, _CPU_MODEL, _MACHINE, GPU],
)
