"""What tests of users call."""

from bbrl_exp.testing.memory import check_agent_memory, check_memory
from bbrl_exp.testing.report import Check, MemoryReport

__all__ = ["Check", "MemoryReport", "check_agent_memory", "check_memory"]
