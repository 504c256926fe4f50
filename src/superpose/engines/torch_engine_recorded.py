"""A step's forward pass recorded as a program of the same operations, so that no Python runs between them.

On a CPU Python spends longer on the small operations of one lane's step than they take. The program is TorchScript,
run as it was recorded and not optimised: it calls the same kernels, and so gives the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from superpose.engines.torch_engine_cache import Masks, Slots
from superpose.engines.torch_engine_memory import ran_out

jit: Any = torch.jit  # is not typed
core: Any = torch._C
# Logits [n, vocab] of embeddings [n, 1, width] at positions [n, 1] under masks
Forward = Callable[[Tensor, Tensor, Masks], Tensor]


class Recorded:
    """A forward pass over the rows of some slots, as a program where there can be one, as it is elsewhere.

    `opaque` are tensors that it reads and a program cannot hold, for they are laid out in a way of their own.
    """

    def __init__(self, forward: Forward, slots: Slots, opaque: Sequence[Tensor]) -> None:
        self._forward, self._slots, self._opaque = forward, slots, list(opaque)
        self._programs: dict[bool, Any] = {}  # one for a lane alone and one for several, which may be other operations
        self._stored = 0  # keys and values that they take
        self._proved: set[tuple[int, int]] = set()  # rows, and columns seen, of steps that they were right about
        self._broken = ""
        self.proving = False  # whether the last pass took longer than others, for it was compared or recorded

    def __call__(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """Logits [n, vocab] of the step that was planned."""
        self.proving = False
        if not self._broken:
            try:
                return self._answer(fed, positions, masks)
            except Exception as error:  # of any kind: whatever a model's own code cannot do while it is recorded
                if ran_out(error):
                    raise
                lines = [line for line in str(error).splitlines() if line.strip()]
                self._broken = (lines or [type(error).__name__])[-1].strip()[:200]
                self._programs.clear()
        return self._forward(fed, positions, masks)

    def words(self) -> tuple[str, ...]:
        """What became of recording, for the self-check."""
        if self._broken:
            return (f"steps run as recorded programs: no, one operation at a time ({self._broken})",)
        return ("steps run as recorded programs: yes, with the same bits",)

    def _answer(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """What the program answers, after it was compared once with the pass itself over so many rows and columns."""
        named = masks if isinstance(masks, dict) else {"": masks}
        stored, alone = self._slots.buffers(), len(fed) == 1
        given = fed, positions, list(named.values()), self._slots.bounds(), [*stored, *self._opaque]
        shape = len(fed), next(iter(named.values())).shape[-1]
        self.proving = shape not in self._proved or len(stored) != self._stored
        if not self.proving:
            return self._run(given)
        recorded = alone in self._programs
        plain = self._forward(fed, positions, masks) if recorded else self._watched(fed, positions, masks)
        if len(self._slots.buffers()) > len(stored):  # made by this pass, as in the first step of an empty lane
            return plain
        if not recorded:
            self._programs[alone] = self._record(given, list(masks) if isinstance(masks, dict) else None)
            self._stored = len(stored)
            return plain  # the next step proves it, with other numbers than those that were recorded
        self._slots.unwrite()
        if not torch.allclose(self._run(given), plain, rtol=0, atol=0, equal_nan=True):
            raise RuntimeError("a recording gave other bits")
        self._proved.add(shape)
        return plain

    def _run(self, given: tuple[Any, ...]) -> Tensor:
        with jit.optimized_execution(False):
            logits: Tensor = self._programs[len(given[0]) == 1](*given)
        return logits

    def _watched(self, *given: Any) -> Tensor:
        """The pass as it is. Raises RuntimeError where what it does depends on numbers: a recording would freeze it."""
        watches: list[Any] = [_Watch, _WatchTensor]  # torch's modes are not typed
        with watches[0](), watches[1]():
            return self._forward(*given)

    def _record(self, given: tuple[Any, ...], kinds: list[str] | None) -> Any:
        def program(
            fed: Tensor, positions: Tensor, masks: list[Tensor], bounds: list[Tensor], _: list[Tensor]
        ) -> Tensor:
            named = masks[0] if kinds is None else dict(zip(kinds, masks, strict=True))
            with self._slots.bounded(bounds):
                return self._forward(fed, positions, named)

        # Not `torch.jit.trace`, whose programs are kept for good, and their weights with them. Not optimised here
        # either: functions that a program calls would be so from their first calls on, which these are.
        with warnings.catch_warnings(), jit.optimized_execution(False):
            warnings.simplefilter("ignore", jit.TracerWarning)  # that shapes are frozen, which are proved
            warnings.simplefilter("ignore", DeprecationWarning)
            graph, _ = core._create_graph_by_tracing(program, given, lambda _: "", True, False)
        return core._create_function_from_graph("step", graph)


_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_READ = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Refuses operations whose shape depends on numbers, and words to the host."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _DEPENDENT & set(function.tags):
            chosen = args[1] if function is torch.ops.aten.index.Tensor else None  # by numbers: a shape of its own
            masks = torch.bool, torch.uint8
            if chosen is None or any(index is not None and index.dtype in masks for index in chosen):
                raise RuntimeError(f"what it does depends on numbers ({function})")
        return function(*args, **(kwargs or {}))


class _WatchTensor(TorchFunctionMode):
    """Refuses what reads a tensor's numbers in its memory, of which no operation tells."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _READ:
            raise RuntimeError(f"what it does depends on numbers ({function.__name__})")
        return function(*args, **(kwargs or {}))
