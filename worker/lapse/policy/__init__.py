"""The policy file: read strictly, compared by meaning, never guessed at."""

from lapse.policy.loader import load, parse
from lapse.policy.rules import Config, Keep, Orphan, Pace, Rule, Share, SweepSection
from lapse.policy.schema import schema

__all__ = ["Config", "Keep", "Orphan", "Pace", "Rule", "Share", "SweepSection", "load", "parse", "schema"]
