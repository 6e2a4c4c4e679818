"""Linear recurrences over time, in parallel: the associative scan (Blelloch, 1990; Martin & Cundy, 2018).

    h_t = a_t ⊙ h_{t−1} + b_t,  and h_{t−1} counts as 0 where an episode starts at t

Two steps in a row are one step of the same form: (a, b) and then (a', b') are (a' a, a' b + b'). So a scan of half the
length finds every second row, and the others follow from their predecessors: 2.5 times the arithmetic of a loop, in a
number of operations that grows with log T. No quotient and no logarithm is taken; products that underflow are 0, as in
the loop. A start makes a factor 0, and thus all products with it, so that nothing passes it.

On the CPU a few rows cost less in a loop of numpy's than in another halving, and so do rows so wide that arithmetic
costs more than the calls. The gradient is the recurrence in reverse, g_t = ∂L/∂h_t + a*_{t+1} ⊙ g_{t+1}.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Method = Literal["scan", "loop"]

# On the CPU, as measured by benchmarks/memory_speed.py: rows from which on a halving pays, and bytes of a row up to
# which it does.
FEWEST_ROWS, WIDEST_ROW = 256, 2048


def linear_scan(decay: Tensor, inputs: Tensor, state: Tensor, starts: Tensor, method: Method | None = None) -> Tensor:
    """All values h of a linear recurrence.

    Args:
        decay: a, ``[T, B, N]``, or ``[N]`` where it is the same at all times; real or complex.
        inputs: b, ``[T, B, N]``, T at least 1, of the same dtype and on the same device.
        state: h before the first row, ``[B, N]``.
        starts: bool ``[T, B]``: h counts as 0 before row t where ``starts[t]``.
        method: ``scan``, ``loop``, or None for the faster of the two. They agree up to rounding.

    Returns:
        h, ``[T, B, N]``. Its gradient reaches ``decay``, ``inputs`` and, up to the first start, ``state``.
    """
    return _LinearScan.apply(decay, inputs, state, starts, method)  # type: ignore[no-any-return, no-untyped-call]


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, decay: Tensor, inputs: Tensor, state: Tensor, starts: Tensor, method: Method | None
    ) -> Tensor:
        is_constant = decay.ndim == 1
        first = ((decay if is_constant else decay[0]) * state).masked_fill_(starts[0].unsqueeze(1), 0.0)
        factors = decay.expand_as(state) if is_constant else decay[1:]
        hidden = _accumulated(inputs, first, factors, starts[1:], method)
        ctx.save_for_backward(decay, state, starts, hidden)
        ctx.method = method  # type: ignore[attr-defined]
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        decay, state, starts, hidden = ctx.saved_tensors  # type: ignore[attr-defined]
        is_constant = decay.ndim == 1
        back = decay.conj().resolve_conj()
        factors = back.expand_as(state) if is_constant else back[1:]
        gradients = d_hidden.resolve_conj().resolve_neg()
        d_inputs = _accumulated(gradients, None, factors, starts[1:], ctx.method, is_reverse=True)  # type: ignore[attr-defined]
        d_state = ((back if is_constant else back[0]) * d_inputs[0]).masked_fill_(starts[0].unsqueeze(1), 0.0)
        d_decay = torch.empty_like(d_inputs)
        torch.mul(d_inputs[0], state.conj(), out=d_decay[0])
        torch.mul(d_inputs[1:], hidden[:-1].conj(), out=d_decay[1:])
        d_decay.masked_fill_(starts.unsqueeze(2), 0.0)
        return d_decay.sum((0, 1)) if is_constant else d_decay, d_inputs, d_state, None, None


def _accumulated(
    inputs: Tensor,
    first: Tensor | None,
    factors: Tensor,
    is_broken: Tensor,
    method: Method | None,
    *,
    is_reverse: bool = False,
) -> Tensor:
    """The values h of all rows.

    Args:
        inputs: ``[T, B, N]``.
        first: what is added to the first of them, ``[B, N]``.
        factors: between each row and the next, ``[T − 1, B, N]``, or ``[B, N]`` for all of them.
        is_broken: which of these are 0 after all, bool ``[T − 1, B]``.
        method: as for :func:`linear_scan`.
        is_reverse: from the last row to the first.
    """
    is_any_broken = bool(is_broken.any())
    if _pays(inputs) if method is None else method == "scan" and len(inputs) > 2:
        rows = _begun(inputs.flip(0) if is_reverse else inputs, first)
        links = factors
        if is_any_broken:
            each = factors if factors.ndim == 3 else factors.expand(len(is_broken), -1, -1)
            links = each.masked_fill(is_broken.unsqueeze(2), 0.0)
        _scan(rows, links.flip(0) if is_reverse and links.ndim == 3 else links)
        # 0 · ∞ is NaN, which would pass a start, and then stay to the end.
        if not (is_any_broken and not rows[-1].isfinite().all()):
            return rows.flip(0) if is_reverse else rows
    rows = _begun(inputs, first)
    _loop(rows, factors, is_broken if is_any_broken else None, is_reverse=is_reverse)
    return rows


def _begun(inputs: Tensor, first: Tensor | None) -> Tensor:
    rows = inputs.detach().clone(memory_format=torch.contiguous_format)
    if first is not None:
        rows[0] += first
    return rows


def _pays(rows: Tensor) -> bool:
    """Whether a halving is faster than a loop."""
    if rows.device.type != "cpu":
        return len(rows) > 2
    return len(rows) >= FEWEST_ROWS and rows[0].numel() * rows.itemsize <= WIDEST_ROW


def _scan(rows: Tensor, factors: Tensor) -> None:
    """Turns the inputs in ``rows``, ``[T, B, N]``, into the values h."""
    n_pairs = len(rows) // 2
    second = rows[1::2]
    if factors.ndim == 2:
        even = odd = factors
        joined = factors * factors
    else:
        even, odd = factors[::2], factors[1::2]
        joined = odd[: n_pairs - 1] * even[1:]
    second.addcmul_(rows[: 2 * n_pairs : 2], even)
    if _pays(second):
        _scan(second, joined)
    else:
        _loop(second, joined, None)
    rows[2::2].addcmul_(second[: (len(rows) - 1) // 2], odd)


def _loop(rows: Tensor, factors: Tensor, is_broken: Tensor | None, *, is_reverse: bool = False) -> None:
    """The same, row by row."""
    if rows.device.type != "cpu" or rows.dtype == torch.bfloat16:
        _loop_in_torch(rows, factors, is_broken, is_reverse=is_reverse)
        return
    order = slice(None, None, -1 if is_reverse else 1)
    values: Any = rows.numpy()[order]
    of_each: Any = itertools.repeat(factors.numpy()) if factors.ndim == 2 else factors.numpy()[order]
    breaks: Any = itertools.repeat(None) if is_broken is None else is_broken.numpy()[order]
    before, product = values[0], np.empty_like(values[0])
    with np.errstate(all="ignore"):
        for row, factor, broken in zip(values[1:], of_each, breaks, strict=False):
            np.multiply(before, factor, out=product)
            if broken is not None and np.count_nonzero(broken):
                product[broken] = 0
            row += product
            before = row


def _loop_in_torch(rows: Tensor, factors: Tensor, is_broken: Tensor | None, *, is_reverse: bool) -> None:
    links = range(len(rows) - 1)
    for t in reversed(links) if is_reverse else links:
        before, after = (t + 1, t) if is_reverse else (t, t + 1)
        products = rows[before] * (factors if factors.ndim == 2 else factors[t])
        rows[after] += products if is_broken is None else products.masked_fill_(is_broken[t].unsqueeze(1), 0.0)
