"""The policy file: read strictly, compared by meaning, never guessed at."""

from lapse.policy.loader import load, parse
from lapse.policy.rules import Account, Config, Keep, Orphan, Pace, Rule, Share, SweepSection
from lapse.policy.schema import schema

__all__ = ["Account", "Config", "Keep", "Orphan", "Pace", "Rule", "Share", "SweepSection", "load", "parse", "schema"]
