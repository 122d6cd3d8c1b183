"""The policy file: read strictly, compared by meaning, never guessed at."""

from lapse.policy.loading import load, parse
from lapse.policy.models import schema
from lapse.policy.values import Account, Config, Keep, Orphan, Pace, Rule, Share, SweepSection

__all__ = ["Account", "Config", "Keep", "Orphan", "Pace", "Rule", "Share", "SweepSection", "load", "parse", "schema"]
