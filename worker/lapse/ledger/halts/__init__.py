"""Operators' switches and the halts a guard sets, and the names of a policy that both stand under."""

from lapse.ledger.halts.halts import REWIND, Halt, Halts, plan_hash

__all__ = ["REWIND", "Halt", "Halts", "plan_hash"]
