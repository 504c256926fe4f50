"""The decoder layers of a step on a GPU, compiled: one program of a lane alone and one of several for a kind of layer.

Small operations are fused in it: of some forty kernels a layer a dozen remain. Prompts, whose shapes are many, run as
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from superpose.problems import first_line

_OPTIONS: dict[str, dict[str, object]] = {
    "torch._dynamo.config": {
        "allow_unspec_int_on_nn_module": True,  # each layer has a number, for which there would be a program of its own
        "specialize_float": True,
        "recompile_limit": 64,  # all models of a class share it, released ones too
    },
    # Or a program for as many lanes as there is room for would be another one.
    "torch.fx.experimental._config": {"use_duck_shape": False},
}


class Fused:
    """Exchanges the forward functions of a model's decoder layers for ones that are compiled while a step runs."""

    def __init__(self, model: PreTrainedModel) -> None:
        names = set(model._no_split_modules or ())  # classes, by name
        self._layers = [module for module in model.modules() if type(module).__name__ in names]
        self._plain = [layer.forward for layer in self._layers]
        self._on, self.why_not = False, ""
        try:
            import_module("superpose.engines.torch_engine_flash")  # needs triton, which is not everywhere
            # Dynamo takes a second to import.
            self._patches = [_patch(import_module(name), options) for name, options in _OPTIONS.items()]
        except Exception as error:  # a triton of another version may fail in any way
            self.give_up(first_line(error))
        if not self._layers:
            self.give_up("its decoder layers have no name")
        if not self.why_not:
            for layer, plain in zip(self._layers, self._plain, strict=True):
                layer.forward = self._either(plain, torch.compile(plain, fullgraph=True, dynamic=True))

    def give_up(self, reason: str) -> None:
        """Layers run as they are from now on."""
        self.why_not = reason
        for layer, plain in zip(self._layers, self._plain, strict=True):
            layer.forward = plain

    @contextmanager
    def running(self) -> Iterator[None]:
        """Layers are compiled ones inside."""
        self._on = True
        try:
            with ExitStack() as patched:
                for patch in self._patches:
                    patched.enter_context(patch())
                yield
        finally:
            self._on = False

    def words(self) -> tuple[str, ...]:
        """What became of it, for the self-check."""
        said = f"no ({self.why_not})" if self.why_not else "yes, with attention over just what a lane holds"
        return (f"layers of a step are compiled: {said}",)

    def _either(self, plain: Callable[..., Tensor], compiled: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(*args: Any, **kwargs: Any) -> Tensor:
            return (compiled if self._on else plain)(*args, **kwargs)

        return forward


def _patch(config: Any, options: dict[str, object]) -> Callable[[], AbstractContextManager[None]]:
    """What sets those of the options that this version of torch has."""
    return partial(config.patch, {name: value for name, value in options.items() if hasattr(config, name)})
