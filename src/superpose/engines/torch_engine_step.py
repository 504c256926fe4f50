"""One step of all lanes as a function of tensors: forward pass, readout and shortlist, with nothing said to the host.

Everything that differs from step to step lies in tensors that stay where they are. On a GPU steps are padded to few
shapes, so that each shape can be captured once as a CUDA graph and then replayed by a single call; elsewhere the same
function runs over just the lanes that are asked for, on a CPU with its forward pass as a recorded program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from superpose.engine import Readout
from superpose.engines.readout import FEW
from superpose.engines.torch_engine_cache import Slots
from superpose.engines.torch_engine_memory import ran_out
from superpose.engines.torch_engine_readout import Asked, Rows, measure, room, shortlist
from superpose.engines.torch_engine_recorded import Forward, Recorded

_WARM_UPS = 3


class Held(NamedTuple):
    """What a step takes, at fixed addresses."""

    fed: Tensor  # [n, width] in the model's dtype
    rows: Tensor  # [n]
    columns: Tensor  # [n]
    u: Tensor  # the rest as in `Asked`
    temperature: Tensor | None
    cold: Tensor | None


class Seen(NamedTuple):
    """What a step gives, on the device."""

    logits: Tensor  # [n, vocab]
    scores: Tensor
    numbers: Tensor
    shortlist: Tensor | None


class Steps:
    """Runs steps of the lanes of some slots."""

    def __init__(
        self, forward: Forward, slots: Slots, device: torch.device, lanes: int, opaque: Sequence[Tensor]
    ) -> None:
        self._forward, self._slots, self._device, self._lanes = forward, slots, device, lanes
        self.padded = device.type == "cuda"
        self._recorded = Recorded(forward, slots, opaque) if device.type == "cpu" else None
        self._held: dict[int, Held] = {}  # by the rows of a step
        self._room: Tensor | None = None  # for readouts
        self._graphs = Graphs(device) if self.padded else None

    def run(self, lanes: Sequence[int], fed: Tensor, asks: Sequence[Readout]) -> tuple[Tensor, Rows]:
        """Logits [n, vocab] and readouts after `fed` [n, width] at the ends of lanes, in the order of `arrange`."""
        n = len(lanes)
        if not self.padded:
            columns = torch.tensor(self._slots.plan_step(lanes, 0), device=self._device)
            first = self._slots.row[lanes[0]]
            rows = torch.arange(first, first + n, device=self._device)
            seen = self.compute(Held(fed, rows, columns, *Asked.of(asks).to(self._device)))
            return seen.logits, Rows(seen.scores, seen.numbers)
        size = min(1 << (n - 1).bit_length(), self._lanes)
        held = self._fill(self._slots.plan_step(lanes, size), fed, asks)
        step = self._graphs or Graphs.plainly
        seen = step(self._slots.shape(), self.compute, held)
        return seen.logits[:n], Rows(seen.scores[:n], seen.numbers[:n], seen.shortlist)

    def compute(self, held: Held) -> Seen:
        """The step that was planned, of tensors only; with a shortlist where its length is not to be awaited."""
        self._slots.write(held.rows, held.columns)
        positions, forward = held.columns[:, None], self._recorded or self._forward
        logits = forward(held.fed[:, None], positions, self._slots.masks(positions, held.fed.dtype))
        scores, numbers = measure(logits, Asked(held.u, held.temperature, held.cold), self._roomy(logits))
        ready = shortlist(scores, numbers, min(FEW, scores.shape[1])) if self.padded else None
        return Seen(logits, scores, numbers, ready)

    def _roomy(self, logits: Tensor) -> Tensor | None:
        """Where readouts are computed; a CUDA graph has memory of its own."""
        if self._recorded is None:
            return None
        if self._room is None or self._room.shape[1] < len(logits):
            self._room = room(*logits.shape, logits.device)
        return self._room

    def proved(self) -> bool:
        """Whether the last step was more than a pass: a recording, or one compared with the pass itself."""
        return self._recorded is not None and self._recorded.proving

    def words(self) -> tuple[str, ...]:
        """How steps run, for the self-check."""
        how = self._graphs or self._recorded
        return how.words() if how else ()

    def _fill(self, columns: list[int], fed: Tensor, asks: Sequence[Readout]) -> Held:
        """Writes what a step takes to where it is read; rows behind the lanes are fed zeros."""
        size, n = len(columns), len(fed)
        rows = torch.arange(size, device=self._device)
        new = Held(
            pad(fed, (0, 0, 0, size - n)),
            rows,
            torch.tensor(columns, device=self._device),
            *Asked.of([*asks, *[Readout()] * (size - n)], always=True).to(self._device),
        )
        held = self._held.setdefault(size, new)
        for kept, part in zip(held, new, strict=True):
            if kept is not None and part is not None:
                kept.copy_(part)
        return held


class Graphs:
    """Captured functions, by the shape of a step. What cannot be captured runs as it is from then on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._made: dict[tuple[object, ...], tuple[Any, Seen]] = {}
        self._pool: Any = None  # of memory, shared by all graphs
        self._broken = ""

    def __call__(self, shape: tuple[object, ...], function: Callable[[Held], Seen], held: Held) -> Seen:
        """What the function makes of what is held, by a replay where there was this shape before."""
        if self._broken:
            return function(held)
        if shape not in self._made:
            try:
                self._capture(shape, function, held)
            except RuntimeError as error:
                if ran_out(error):
                    raise
                self._broken = str(error).strip().partition("\n")[0][:200]
                self._made.clear()
                return function(held)
        graph, seen = self._made[shape]
        graph.replay()
        return seen

    @staticmethod
    def plainly(shape: tuple[object, ...], function: Callable[[Held], Seen], held: Held) -> Seen:
        """The same, run as it is."""
        return function(held)

    def words(self) -> tuple[str, ...]:
        """What became of capturing."""
        if self._broken:
            return (f"steps run as CUDA graphs: no, one operation at a time ({self._broken})",)
        return (f"steps run as CUDA graphs: yes ({len(self._made)} shapes so far)",)

    def _capture(self, shape: tuple[object, ...], function: Callable[[Held], Seen], held: Held) -> None:
        # The last element of a shape is where keys and values lie: graphs of other places are of no more use.
        self._made = {known: made for known, made in self._made.items() if known[-1] == shape[-1]}
        if not self._made:  # a pool ends with its last graph
            self._pool = None
        cuda: Any = torch.cuda  # its streams are not typed
        aside, current = cuda.Stream(self._device), cuda.current_stream(self._device)
        aside.wait_stream(current)
        with cuda.stream(aside):  # a step may run again: it writes the same to the same place
            for _ in range(_WARM_UPS):
                function(held)
        current.wait_stream(aside)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            seen = function(held)
        self._pool = self._pool or graph.pool()
        self._made[shape] = graph, seen
