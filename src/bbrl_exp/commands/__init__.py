"""The commands of ``scripts/``, one module each: parse, call, print."""
