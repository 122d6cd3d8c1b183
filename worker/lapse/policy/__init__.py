"""The policy file."""

from lapse.policy.values import Account, Config, Keep, Orphan, Pace, Rule, Share, SweepSection

__all__ = ["Account", "Config", "Keep", "Orphan", "Pace", "Rule", "Share", "SweepSection"]
