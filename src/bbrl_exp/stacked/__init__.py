"""Several runs that are built alike, trained side by side in one process: stacked parameters and batched maths."""
