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
from torch.utils._python_dispatch import TorchDispatchMode

from superpose.engines.torch_engine_cache import Masks, Slots
from superpose.engines.torch_engine_memory import ran_out

jit: Any = torch.jit  # is not typed
compiler: Any = torch._C
# Logits [n, vocab] of embeddings [n, 1, width] at positions [n, 1] under masks
Forward = Callable[[Tensor, Tensor, Masks], Tensor]


class Recorded:
    """A forward pass over the rows of some slots, as a program where there can be one, as it is elsewhere.

    `opaque` are tensors that it reads and a program cannot hold, for they are laid out in a way of their own.
    """

    def __init__(self, forward: Forward, slots: Slots, opaque: Sequence[Tensor]) -> None:
        self._forward, self._slots, self._opaque = forward, slots, list(opaque)
        self._programs: dict[bool, Any] = {}  # one for a lane alone and one for several, which may be other operations
        self._proved: set[tuple[bool, int]] = set()  # which of them, and the columns seen by a step it was right about
        self._broken = ""

    def __call__(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """Logits [n, vocab] of the step that was planned."""
        if not self._broken:
            try:
                return self._answer(fed, positions, masks)
            except Exception as error:  # of any kind: whatever a model's own code cannot do while it is recorded
                if ran_out(error):
                    raise
                self._broken = str(error).strip().partition("\n")[0][:200]
                self._programs.clear()
        return self._forward(fed, positions, masks)

    def words(self) -> tuple[str, ...]:
        """What became of recording, for the self-check."""
        if self._broken:
            return (f"steps run as recorded programs: no, one operation at a time ({self._broken})",)
        return ("steps run as recorded programs: yes, with the same bits",)

    def _answer(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """What the program answers, after it was compared once with the pass itself over so many columns."""
        named = masks if isinstance(masks, dict) else {"": masks}
        stored, alone = self._slots.buffers(), len(fed) == 1
        given = fed, positions, list(named.values()), self._slots.bounds(), [*stored, *self._opaque]
        shape = alone, next(iter(named.values())).shape[-1]
        if shape in self._proved and stored:
            return self._run(given)
        if alone in self._programs:
            plain = self._forward(fed, positions, masks)
        else:
            plain = self._watched(fed, positions, masks)
        if len(self._slots.buffers()) > len(stored):  # made by this pass, as in the first step of an empty lane
            return plain
        if alone not in self._programs:
            self._programs[alone] = self._record(given, list(named) if isinstance(masks, dict) else None)
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
        watch: Any = _Watch
        with watch():
            return self._forward(*given)

    def _record(self, given: tuple[Any, ...], kinds: list[str] | None) -> Any:
        def program(
            fed: Tensor, positions: Tensor, masks: list[Tensor], bounds: list[Tensor], _: list[Tensor]
        ) -> Tensor:
            named = masks[0] if kinds is None else dict(zip(kinds, masks, strict=True))
            with self._slots.bounded(bounds):
                return self._forward(fed, positions, named)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shapes are frozen, which are proved
            graph, _ = compiler._create_graph_by_tracing(program, given, lambda _: "", True, False)
        # Not `torch.jit.trace`, whose programs are kept for good, and their weights with them.
        return compiler._create_function_from_graph("step", graph)


_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Refuses operations whose shape depends on numbers, and words to the host."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _DEPENDENT & set(function.tags):
            chosen = args[1] if function is torch.ops.aten.index.Tensor else None  # by numbers: a shape of its own
            if chosen is None or any(index is not None and index.dtype == torch.bool for index in chosen):
                raise RuntimeError(f"what it does depends on numbers ({function})")
        return function(*args, **(kwargs or {}))
