"""`snapkeep demo --serve`: the fleet page over what the demo left."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import requests
from click.testing import CliRunner

from snapkeep.cli import root

TIMEOUT_S = 120


def test_the_demo_shows_its_fleet_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snapkeep.cli", "demo", "--days=2", f"--audit={tmp_path}", "--serve"]
    demo = subprocess.Popen(  # noqa: S603 - this interpreter, fixed words
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert demo.stdout is not None
        told = (re.match(r"The fleet page: (http://127\.0\.0\.1:\d+/) until Ctrl-C", line) for line in demo.stdout)
        address = next(filter(None, told))[1]
        answer = requests.get(address, headers={"X-Snapkeep-Local-User": "admin@vendor.example"}, timeout=TIMEOUT_S)
        assert answer.status_code == 200
        assert "Acme Bank" in answer.text
        demo.send_signal(signal.SIGINT)
        assert demo.wait(TIMEOUT_S) == 0
    finally:
        demo.kill()
        demo.communicate()


def test_a_port_that_is_taken_is_said_before_the_days_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(root, ["demo", "--days=400", "--serve", f"--port={port}"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"snapkeep: port {port}: Address already in use: end what listens there, or take another with --port\n"
    )


def test_a_port_without_a_server_is_wrong_usage() -> None:
    assert CliRunner().invoke(root, ["demo", "--port=8080"]).exit_code == 2
