"""The policy file: read strictly, compared by meaning, never guessed at."""

from lapse.policy.loader import load, parse
from lapse.policy.rules import Config, Orphan, Rule
from lapse.policy.schema import schema
from lapse.policy.tables import Keep, Pace, Share, SweepSection

__all__ = ["Config", "Keep", "Orphan", "Pace", "Rule", "Share", "SweepSection", "load", "parse", "schema"]
