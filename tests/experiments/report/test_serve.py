"""The site on this machine: current, only for this machine, and ended without a trace."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.report import serve
from meta_spliceai.experiments.report.serve import HOST, LiveSite, make_server


@pytest.fixture
def site(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    made = LiveSite(workspace, tmp_path / "site")
    assert made.refresh()
    return made


@pytest.fixture
def port(site):
    server = make_server(site, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


def state_of(site: LiveSite) -> dict[str, Any]:
    return json.loads((site.folder / "state.json").read_text("utf-8"))


def asked(port: int, path: str, host: str = "localhost") -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_pages_state_and_what_is_not_there(port, site):
    status, page = asked(port, "/")
    assert status == 200
    assert page.startswith("<!doctype html>")
    assert "connect-src 'self'" in page
    assert asked(port, "/run-wt1-simple-cnn-0123456789ab.html?x=1")[0] == 200
    assert json.loads(asked(port, "/state.json")[1]) == {"version": 1, "running": [], "error": ""}
    assert asked(port, "/assets/plotly.min.js")[0] == 200
    for path in (
        "/.made_from.json",
        "/../pyproject.toml",
        "/%2e%2e/etc/passwd",
        "/ledger.jsonl",
        "//etc/passwd",
        "/%00",
    ):
        assert asked(port, path)[0] == 404


def test_another_name_for_this_machine_is_refused(port):
    assert asked(port, "/", host="evil.example")[0] == 403


def test_connections_that_say_nothing_do_not_keep_others_waiting(site, monkeypatch):
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 4)
    monkeypatch.setattr(serve, "SECONDS_OF_SILENCE", 0.3)
    server = make_server(site, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    port = server.server_address[1]
    idle = [socket.create_connection((HOST, port)) for _ in range(12)]
    try:
        began, threads = time.monotonic(), threading.active_count()
        assert asked(port, "/state.json")[0] == 200
        assert time.monotonic() - began < 8
        assert threads <= 4 + 8
        for connection in idle:  # closed from the other side
            connection.settimeout(8)
            assert connection.recv(1) == b""
    finally:
        for connection in idle:
            connection.close()
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_only_what_has_changed_makes_a_new_version(site, workspace):
    assert not site.refresh()
    run = workspace.run("now-0123456789ab")
    with run.taken():
        run.mark("running", title="Now", row="now")
        assert site.refresh()
        run.write_json("progress.json", {"stage": "training", "epoch": 1, "epochs": 4, "share": 0.25})
        site.refresh()
        version = site.version
        run.write_json("progress.json", {"stage": "training", "epoch": 2, "epochs": 4, "share": 0.5})
        assert not site.refresh()
        [said] = state_of(site)["running"]
        assert (said["share"], said["words"]) == (0.5, "training, epoch 2 of 4")
    # The lock is free and nothing was written: the process is gone.
    assert site.refresh()
    assert site.version == version + 1
    assert "the process ended without a word" in (site.folder / "run-now-0123456789ab.html").read_text("utf-8")


def test_a_row_that_cannot_be_read_leaves_the_last_version(site, tmp_path):
    (tmp_path / "wishlist").mkdir()
    (tmp_path / "wishlist" / "mine.yaml").write_text("section: Mine\nrows: [\n")
    assert not site.refresh()
    assert "mine.yaml, line 3: not valid YAML" in state_of(site)["error"]
    assert (site.folder / "index.html").is_file()
    (tmp_path / "wishlist" / "mine.yaml").write_text("section: Mine\nrows: [{id: my-row, title: My row, wish: {}}]\n")
    assert site.refresh()
    assert state_of(site)["error"] == ""
    assert "My row" in (site.folder / "index.html").read_text("utf-8")


def test_a_port_that_is_taken_is_named(site):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(InputError, match=f"--port {other.getsockname()[1]}: another program listens there"):
            make_server(site, other.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly_when_it_is_told_to(workspace, tmp_path, told):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from meta_spliceai.cli import main; main()",
            "serve",
            "--no-plan",
            "--port",
            "0",
            "--runs-dir",
            str(workspace.root),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        port = int(address.rstrip("/").rpartition(":")[2])
        assert asked(port, "/")[0] == 200
        (workspace.root / "ledger.jsonl").write_text('{"event": "finished"}\n')
        end = time.monotonic() + 60
        while json.loads(asked(port, "/state.json")[1])["version"] < 2:
            assert time.monotonic() < end
            time.sleep(0.2)
        process.send_signal(told)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert said.splitlines()[-1] == "ended"
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in said
