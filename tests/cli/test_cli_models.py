"""`vision-gateway models`, against a stand-in for the gateway's HTTP port."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from gateway.cli import app

STATE = {"state": "serving", "models": {"gemma": "ready", "gpt-5.5": "not_ready"}}


@pytest.fixture
def http_port():
    """Answers everything with the status and text it is given."""
    answer = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, text = answer[self.path]
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def start(status, text):
            answer["/readyz"] = (status, text)
            return f"127.0.0.1:{server.server_port}"

        yield start
        server.shutdown()
        thread.join()


def models(*arguments):
    return CliRunner().invoke(app, ["models", *arguments])


@pytest.mark.parametrize("status", [200, 503])
def test_each_model_is_listed_with_its_state(http_port, status):
    result = models("--http-address", http_port(status, json.dumps(STATE)))

    assert (result.exit_code, result.stdout) == (0, "gemma  ready\ngpt-5.5  not ready\n")


def test_json_is_what_the_gateway_says(http_port):
    result = models("--json", "--http-address", http_port(200, json.dumps(STATE)))

    assert json.loads(result.stdout) == STATE


def test_a_proxy_for_the_web_is_passed_over(http_port, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert models("--http-address", http_port(200, json.dumps(STATE))).exit_code == 0


def test_no_gateway_is_told(monkeypatch):
    monkeypatch.setenv("VISION_GATEWAY_HTTP_ADDRESS", "127.0.0.1:1")

    result = models()

    told = "No gateway answers at http://127.0.0.1:1/readyz; give its --http-address, or its gRPC port as --address.\n"
    assert (result.exit_code, result.stderr) == (1, told)


@pytest.mark.parametrize(
    ("status", "text"), [(200, "<html>"), (404, "not found"), (200, "{}"), (200, "[]"), (200, '{"models": 3}')]
)
def test_something_else_at_that_address_is_told(http_port, status, text):
    address = http_port(status, text)

    result = models("--http-address", address)

    assert (result.exit_code, result.stderr) == (1, f"What answers at http://{address}/readyz is no gateway.\n")
