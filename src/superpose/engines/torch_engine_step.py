"""One step of all lanes as a function of tensors: mixture, forward pass, readout and shortlist; no word to the host.

Everything that differs from step to step lies in tensors that stay where they are. On a GPU steps are padded to few
shapes, so that each shape can be captured once as a CUDA graph and then replayed by a single call; elsewhere the same
function runs over just the lanes that are asked for, on a CPU with its forward pass as a recorded program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from superpose.engine import Readout
from superpose.engines.readout import FEW, Float64Array
from superpose.engines.torch_engine_blend import MIXED, Blender, are_few, candidates
from superpose.engines.torch_engine_cache import Slots
from superpose.engines.torch_engine_fused import Fused
from superpose.engines.torch_engine_memory import ran_out
from superpose.engines.torch_engine_readout import Asked, Rows, measure, room, shortlist
from superpose.engines.torch_engine_recorded import Forward, Recorded
from superpose.problems import first_line
from superpose.types import IntArray, Mixture

_WARM_UPS = 3
_ASKED = 5  # numbers of a row before its candidates
_APART, _SUM, _MAX = 0, 1, 2  # how a row is blended: beforehand, or by the step itself


class Held(NamedTuple):
    """What a padded step takes, at fixed addresses."""

    fed: Tensor  # [n, width] in the model's dtype, of rows that are blended beforehand
    told: Tensor  # [n, 5 + MIXED] float64: the column that is written, u, temperature, whether a row is to be greedy,
    # how it is blended, and in the place of the others its candidates, [2, MIXED] int32


class Told(NamedTuple):
    """The same numbers on the host."""

    sent: Tensor  # what is copied
    numbers: Float64Array  # [n, 5], a view
    candidates: IntArray  # [n, 2, MIXED], a view


class Seen(NamedTuple):
    """What a step gives, on the device."""

    logits: Tensor  # [n, vocab]
    scores: Tensor
    numbers: Tensor
    shortlist: Tensor | None


class Steps:
    """Runs steps of the lanes of some slots."""

    def __init__(
        self,
        forward: Forward,
        blender: Blender,
        slots: Slots,
        device: torch.device,
        lanes: int,
        opaque: Sequence[Tensor] = (),
        fused: Fused | None = None,
    ) -> None:
        self._forward, self._blender, self._slots = forward, blender, slots
        self._device, self._lanes = device, lanes
        self.padded = device.type == "cuda"
        self._recorded = Recorded(forward, slots, opaque) if device.type == "cpu" else None
        self._held: dict[int, tuple[Held, Told]] = {}  # by the rows of a step
        self._rows = torch.arange(lanes, device=device)
        self._room: Tensor | None = None  # for readouts
        self._graphs = Graphs(device) if self.padded else None
        self._fused = fused
        slots.by_spans = self.fused

    @property
    def fused(self) -> bool:
        """Whether layers are compiled."""
        return self._fused is not None and not self._fused.why_not

    def give_up(self, reason: str) -> None:
        """Runs layers as they are from now on."""
        assert self._fused is not None
        self._fused.give_up(reason)
        self._graphs, self._slots.by_spans = self._graphs and Graphs(self._device), False

    def run(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> tuple[Tensor, Rows]:
        """Logits [n, vocab] and readouts after a mixture at the end of each lane, in the order of `arrange`."""
        try:
            return self._run(lanes, inputs, asks)
        except Exception as error:  # a compiler fails in any way
            if not self.fused or ran_out(error):
                raise
            self.give_up(first_line(error))
        return self._run(lanes, inputs, asks)  # writes again what was written

    def _run(self, lanes: Sequence[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> tuple[Tensor, Rows]:
        n = len(lanes)
        if not self.padded:
            columns = torch.tensor(self._slots.plan_step(lanes, 0), device=self._device)
            first = self._slots.row[lanes[0]]
            rows = torch.arange(first, first + n, device=self._device)
            seen = self._compute(self._blender.fed(inputs), rows, columns, Asked.of(asks).to(self._device))
            return seen.logits, Rows(seen.scores, seen.numbers)
        size = min(1 << (n - 1).bit_length(), self._lanes)
        held = self._fill(self._slots.plan_step(lanes, size), inputs, asks)
        step = self._graphs or Graphs.plainly
        seen = step(self._slots.shape(), self.compute, held)
        return seen.logits[:n], Rows(seen.scores[:n], seen.numbers[:n], seen.shortlist)

    def compute(self, held: Held) -> Seen:
        """The padded step that was planned, of tensors only, with a shortlist: its length is not to be awaited."""
        column, u, temperature, cold, way = held.told[:, :_ASKED].chunk(_ASKED, 1)  # [n, 1] each
        given = held.told[:, _ASKED:].view(torch.int32).view(-1, 2, MIXED)
        blended = self._blender.blend_few(given, way == _MAX).to(held.fed.dtype)
        fed = torch.where(way == _APART, held.fed, blended)
        asked = Asked(u, temperature.float(), cold > 0)
        seen = self._compute(fed, self._rows[: len(fed)], column[:, 0].long(), asked)
        return seen._replace(shortlist=shortlist(seen.scores, seen.numbers, min(FEW, seen.scores.shape[1])))

    def _compute(self, fed: Tensor, rows: Tensor, columns: Tensor, asked: Asked) -> Seen:
        self._slots.write(rows, columns)
        positions, forward = columns[:, None], self._recorded or self._forward
        with self._fused.running() if self._fused and self._slots.spans else nullcontext():
            logits = forward(fed[:, None], positions, self._slots.masks(positions, fed.dtype))
        return Seen(logits, *measure(logits, asked, self._roomy(logits)), None)

    def _roomy(self, logits: Tensor) -> Tensor | None:
        """Where readouts are computed; a CUDA graph has memory of its own."""
        if self._recorded is None:
            return None
        if self._room is None or self._room.shape[1] < len(logits):
            self._room = room(len(logits), logits.shape[1], logits.device)
        return self._room

    def proved(self) -> bool:
        """Whether the last step was more than a pass: a recording, or one compared with the pass itself."""
        return self._recorded is not None and self._recorded.proving

    def words(self) -> tuple[str, ...]:
        """How steps run, for the self-check."""
        return tuple(word for how in (self._fused, self._graphs or self._recorded) if how for word in how.words())

    def _fill(self, columns: list[int], inputs: Sequence[Mixture], asks: Sequence[Readout]) -> Held:
        """Writes what a step takes to where it is read; rows behind the lanes are fed zeros."""
        size, n = len(columns), len(inputs)
        if size not in self._held:
            self._held[size] = self._hold(size)
        held, told = self._held[size]
        ways = [_way(mixture) for mixture in inputs]
        apart = [row for row, way in enumerate(ways) if way == _APART]
        told.numbers[:, 0] = columns
        told.numbers[:, 1:4] = Asked.table([*asks, *[Readout()] * (size - n)])
        told.numbers[:, 4] = ways + [_APART] * (size - n)
        told.candidates[:n] = candidates(inputs, MIXED)
        held.told.copy_(told.sent, non_blocking=True)  # the last step was awaited: nobody reads what was told then
        held.fed[n:].zero_()
        if apart:
            held.fed[torch.tensor(apart, device=self._device)] = self._blender.fed([inputs[row] for row in apart])
        return held

    def _hold(self, size: int) -> tuple[Held, Told]:
        sent = torch.zeros(size, _ASKED + MIXED, dtype=torch.float64, pin_memory=self._device.type == "cuda")
        table = sent.numpy()
        told = Told(sent, table[:, :_ASKED], table[:, _ASKED:].view(np.int32).reshape(size, 2, MIXED))
        fed = torch.zeros(size, self._blender.width, dtype=self._blender.dtype, device=self._device)
        return Held(fed, sent.to(self._device)), told


def _way(mixture: Mixture) -> int:
    if not are_few(mixture):
        return _APART
    return _MAX if mixture.combine == "max" else _SUM


class Graphs:
    """Captured functions, by the shape of a step. What cannot be captured runs as it is from then on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._made: dict[tuple[object, ...], tuple[Any, Seen]] = {}
        self._pool: Any = None  # of memory, shared by all graphs
        self._aside: Any = None  # stream of warm-ups
        self._broken = ""

    def __call__(self, shape: tuple[object, ...], function: Callable[[Held], Seen], held: Held) -> Seen:
        """What the function makes of what is held, by a replay where there was this shape before."""
        with torch.cuda.device(-1 if self._device.type == "cpu" else self._device):  # -1 is no device
            return self._answer(shape, function, held)

    def _answer(self, shape: tuple[object, ...], function: Callable[[Held], Seen], held: Held) -> Seen:
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
        # The last element of a shape tells where keys and values lie: graphs of other places are of no more use.
        self._made = {known: made for known, made in self._made.items() if known[-1] == shape[-1]}
        if not self._made:  # a pool ends with its last graph
            self._pool = None
        cuda: Any = torch.cuda  # its streams are not typed
        aside = self._aside = self._aside or cuda.Stream(self._device)
        current = cuda.current_stream(self._device)
        aside.wait_stream(current)
        with cuda.stream(aside):  # a step may run again: it writes the same to the same place
            for _ in range(_WARM_UPS):
                function(held)
        current.wait_stream(aside)
        graph = cuda.CUDAGraph()
        # In this stream: torch's own for captures is of the device that was captured on first.
        with cuda.graph(graph, pool=self._pool, stream=aside, capture_error_mode="thread_local"):
            seen = function(held)
        self._pool = self._pool or graph.pool()
        self._made[shape] = graph, seen
