"""Graphs of tensor operations as machine code: whether they can be compiled here, how, and where the code is kept."""
