"""Updates of learners as compiled graphs: losses, backward pass, clipping, optimizer and targets in one."""
