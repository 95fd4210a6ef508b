"""``onnxpress view``: the page and the model come from here, and nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import Shell
from onnxpress.errors import MissingExtra
from onnxpress.verbs.view import served
from zoo.graphs import parse

needs_netron = pytest.mark.skipif(
    importlib.util.find_spec("netron") is None, reason="needs onnxpress[view]"
)
TEXT = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


@contextmanager
def viewing(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``onnxpress view`` as a program, and the address that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "onnxpress", "view", *map(str, words), "--no-browser", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        try:
            yield program, json.loads(program.stdout.readline())["address"]
        finally:
            program.kill()


def get(address: str, **headers: str) -> tuple[bytes, dict[str, str]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, headers=headers), timeout=30) as answer:
        return answer.read(), dict(answer.headers)


def refused(address: str, **headers: str) -> bool:
    try:
        get(address, **headers)
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


@needs_netron
def test_the_page_fetches_the_model_from_here_and_ctrl_c_is_0(tmp_path: Path) -> None:
    path = parse(TEXT).save(tmp_path / "a model.onnx")
    with viewing(path) as (program, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        page = get(address)[0].decode()
        [location] = re.findall(r'<meta name="file" content="([^"]+)">', page)
        assert get(address + location.lstrip("/"))[0] == path.read_bytes()
        for name in ("index.js", "view.js", "onnx.js", "onnx-metadata.json", "grapher.css"):
            assert get(address + name)[0]
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0
        assert program.stderr is not None
        assert program.stderr.read() == ""


@needs_netron
def test_nothing_calls_home(tmp_path: Path) -> None:
    """What Netron's page reads: its version, its cookie, and the policy that browsers hold."""
    with viewing(parse(TEXT).save(tmp_path / "m.onnx")) as (_, address):
        page, headers = get(address)
        assert re.findall(r'name="version" content="([^"]*)"', page.decode()) == ["0.0.0"]
        assert 'name="date"' not in page.decode()
        assert headers["Set-Cookie"].startswith("consent=")
        policy = headers["Content-Security-Policy"]
        assert "connect-src 'self'" in policy
        assert "http" not in policy
        script = get(address + "browser.js")[0].decode()
        assert "this._meta.version[0] !== '0.0.0'" in script, "else it is no unpackaged build"
        assert "if (this._environment.packaged)" in script, "else it reports anyway"
        assert "this._getCookie('consent')" in script, "else it asks for the country"


@needs_netron
@pytest.mark.usefixtures("external")
def test_external_data_is_served_and_its_neighbours_are_not(tmp_path: Path) -> None:
    import numpy as np

    text = "(float[N,600] x) => (float[N,600] y) { y = Mul(x, w) }"
    path = parse(text, w=np.ones(600, np.float32)).save(tmp_path / "m.onnx")
    (tmp_path / "secret.txt").write_text("secret")
    with viewing(path) as (_, address):
        assert get(address + "data/m.onnx.data")[0] == (tmp_path / "m.onnx.data").read_bytes()
        for name in (
            "data/secret.txt", "data/../secret.txt", "data/%2e%2e/secret.txt", "server.py",
            "../netron/server.py", "data//etc/hostname",
        ):  # fmt: skip
            assert refused(address + name), name
        assert refused(address, Host="example.org"), "another site's name for this address"


@needs_netron
def test_ports(shell: Shell, tmp_path: Path) -> None:
    path = parse(TEXT).save(tmp_path / "m.onnx")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = shell("view", path, "--no-browser", "--port", port)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--port {port}" in err
    assert shell("view", path, "--no-browser", "--port", "70000")[0] == 2


@needs_netron
@pytest.mark.parametrize(("name", "told"), [("none.onnx", "does not exist"), (".", "is a folder")])
def test_what_is_no_model_is_one_line(name: str, told: str, shell: Shell) -> None:
    code, out, err = shell("view", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_without_netron_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "netron" else known(name)
    )
    with (
        pytest.raises(MissingExtra, match=r"pip install 'onnxpress\[view\]'"),
        served(parse(TEXT).save(tmp_path / "m.onnx")),
    ):
        pass
