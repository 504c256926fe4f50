"""How much memory is left, and whether an error means that none is."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import torch
from torch import nn

from superpose.engines.host import free_memory


def ran_out(error: BaseException) -> bool:
    """Whether an error means that there is no memory left."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be had, or None where the system does not say."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
        return torch.cuda.mem_get_info(device)[0] + kept
    return free_memory()


def held(model: nn.Module) -> int:
    """Bytes of all tensors of a model, each counted once; packed weights are attributes, and no parameters."""
    own = (value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor))
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers(), *own)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def empty_cache(device: torch.device) -> None:
    """Gives memory that torch, or the C library, keeps for later back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":  # glibc keeps most of a freed model's weights, and the next one takes as much again
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
