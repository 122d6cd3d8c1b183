"""What is recorded at a time: Redis' answer to one batch keeps neither others waiting, nor the next claims."""

import asyncio
from typing import Any, cast

import pytest

from lapse.sweep.executor import BATCH, Executor


class Book:
    """Records batches, each once it is let."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.most = self._open = 0
        self.let = asyncio.Event()

    async def seen(self, batches: int) -> None:
        """Wait until so many are being recorded; let them all if they never are."""
        try:
            async with asyncio.timeout(10):
                while len(self.begun) < batches:
                    await asyncio.sleep(0.001)
        except TimeoutError:
            self.let.set()
            raise

    async def settle(self, batch: list[Any]) -> None:
        self.begun.append(len(batch))
        self._open += 1
        self.most = max(self.most, self._open)
        await self.let.wait()
        self._open -= 1


def made(book: Book, concurrency: int) -> Executor:
    async def delete(claim: Any) -> Any:
        return claim

    async def resolve(_waiting: Any) -> list[Any]:
        return []

    return Executor(concurrency, delete, book.settle, lambda claim: cast("Any", claim), resolve)


@pytest.mark.parametrize(("concurrency", "beside"), [(8, 1), (64, 1), (256, 5)])
async def test_as_many_batches_are_recorded_at_a_time_as_run_at_once(
    concurrency: int, beside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lapse.sweep.executor.SLOW", 60.0)
    book = Book()
    async with made(book, concurrency) as executor:
        executor.submit(cast("Any", range(8 * BATCH)))
        await book.seen(beside)
        for _ in range(100):
            await asyncio.sleep(0)
        begun, room = list(book.begun), executor.room()
        book.let.set()

    assert [BATCH] * beside == begun
    assert 0 == room, "nothing more is claimed while so much waits"
    assert beside == book.most
    assert 8 * BATCH == sum(book.begun)


@pytest.mark.parametrize(("concurrency", "room"), [(8, False), (256, True)])
async def test_a_batch_that_waits_keeps_no_claims_from_those_that_run_at_once(concurrency: int, room: bool) -> None:
    book = Book()
    async with made(book, concurrency) as executor:
        executor.submit(cast("Any", range(BATCH + 1)))
        await book.seen(1)
        left = executor.room()
        book.let.set()

    assert room == (left > 0)
