"""One enforced policy without limits, from which a test says what its own differs by: ``replace(RULE, ttl=...)``."""

from lapse.policy import Rule
from lapse.registry.model import Partition

RULE = Rule(
    partition=Partition("openai", "thread", "chat"),
    ttl=7 * 86400,
    anchor="created_at",
    max_age=None,
    orphan=None,
    keep=(),
    cascade={},
    enforce=True,
    max_deletions=None,
    max_newly_due=None,
    touches_stated=False,
    expect_gone=False,
    cancel=False,
    every=60,
    formerly=(),
    digest="digest000001",
)
