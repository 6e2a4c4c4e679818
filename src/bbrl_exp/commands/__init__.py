"""The commands of ``bbrl-exp``, one module each: parse, call, print."""
