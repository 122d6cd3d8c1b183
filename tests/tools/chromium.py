"""Debian's Chromium without a window, told what to do by its DevTools protocol."""

import asyncio
import base64
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

INSTALL = "apt-get install chromium"
WAIT = 60
LISTENS = re.compile(rb"DevTools listening on ws://([^/]+)/")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--no-first-run",
    "--remote-debugging-port=0",
)


@dataclass
class Tab:
    """One tab. What the page complains of, such as what its own security policy refused, is in ``complaints``."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return what it gives."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": given})
        async with asyncio.timeout(WAIT):
            while True:
                said = await self.socket.receive_json()
                self._note(said)
                if said.get("id") == number:
                    assert "error" not in said, (method, said)
                    return dict(said["result"])

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or of the promise that it is."""
        said = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, expression: str, within: float = 30) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(within):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.05)

    async def open(self, url: str, *, width: int, height: int = 900, scheme: str = "light") -> None:
        """Open a page on a screen of a width, in a colour scheme."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href.startsWith({url!r})")

    async def picture(self) -> bytes:
        """Return the whole page as it looks, as PNG."""
        said = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(said["data"])

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Log.entryAdded":
            self.complaints.append(said["params"]["entry"]["text"])
        elif said.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(said["params"]["exceptionDetails"]))


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """Start it; yields one tab."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, f"Chromium is missing: {INSTALL}"
    async with AsyncExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        process = await asyncio.create_subprocess_exec(
            program, *OPTIONS, f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE
        )
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        assert process.stderr is not None
        root = await _address(process.stderr)
        stack.callback(asyncio.create_task(process.stderr.read()).cancel)  # it must not wait for who reads its log
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with session.get(f"{root}/json/list") as reply:
            (target,) = [one for one in await reply.json() if one["type"] == "page"]
        socket = await stack.enter_async_context(session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0))
        tab = Tab(socket)
        for domain in ("Page", "Runtime", "Log"):
            await tab.call(f"{domain}.enable")
        yield tab


async def _address(said: asyncio.StreamReader) -> str:
    """Return where it listens, which it says."""
    async with asyncio.timeout(WAIT):
        while not (found := LISTENS.search(await said.readline())):
            assert not said.at_eof(), "Chromium ended"
    return f"http://{found[1].decode()}"
