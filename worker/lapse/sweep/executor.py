"""What a sweep runs on: deletions in flight, outcomes recorded in batches of at most 50 or 50 ms.

A claim whose id was not found waits, without a request, for what proves it: until nothing else is in flight, 50 wait,
or 5 s have passed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from lapse.guards.absence.absences import Absent
from lapse.ledger.claim import Claim
from lapse.ledger.settle import Settled

BATCH = 50
LINGER = 0.05
PATIENCE = 5.0  # for requests in flight when a sweep has to end
ABSENT_WAIT = 5.0  # seconds
ABSENT_MOST = 2 * BATCH  # claims that wait before no more are taken
SLOW = 0.25  # seconds that a batch has before the next one is recorded beside it


Delete = Callable[[Claim], Awaitable[Settled | Absent]]
Settle = Callable[[list[Settled]], Coroutine[Any, Any, None]]


class Executor:
    """Runs ``delete`` on claims, at most ``concurrency`` at a time, and gives what comes out to ``settle`` in batches.

    Leaving the context waits for what is in flight; claims not yet begun come back through ``unused``.
    """

    def __init__(
        self,
        concurrency: int,
        delete: Delete,
        settle: Settle,
        unused: Callable[[Claim], Settled],
        resolve: Callable[[Sequence[Absent]], Awaitable[list[Settled]]],
    ) -> None:
        self._concurrency = concurrency
        self._waiting_most = max(BATCH, concurrency)  # outcomes that are not recorded before no more is taken
        self._beside = max(1, concurrency // BATCH)  # batches that are recorded at a time
        self._delete = delete
        self._settle = settle
        self._unused = unused
        self._resolve = resolve
        self._queue: deque[Claim] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._done: list[Settled] = []
        self._absent: list[Absent] = []
        self._quiet = asyncio.Event()
        self._resolver = asyncio.create_task(self._keep_resolving())
        self._leaving = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._enough = asyncio.Event()
        self._recorder = asyncio.create_task(self._keep_recording())
        self._recording: set[asyncio.Task[None]] = set()
        self._unrecorded = 0
        self._failure: BaseException | None = None
        self._ending = False
        self._recorded = 0

    def submit(self, claims: Iterable[Claim]) -> None:
        """Take claims; begin as many as may run at once."""
        self._queue.extend(claims)
        self._begin()

    def _begin(self) -> None:
        while self._queue and len(self._running) < self._concurrency:
            task = asyncio.create_task(self._take())
            self._running.add(task)
            task.add_done_callback(self._left)

    @property
    def idle(self) -> bool:
        """True if nothing is in flight, and nothing waits for a proof or to be recorded."""
        return not (self._running or self._queue or self._done or self._unrecorded or self._absent)

    @property
    def recording(self) -> bool:
        """True while outcomes are recorded: until the executor is left, or what ends the sweep ended that."""
        return self._failure is None and not self._recorder.done()

    def room(self) -> int:
        """Return how many more claims keep it busy while the next ones are fetched.

        None while more than a batch, and than runs at once, waits to be recorded: Redis does not take outcomes, and
        more would wait.
        """
        if self._failure:
            raise self._failure  # what ended a recording ends the sweep
        if len(self._absent) >= ABSENT_MOST or len(self._done) + self._unrecorded > self._waiting_most:
            return 0
        return max(0, 2 * self._concurrency - len(self._queue) - len(self._running))

    async def vacancy(self, within: float) -> None:
        """Wait at most ``within`` seconds until half of what may run at once is worked off, or nothing is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while len(self._queue) > self._concurrency // 2 or not self.room():
            self._room.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._room.wait()
            except TimeoutError:
                return

    async def drain(self, within: float) -> bool:
        """Wait until nothing is in flight and everything is recorded, at most ``within`` seconds.

        Returns:
            True if anything was recorded meanwhile: what that used may be free, and due, now.

        """
        loop = asyncio.get_running_loop()
        deadline, recorded = loop.time() + within, self._recorded
        while not self.idle and loop.time() < deadline and self.recording:
            self._room.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._room.wait()
            except TimeoutError:
                break
        return self._recorded > recorded

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In this order: what is in flight may still find ids absent, and what is resolved is still to be recorded.
        self._done += [self._unused(claim) for claim in self._queue]
        self._queue.clear()
        self._news.set()
        if self._running:
            _done, late = await asyncio.wait(self._running, timeout=PATIENCE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._leaving = True
        self._quiet.set()
        try:
            await self._resolver
        finally:
            self._ending = True
            self._news.set()
            self._enough.set()
            await self._recorder

    async def _take(self) -> None:
        while self._queue:
            claim = self._queue.popleft()
            if len(self._queue) <= self._concurrency // 2:
                self._room.set()
            outcome = await self._delete(claim)
            if isinstance(outcome, Absent):
                self._absent.append(outcome)
                self._quiet.set()
                continue
            self._done.append(outcome)
            self._news.set()
            if len(self._done) >= BATCH:
                self._enough.set()

    def _left(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()  # claims may have come between a hand's last look and its end
        if not self._running:
            self._enough.set()
            self._quiet.set()
        self._room.set()

    async def _keep_resolving(self) -> None:
        while not (self._leaving and not self._absent):
            await self._quiet.wait()
            await self._others()
            batch = self._absent[:BATCH]
            if batch:
                # Taken out afterwards: meanwhile it must not look idle, or the sweep ends before they are recorded.
                self._done += await self._resolve(batch)
                del self._absent[: len(batch)]
                self._news.set()
            self._room.set()
            if not self._absent and not self._leaving:
                self._quiet.clear()

    async def _others(self) -> None:
        """Let others join what waits for a proof, as long as anything is in flight: one proof serves all of them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABSENT_WAIT):
                while self._running and len(self._absent) < BATCH and not self._leaving:
                    self._quiet.clear()
                    await self._quiet.wait()

    async def _keep_recording(self) -> None:
        while not (self._ending and not self._done):
            await self._news.wait()
            self._news.clear()
            await self._linger()
            if self._done:
                self._begin_recording()
            if len(self._recording) >= self._beside:
                # What comes in while a batch is said again and again is no less confirmed: it is said, and kept on
                # disk, beside it, and not after it.
                await asyncio.wait(self._recording, timeout=SLOW, return_when=asyncio.FIRST_COMPLETED)
            if self._done:
                self._news.set()
            self._room.set()
        if self._recording:
            await asyncio.wait(self._recording)
        if self._failure:
            raise self._failure

    def _begin_recording(self) -> asyncio.Task[None]:
        batch = self._done[:BATCH]
        del self._done[: len(batch)]
        self._unrecorded += len(batch)
        task = asyncio.create_task(self._settle(batch))
        self._recording.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._recording.discard(task)
            failure = asyncio.CancelledError() if task.cancelled() else task.exception()
            if failure:
                self._failure = self._failure or failure
            else:
                self._unrecorded -= len(batch)
                self._recorded += len(batch)
            self._room.set()

        task.add_done_callback(ended)
        return task

    async def _linger(self) -> None:
        """Let others join a batch that is not full, as long as any are in flight."""
        self._enough.clear()
        if len(self._done) < BATCH and self._running and not self._ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._enough.wait()
