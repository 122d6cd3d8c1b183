"""Draws the built page with headless Chromium: ``draw.py ANSWERS.json PICTURE.png``, run by ``make picture``."""

import functools
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).parent / "dist"
SIZE = "1492,805"


class Quiet(SimpleHTTPRequestHandler):
    """Serves the page without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def draw(answers: Path, picture: Path) -> None:
    """Serve the page with these answers on loopback, and let Chromium draw it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        sys.exit("make picture needs Chromium: apt-get install chromium")
    if answers.resolve() != (PAGE / "answers.json").resolve():
        shutil.copy(answers, PAGE / "answers.json")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(PAGE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603 - the browser found on PATH
            [
                chromium,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--no-proxy-server",
                f"--user-data-dir={profile}",
                f"--window-size={SIZE}",
                "--virtual-time-budget=20000",
                f"--screenshot={picture}",
                f"http://127.0.0.1:{server.server_port}/",
            ],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    server.shutdown()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
