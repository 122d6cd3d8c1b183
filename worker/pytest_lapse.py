"""The fixture ``lapse_scope`` of pytest; it loads nothing before a test asks for it."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapse.tracking.scope import CreationScope


@pytest.fixture
def lapse_scope() -> "Iterator[Callable[..., CreationScope]]":
    """Return a way to enter a scope that ends with the test; it takes what ``lapse.scope`` takes."""
    from lapse.tracking.scope import scope  # noqa: PLC0415 - see above

    with ExitStack() as stack:

        def entered(client: Any, **options: Any) -> "CreationScope":
            return stack.enter_context(scope(client, **options))

        yield entered
