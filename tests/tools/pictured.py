"""The picture of the page of ``lapse metrics --page`` for the documents: ``make page-picture``.

``cd tests && python -m tools.pictured FILE`` draws the page of a deployment in which one policy is halted.
"""

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

from tools.chromium import chromium
from tools.page_states import page_of

WIDTH, HEIGHT = 1000, 900


async def drawn(url: str) -> bytes:
    """Return what of a page is seen without scrolling, as PNG."""
    async with chromium() as tab:
        await tab.open(url, width=WIDTH, height=HEIGHT)
        return base64.b64decode((await tab.call("Page.captureScreenshot"))["data"])


def main(file: str) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder, page_of("halted", Path(folder)) as url:
        Path(file).write_bytes(asyncio.run(drawn(url)))


if __name__ == "__main__":
    main(*sys.argv[1:])
