"""Linear layers of a model exchanged for other ones, those that read the same for one that computes all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[nn.Module, str]  # of a layer: whose it is, and its name there


class Share(nn.Module):
    """One of some layers of `sizes` outputs: whichever is called first computes all for those fed the same after it."""

    def __init__(self, whole: nn.Module, sizes: Sequence[int], index: int, kept: list[Any]) -> None:
        super().__init__()
        self.whole, self._sizes, self._index = whole, sizes, index
        self._kept = kept  # shared: what was fed and the outputs, while they are wanted

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., in_features] through this layer."""
        if self._index == 0 or self._kept[0] is not x:
            self._kept[:] = x, self.whole(x).split(self._sizes, -1)
        part: Tensor = self._kept[1][self._index]
        if self._index == len(self._sizes) - 1:
            self._kept[:] = None, ()
        return part


def linear_places(model: nn.Module, wanted: Callable[[nn.Linear], bool] = lambda _: True) -> list[Place]:
    """Where the model's plain linear layers are that are wanted."""
    return [(parent, name) for parent in model.modules() for name, child in parent.named_children()
            if type(child) is nn.Linear and wanted(child)]  # fmt: skip


def join(linears: Sequence[nn.Linear]) -> nn.Linear:
    """A layer whose outputs are those of all the layers side by side; itself, where there is one."""
    first = linears[0]
    if len(linears) == 1:
        return first
    sizes = first.in_features, sum(linear.out_features for linear in linears)
    joined = nn.Linear(*sizes, bias=first.bias is not None, device="meta")
    joined.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]), requires_grad=False)
    if first.bias is not None:
        joined.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
    return joined


@torch.inference_mode()
def exchange(model: nn.Module, places: list[Place], made: Callable[[nn.Linear], nn.Module]) -> bool:
    """Puts what is made of a layer in its place, of several at once in those of their shares; whether there were any.

    Layers are several where they read the same, as a query, its key and value do: on a CPU a call costs 20 to 60
    microseconds besides its work, the latter through oneDNN.
    """
    groups = _together(model, places)
    # By their places, for whoever held a layer would hold its weight: besides, only one group exists more than once.
    for group in groups:
        sizes, kept = [getattr(*place).out_features for place in group], [None, ()]
        whole = made(join([getattr(*place) for place in group]))
        for index, (parent, name) in enumerate(group):
            setattr(parent, name, Share(whole, sizes, index, kept) if len(group) > 1 else whole)
    return any(len(group) > 1 for group in groups)


def _together(model: nn.Module, places: list[Place]) -> list[list[Place]]:
    """Places of layers in groups: those of one module that a short pass feeds the same tensor in turn; others alone."""
    calls: list[tuple[int, Tensor]] = []  # holds what was fed, so that nothing else takes its place
    hooks = [getattr(*place).register_forward_pre_hook(partial(_note, calls, at)) for at, place in enumerate(places)]
    device = next(model.parameters()).device
    model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device), use_cache=False)
    for hook in hooks:
        hook.remove()
    times = Counter(at for at, _ in calls)

    def key(call: tuple[int, Tensor]) -> tuple[object, ...]:
        at, fed = call
        return places[at][0], id(fed), getattr(*places[at]).bias is None, times[at] == 1

    runs = [[at for at, _ in run] for found, run in groupby(calls, key) if found[-1]]
    single = set(range(len(places))).difference(*runs)
    return [[places[at] for at in run] for run in [*runs, *([at] for at in sorted(single))]]


def _note(calls: list[tuple[int, Tensor]], at: int, module: nn.Module, fed: tuple[Tensor, ...]) -> None:
    if fed:  # a layer called by keyword stays alone
        calls.append((at, fed[0]))
