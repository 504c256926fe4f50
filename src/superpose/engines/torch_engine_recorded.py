"""A step's forward pass recorded as a program of the same operations, so that no Python runs between them.

On a CPU Python spends longer on the small operations of one lane's step than they take. The program is TorchScript,
run as it was recorded and not optimised: it calls the same kernels, and so gives the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from superpose.engines.torch_engine_cache import Masks, Slots
from superpose.engines.torch_engine_memory import ran_out

jit: Any = torch.jit  # is not typed
# Logits [n, vocab] of embeddings [n, 1, width] at positions [n, 1] under masks
Forward = Callable[[Tensor, Tensor, Masks], Tensor]


class Recorded:
    """A forward pass over the rows of some slots, as a program where there can be one, as it is elsewhere.

    `opaque` are tensors that it reads and a program cannot hold, for they are laid out in a way of their own.
    """

    def __init__(self, forward: Forward, slots: Slots, opaque: Sequence[Tensor]) -> None:
        self._forward, self._slots, self._opaque = forward, slots, list(opaque)
        self._programs: dict[bool, Any] = {}  # one for a lane alone and one for several, which may be other operations
        self._proved: set[tuple[int, int]] = set()  # rows and columns seen of the steps that gave the same bits
        self._broken = ""

    def __call__(self, fed: Tensor, positions: Tensor, masks: Masks) -> Tensor:
        """Logits [n, vocab] of the step that was planned."""
        if self._broken or not self._slots.uniform():
            return self._forward(fed, positions, masks)
        named = masks if isinstance(masks, dict) else {"": masks}
        read = [*self._slots.buffers(), *self._opaque]
        given = fed, positions, list(named.values()), self._slots.bounds(), read
        shape = len(fed), next(iter(named.values())).shape[-1]
        if shape in self._proved:
            return self._run(given)
        plain = self._forward(fed, positions, masks)
        try:
            if (alone := len(fed) == 1) not in self._programs:
                self._refuse(fed, positions, masks)
                self._programs[alone] = self._record(given, list(named) if isinstance(masks, dict) else None)
            if not torch.equal(self._run(given), plain):
                raise RuntimeError("a recording gave other bits")
            self._proved.add(shape)
        except Exception as error:  # of many kinds: whatever a model's own code cannot do while it is recorded
            if ran_out(error):
                raise
            self._broken = str(error).strip().partition("\n")[0][:200]
            self._programs.clear()
        return plain

    def words(self) -> tuple[str, ...]:
        """What became of recording, for the self-check."""
        if self._broken:
            return (f"steps run as recorded programs: no, one operation at a time ({self._broken})",)
        return ("steps run as recorded programs: yes, with the same bits",)

    def _run(self, given: tuple[Any, ...]) -> Tensor:
        with jit.optimized_execution(False):
            logits: Tensor = self._programs[len(given[0]) == 1](*given)
        return logits

    def _refuse(self, *given: Any) -> None:
        """Raises RuntimeError where what the pass does depends on numbers: a recording would freeze what it did now."""
        watch: Any = _Watch
        with watch():
            self._forward(*given)

    def _record(self, given: tuple[Any, ...], kinds: list[str] | None) -> Any:
        program = _Program(self._forward, self._slots, kinds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shapes are frozen, which are proved, and that there are newer ways
            # A unit of its own, which is freed with the program; otherwise its weights would stay for good.
            unit = torch._C.CompilationUnit()
            return jit.trace(program, given, check_trace=False, _compilation_unit=unit, _store_inputs=False)


class _Program(nn.Module):
    def __init__(self, forward: Forward, slots: Slots, kinds: list[str] | None) -> None:
        super().__init__()
        self._pass, self._slots, self._kinds = [forward], slots, kinds

    def forward(
        self, fed: Tensor, positions: Tensor, masks: list[Tensor], bounds: list[Tensor], read: list[Tensor]
    ) -> Tensor:
        named = masks[0] if self._kinds is None else dict(zip(self._kinds, masks, strict=True))
        with self._slots.bounded(bounds):
            return self._pass[0](fed, positions, named)


_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own __init_subclass__
    """Refuses operations whose shape depends on numbers, and words to the host."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _DEPENDENT & set(function.tags):
            chosen = args[1] if function is torch.ops.aten.index.Tensor else None  # by numbers: a shape of its own
            if chosen is None or any(index is not None and index.dtype == torch.bool for index in chosen):
                raise RuntimeError(f"what it does depends on numbers ({function})")
        return function(*args, **(kwargs or {}))
