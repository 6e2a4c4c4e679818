"""The gated transformer (GTrXL) over a sliding window, whose state is what the layers saw in the last rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.nn.cell import Cell
from bbrl_exp.nn.gated_transformer_arrays import ArrayGTrXL

linear = nn.functional.linear


class GTrXL(Cell):
    """A gated transformer with a memory of the last W rows (Parisotto et al., 2020, arXiv:1910.06764), for learners on
    policy. With u = E x + e at first, N the normalisation of a layer (Ba et al., 2016), and for each of L layers:

        u ← g₁(u, relu(attention of N(u) to the last W rows' N(u) and its own))    (equations 3 and 6)
        u ← g₂(u, relu(W₂ relu(W₁ N(u) + b₁) + b₂))                                (equation 7)

    where g(x, y) is a gated recurrent unit that leaves x almost as it is at first, by its bias of 2 (section 3.2):

        r = σ(W_r y + U_r x)    z = σ(W_z y + U_z x − b)    h = tanh(W_h y + U_h (r ⊙ x))    g = (1 − z) ⊙ x + z ⊙ h

    The output is the last u. A head weighs the row of d steps before by softmax(q · (k + p_d) / √(H / heads) + b_d),
    with learned p_d and b_d for each of the distances 0 … W (relative positions, as in Transformer-XL); rows before the
    episode's start weigh nothing. A layer reaches W rows back, so that L layers reach L W rows. At first b_d is 0 for
    one head, which sees the whole window, and −d, −d/4, −d/16 … for the others, which prefer what is recent (as in
    Press et al., 2022, arXiv:2108.12409).

    Deviations: N has neither gain nor bias, which the products after it contain; keys and values have no bias,
    which cancels or equals the output's.

    The state is the N(u) of the last W rows, the oldest first, and the number of these that belong to the episode:
    ``[B, W L H + 1]``. The gradient of :meth:`unroll` flows through all its rows, and into the state it begins with:
    the paper stops it there, and so does a learner that passes a recorded state. None flows into the number.

    Args:
        n_inputs: number D of numbers of an input.
        n_hidden: number H of numbers of an output, and of a layer.
        n_layers: number L of layers.
        n_heads: number of heads, a divisor of H.
        window: number W of rows that are kept.
        generator: source of the initial weights; torch's global one by default.

    Attributes:
        state_size: S = W L H + 1.

    Raises:
        ConfigurationError: a size below 1, or heads that do not divide H.
    """

    replayed = False

    def __init__(
        self,
        n_inputs: int,
        n_hidden: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
        window: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        AT_LEAST_1.check(n_layers=n_layers, n_heads=n_heads, window=window)
        super().__init__(n_inputs, n_hidden, window * n_layers * n_hidden + 1)
        if n_hidden % n_heads:
            raise ConfigurationError(f"n_heads={n_heads}: must divide n_hidden={n_hidden}")
        self.n_layers, self.n_heads, self.window = int(n_layers), int(n_heads), int(window)
        self.weight = nn.Parameter(torch.empty(self.n_hidden, self.n_inputs))
        self.bias = nn.Parameter(torch.zeros(self.n_hidden))
        with torch.no_grad():
            self.weight.normal_(std=1 / math.sqrt(self.n_inputs), generator=generator)
        self.layers = nn.ModuleList(
            _Layer(self.n_hidden, self.n_heads, self.window, generator) for _ in range(self.n_layers)
        )

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        first = self.window - _n_known(state).unsqueeze(0)
        outputs, seen = self._in_parallel(linear(x.unsqueeze(0), self.weight, self.bias), state, first)
        return outputs[0], _states(seen, first)[0]

    def unroll(self, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        embedded = linear(x, self.weight, self.bias)
        if not _is_finite(embedded, state):
            return super().unroll(x, state, starts)
        first = self._first(state, starts)
        outputs, seen = self._in_parallel(embedded, state, first)
        return outputs, _states(seen, first)

    def outputs(self, x: Tensor, state: Tensor, starts: Tensor) -> Tensor:
        """Those of :meth:`unroll`; its states hold W times as many numbers."""
        embedded = linear(x, self.weight, self.bias)
        if not _is_finite(embedded, state):
            return super().unroll(x, state, starts)[0]
        return self._in_parallel(embedded, state, self._first(state, starts))[0]

    def on_arrays(self) -> ArrayGTrXL:
        return ArrayGTrXL(self)

    def _first(self, state: Tensor, starts: Tensor) -> Tensor:
        """The number of the first row of what the layers see that row t may see, ``[T, B]``."""
        times = torch.arange(len(starts), device=starts.device).unsqueeze(1)
        # Of the episode, or of what is known.
        return self.window + torch.where(starts, times, -_n_known(state)).cummax(0).values

    def _in_parallel(self, rows: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The outputs ``[T, B, H]``, and what the layers saw, ``[W + T, B, H]`` each."""
        stored = state[:, :-1].view(-1, self.window, self.n_layers, self.n_hidden).permute(2, 1, 0, 3)
        seen = []
        for layer, before in zip(self.layers, stored, strict=True):
            seen.append(torch.cat((before, nn.functional.layer_norm(rows, (self.n_hidden,)))))
            rows = layer(rows, seen[-1], first)
        return rows, seen


def _n_known(state: Tensor) -> Tensor:
    """How many of the rows in a state belong to the episode, int64 ``[B]``."""
    return state[:, -1].detach().round().long()


def _is_finite(embedded: Tensor, state: Tensor) -> bool:
    """Whether no NaN and no infinity is among them, which a weight of 0 would not hide."""
    return bool((embedded.sum() + state.sum()).isfinite())


def _states(seen: list[Tensor], first: Tensor) -> Tensor:
    return _States.apply(torch.stack(seen, dim=2), first)  # type: ignore[no-any-return, no-untyped-call]


class _States(torch.autograd.Function):
    """The states after each row, ``[T, B, S]``, of what the layers saw, ``[W + T, B, L, H]``, in one copy of it."""

    @staticmethod
    def forward(ctx: FunctionCtx, seen: Tensor, first: Tensor) -> Tensor:
        n_steps, batch_size = first.shape
        window = len(seen) - n_steps
        states = seen.new_empty(n_steps, batch_size, window * seen[0, 0].numel() + 1)
        rows = states[..., :-1].view(n_steps, batch_size, window, *seen.shape[2:])
        rows.copy_(seen[1:].unfold(0, window, 1).permute(0, 1, 4, 2, 3))
        times = torch.arange(1, n_steps + 1, device=first.device).unsqueeze(1)
        n_known = (times + window - first).clamp(max=window)
        is_over = torch.arange(window, device=first.device) < window - n_known.unsqueeze(2)
        rows.masked_fill_(is_over.view(*is_over.shape, 1, 1), 0.0)
        states[..., -1] = n_known
        ctx.save_for_backward(is_over)
        ctx.shape = seen.shape  # type: ignore[attr-defined]
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_states: Tensor) -> tuple[Tensor, None]:
        (is_over,) = ctx.saved_tensors  # type: ignore[attr-defined]
        d_seen = d_states.new_zeros(ctx.shape)  # type: ignore[attr-defined]
        d_rows = d_states[..., :-1].view(*is_over.shape, *d_seen.shape[2:])
        d_rows = d_rows.masked_fill(is_over.view(*is_over.shape, 1, 1), 0.0)
        for number, d_row in enumerate(d_rows.unbind(2), start=1):
            d_seen[number : number + len(d_row)] += d_row
        return d_seen, None


class _Layer(nn.Module):
    """One layer.

    Args:
        size: number H of its inputs and outputs.
        n_heads: of the attention.
        window: number W of rows that it sees beside the present one.
        generator: source of the initial weights.
    """

    def __init__(self, size: int, n_heads: int, window: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.window = window
        self.query_weight, self.query_bias = _affine(size, size)
        self.key_weight, self.value_weight = _affine(size, size)[0], _affine(size, size)[0]
        self.positions = nn.Parameter(torch.empty(window + 1, size))  # of the oldest first
        self.distance_bias = nn.Parameter(torch.zeros(window + 1, n_heads))
        self.output_weight, self.output_bias = _affine(size, size)
        self.attention_gate = Gate(size, generator)
        self.first_weight, self.first_bias = _affine(size, 2 * size)
        self.second_weight, self.second_bias = _affine(2 * size, size)
        self.perceptron_gate = Gate(size, generator)
        with torch.no_grad():
            for weight in (self.query_weight, self.key_weight, self.value_weight, self.output_weight):
                nn.init.orthogonal_(weight, generator=generator)
            for weight in (self.first_weight, self.second_weight):
                nn.init.orthogonal_(weight, math.sqrt(2), generator=generator)
            self.positions.normal_(generator=generator)
            slopes = 4.0 ** -torch.arange(n_heads - 1)
            self.distance_bias[:, 1:] = -torch.arange(window, -1, -1.0).unsqueeze(1) * slopes

    def forward(self, rows: Tensor, seen: Tensor, first: Tensor) -> Tensor:
        """The rows ``[T, B, H]`` after the layer.

        Args:
            rows: before it, ``[T, B, H]``.
            seen: what it sees, ``[W + T, B, H]``; row t is number W + t.
            first: number of the first row that row t may see, int64 ``[T, B]``.
        """
        attended = linear(self._attention(seen, first), self.output_weight, self.output_bias)
        rows = self.attention_gate(rows, attended.relu())
        normal = nn.functional.layer_norm(rows, rows.shape[-1:])
        hidden = linear(normal, self.first_weight, self.first_bias).relu()
        return self.perceptron_gate(rows, linear(hidden, self.second_weight, self.second_bias).relu())  # type: ignore[no-any-return]

    def _attention(self, seen: Tensor, first: Tensor) -> Tensor:
        """Means of the values that each row sees, ``[T, B, H]``, in blocks of rows so that few are computed in vain."""
        window, n_heads = self.window, self.n_heads
        n_steps, batch_size = first.shape
        size = seen.shape[2]
        n_blocks = -(-n_steps // max(window, 32))
        length = -(-n_steps // n_blocks)
        missing = n_blocks * length - n_steps
        if missing:
            seen = torch.cat((seen, seen.new_zeros(missing, batch_size, size)))
            first = torch.cat((first, first.new_zeros(missing, batch_size)))

        def heads(rows: Tensor) -> Tensor:
            """``[blocks, B, heads, rows, H / heads]`` of ``[blocks, rows, B, H]``."""
            return rows.view(*rows.shape[:3], n_heads, -1).permute(0, 2, 3, 1, 4)

        queries = linear(seen[window:], self.query_weight, self.query_bias) / math.sqrt(size // n_heads)
        queries = heads(queries.view(n_blocks, length, -1, size))
        keys_values = linear(seen, torch.cat((self.key_weight, self.value_weight)))
        spans = [keys_values[i * length : i * length + length + window] for i in range(n_blocks)]
        keys, values = (heads(part) for part in torch.stack(spans).chunk(2, dim=3))
        positions = self.positions.view(window + 1, n_heads, -1).permute(1, 2, 0)  # [heads, H / heads, W + 1]
        by_distance = queries @ positions + self.distance_bias.T.unsqueeze(1)
        scores = queries @ keys.transpose(3, 4) + _skewed(by_distance)
        row = torch.arange(length, device=seen.device).view(-1, 1, 1)
        number = torch.arange(length + window, device=seen.device)
        begin = torch.arange(0, n_blocks * length, length, device=seen.device).view(-1, 1, 1, 1)
        hidden = number < (first.view(n_blocks, length, -1, 1) - begin).maximum(row)
        hidden = hidden | (number > row + window)  # [blocks, rows, B, rows + W]
        scores = scores.masked_fill(hidden.permute(0, 2, 1, 3).unsqueeze(2), -torch.inf)
        means = (scores.softmax(dim=4) @ values).permute(0, 3, 1, 2, 4)
        return means.reshape(n_blocks * length, batch_size, size)[:n_steps]


class Gate(nn.Module):
    """The gate g(x, y) of :class:`GTrXL`, x what passes and y what is to be added.

    Args:
        size: number H of numbers of both.
        generator: source of the initial weights.
    """

    def __init__(self, size: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.new_weight = nn.Parameter(torch.empty(3 * size, size))  # W of r, z, h
        self.old_weight = nn.Parameter(torch.empty(2 * size, size))  # U of r, z
        self.candidate_weight = nn.Parameter(torch.empty(size, size))  # U of h
        self.bias = nn.Parameter(torch.full((size,), 2.0))
        with torch.no_grad():
            for weights in (self.new_weight, self.old_weight, self.candidate_weight):
                for weight in torch.split(weights, size):
                    nn.init.orthogonal_(weight, generator=generator)

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        """``[…, H]`` of ``[…, H]``."""
        size = old.shape[-1]
        from_new, from_old = linear(new, self.new_weight), linear(old, self.old_weight)
        reset = (from_new[..., :size] + from_old[..., :size]).sigmoid()
        update = (from_new[..., size : 2 * size] + from_old[..., size:] - self.bias).sigmoid()
        candidate = (from_new[..., 2 * size :] + linear(reset * old, self.candidate_weight)).tanh()
        return torch.lerp(old, candidate, update)


def _affine(n_inputs: int, n_outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.empty(n_outputs, n_inputs)), nn.Parameter(torch.zeros(n_outputs))


def _skewed(scores: Tensor) -> Tensor:
    """``[…, rows, rows + W]`` of ``[…, rows, W + 1]``: row t is moved t places to the right, between zeros."""
    n_rows, n_places = scores.shape[-2:]
    padded = nn.functional.pad(scores, (0, n_rows)).flatten(-2)
    return padded[..., :-n_rows].view(*scores.shape[:-1], n_rows + n_places - 1)
