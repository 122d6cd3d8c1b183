"""What is written once for threads and for event loops: steps, each of which yields what a call has returned.

Of a class that awaits, that is what is to be awaited; of any other it is the answer itself.
"""

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")
Steps = Generator[Any, Any, T]


def taken(steps: Steps[Any], *, awaits: bool) -> Any:
    """Take the steps to their end, and return what they come to; of those that await, what has to be awaited."""
    if awaits:
        return _awaited(steps)
    try:
        answer = next(steps)
        while True:
            answer = steps.send(answer)
    except StopIteration as end:
        return end.value


async def _awaited(steps: Steps[Any]) -> Any:
    try:
        wanted = next(steps)
        while True:
            try:
                answer = await wanted
            except BaseException as error:  # noqa: BLE001 - the steps let it through, or know what to do about it
                wanted = steps.throw(error)
            else:
                wanted = steps.send(answer)
    except StopIteration as end:
        return end.value
