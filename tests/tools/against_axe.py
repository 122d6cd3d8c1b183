"""The page of ``lapse metrics --page`` in Debian's Chromium: ``make test-tools`` runs this, with what npm installed.

axe-core finds no violation in any state, on wide and narrow screens, in both colour schemes; the script refreshes what
is shown, and leaves a viewer alone meanwhile.
"""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.chromium import INSTALL, Tab, chromium
from tools.page_states import STATES, page_of

AXE = Path(__file__).parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]
RULES = """
axe.run(document, {resultTypes: ["violations", "incomplete"]}).then((found) => JSON.stringify({
  violations: found.violations.map((one) => [one.id, one.nodes.map((node) => node.html)]),
  undecided: found.incomplete.map((one) => [one.id, one.nodes.map((node) => node.html)]),
  passes: found.passes.length,
}))
"""
PATHS = {"halted": ("", "policy/chat", "policy/uploads", "policy/nope"), "registry away": ("", "policy/chat")}


@pytest.fixture(scope="module", params=[*STATES, "hostile"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with page_of(request.param, tmp_path_factory.mktemp("state")) as url:
        yield request.param, url


def test_chromium_and_axe_are_here() -> None:
    assert shutil.which("chromium"), f"Chromium is missing: {INSTALL}"
    assert AXE.is_file(), f"{AXE} is missing: make test-tools installs it"


async def judged(tab: Tab) -> dict[str, list[object]]:
    await tab.evaluate(AXE.read_text(encoding="utf-8"))
    return dict(json.loads(await tab.evaluate(RULES)))


async def test_axe_finds_nothing(page: tuple[str, str]) -> None:
    name, url = page
    looked = 0
    async with chromium() as tab:
        for path in PATHS.get(name, ("",)):
            for width, scheme in SCREENS:
                await tab.open(url + path, width=width, scheme=scheme)
                found = await judged(tab)
                assert ([], []) == (found["violations"], found["undecided"]), (path, width, scheme)
                assert found["passes"]
                assert width == await tab.evaluate("document.documentElement.scrollWidth"), (path, width)
                looked += 1
        refused = [text for text in tab.complaints if "404" not in text]  # of the policy that is not there
    assert [] == refused
    assert looked == 4 * len(PATHS.get(name, ("",)))


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_of("halted", tmp_path_factory.mktemp("halted")) as url:
        yield url


async def test_axe_can_fail(halted: str) -> None:
    async with chromium() as tab:
        await tab.open(halted, width=1280)
        await tab.evaluate("document.querySelector('.said').style.color = '#c0c0c0'")
        await tab.evaluate("document.querySelector('th[scope=row]').setAttribute('role', 'button-ish')")
        found = await judged(tab)
    assert {"aria-roles", "color-contrast"} <= {str(one[0]) for one in found["violations"] if isinstance(one, list)}


MARK = "document.querySelector('main').dataset.old = 'yes'"
REPLACED = "document.querySelector('main').dataset.old === undefined"


async def test_the_script_refreshes_and_keeps_focus_and_scroll(halted: str) -> None:
    async with chromium() as tab:
        await tab.open(halted, width=360, height=500)
        await tab.evaluate("document.querySelectorAll('main a')[2].focus({preventScroll: true}); scrollTo(0, 700)")
        before = await tab.evaluate("[document.activeElement.getAttribute('href'), scrollY]")
        await tab.evaluate(MARK)
        await tab.until(REPLACED)
        assert before == await tab.evaluate("[document.activeElement.getAttribute('href'), scrollY]")
        assert before[1] == 700
        assert [] == tab.complaints


async def test_a_viewer_pauses_it_and_goes_on(halted: str) -> None:
    async with chromium() as tab:
        await tab.open(halted, width=1280)
        await tab.evaluate("document.getElementById('pause').click()")
        assert "Go on" == await tab.evaluate("document.getElementById('pause').textContent")
        await tab.evaluate(MARK)
        await asyncio.sleep(6)  # more than an interval: that nothing happens can only be waited for
        assert not await tab.evaluate(REPLACED)
        await tab.evaluate("document.getElementById('pause').click()")
        await tab.until(REPLACED)


async def test_what_a_viewer_selected_is_not_taken_away(halted: str) -> None:
    async with chromium() as tab:
        await tab.open(halted, width=1280)
        await tab.evaluate("getSelection().selectAllChildren(document.querySelector('.command'))")
        await tab.evaluate(MARK)
        await asyncio.sleep(6)
        assert not await tab.evaluate(REPLACED)
        await tab.evaluate("getSelection().removeAllRanges()")
        await tab.until(REPLACED)


async def test_without_script_the_page_is_whole(halted: str) -> None:
    async with chromium() as tab:
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.call("Page.navigate", url=halted)
        await tab.until("document.querySelectorAll('tbody tr').length === 7")
        assert await tab.evaluate("document.getElementById('pause').hidden")
        assert f"{halted}?" == await tab.evaluate("[...document.links].find((a) => a.text === 'Look again').href")


async def test_an_exporter_that_went_away_is_said(tmp_path: Path) -> None:
    with page_of("empty", tmp_path) as url:
        browser = chromium()
        tab = await browser.__aenter__()
        await tab.open(url, width=1280)
    try:
        await tab.until("document.getElementById('said').textContent.startsWith('No answer')")
        assert await tab.evaluate("document.querySelectorAll('tbody tr').length")
    finally:
        await browser.__aexit__(None, None, None)
