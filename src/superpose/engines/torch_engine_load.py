"""A transformers model from a folder, on a device and in a dtype that suit the machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from superpose.engine import EngineOptions, OutOfMemory, Progress, Tokenizer, UnsupportedModel
from superpose.engines.torch_engine_check import refuse
from superpose.engines.torch_engine_memory import free_bytes, ran_out
from superpose.engines.torch_engine_quantize import check
from superpose.engines.torch_engine_threads import use_physical_cores
from superpose.problems import first_line

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"  # the device that the engine chooses: several GPUs where a model is too big for one
_ROOM = 1.1  # times the weights: what loading and a first pass need besides


def load_model(folder: Path, name: str, options: EngineOptions, progress: Progress) -> PreTrainedModel:
    """The model of a folder with `config.json` and safetensors; its own code only, nothing is downloaded.

    Raises UnsupportedModel and OutOfMemory, each with a sentence.
    """
    device = _device(options.device)
    if options.quantize is not None:
        check(options.quantize, device)
    dtype = _dtype(options.dtype or ("bfloat16" if options.quantize else None), device)
    if options.quantize is not None and dtype != torch.bfloat16:
        raise UnsupportedModel(f"{options.quantize} weights go with bfloat16, not with {options.dtype}")
    if device.type == "cpu":
        use_physical_cores()
    config = _config(folder, name)
    refuse(config, name)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedModel(f"{name} ({config.model_type}) has no language-model head")
    size = _size(folder, dtype)
    spread = options.device in (None, AUTO) and _too_big(size, device) and torch.cuda.device_count() > 1
    if spread and find_spec("accelerate") is None:
        raise UnsupportedModel(f"{name} does not fit into one GPU; to spread it over several, install accelerate")
    _check_memory(
        name, size, [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if spread else [device]
    )
    progress("weights", 0, size)
    logging.disable_progress_bar()  # theirs would run through ours
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            device_map="auto" if spread else None,
        )
        model = model if spread else model.to(device)
    except Exception as error:  # each reader of weights fails in its own way
        if ran_out(error):
            raise OutOfMemory(f"{name} does not fit into the memory of {device}") from error
        raise UnsupportedModel(f"{name} cannot be loaded: {first_line(error)}") from error
    absent = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if absent:
        raise UnsupportedModel(f"{name} lacks {len(absent)} of its weights, {absent[0]} among them")
    if spread and (left := [weight for weight in model.parameters() if weight.device.type != "cuda"]):
        count = sum(weight.nbytes for weight in left)
        raise OutOfMemory(f"{name} does not fit into the GPUs: {count / 2**30:.1f} GiB of it would stay outside")
    progress("weights", size, size)
    loaded: PreTrainedModel = model
    return loaded


def end_ids(model: PreTrainedModel, tokenizer: Tokenizer) -> frozenset[int]:
    """Every end-of-text id that the model's files name."""
    found = set(getattr(tokenizer, "eog_ids", ()))
    for source in (model.generation_config, model.config, model.config.get_text_config(decoder=True)):
        named = getattr(source, "eos_token_id", None)
        found.update(named if isinstance(named, list) else [] if named is None else [named])
    return frozenset(found)


@torch.inference_mode()
def fingerprint(model: PreTrainedModel, tokenizer: Tokenizer) -> str:
    """16 hex digits that change with whatever may change a number: weights, dtype, machine, versions, tokenizer.

    Some thousand numbers stand for each weight: any training or quantisation changes them.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in model.named_parameters():
        sample = weight.flatten()[:: max(1, weight.numel() // 4096)].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + sample.tobytes())
    cuda = model.device.type == "cuda"
    where = torch.cuda.get_device_name(model.device) if cuda else f"{model.device} {torch.get_num_threads()} threads"
    versions = [version(package) for package in ("torch", "transformers")]
    ids = tokenizer.encode("Ein Test: 12345 + 0.5  \n\n  naïve ½ 日本 🙂 <|im_end|></s>")
    digest.update(repr([where, platform.processor(), os.environ.get("MKL_CBWR"), versions, ids]).encode())
    return digest.hexdigest()


def _device(name: str | None) -> torch.device:
    if name in (None, AUTO):
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UnsupportedModel(f"unknown device {name!r}; allowed: {AUTO}, cpu, cuda, cuda:1 …, mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedModel("the device cuda was asked for, but torch sees no CUDA device here")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UnsupportedModel(f"there is no {device}: torch sees {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UnsupportedModel("the device mps was asked for, but torch sees no Apple GPU here")
    return device


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is not None:
        if name not in DTYPES:
            raise UnsupportedModel(f"unknown dtype {name!r}; allowed: {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    try:
        torch.zeros(1, dtype=torch.bfloat16, device=device).add_(1)
    except (RuntimeError, TypeError):  # an Apple GPU before macOS 14
        return torch.float32
    return torch.bfloat16


def _config(folder: Path, name: str) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a foreign config.json may cause
        try:
            given = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError):
            raise UnsupportedModel(f"{name} has no readable config.json") from error
        kind = given.get("model_type")
        if "auto_map" in given:
            reason = f"its architecture {kind!r} is code in its own repository, which superpose does not run"
        else:
            reason = str(error).strip().splitlines()[0][:200]
        raise UnsupportedModel(f"{name} cannot be loaded: {reason}") from error
    return config


def _size(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of all tensors once they are of this dtype, read off the files' headers."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    return count * dtype.itemsize


def _too_big(size: int, device: torch.device) -> bool:
    free = free_bytes(device)
    return free is not None and size * _ROOM > free


def _check_memory(name: str, size: int, devices: list[torch.device]) -> None:
    free = [free_bytes(device) for device in devices]
    if all(known is not None for known in free) and size * _ROOM > (have := sum(known or 0 for known in free)):
        where = str(devices[0]) if len(devices) == 1 else f"{len(devices)} GPUs"
        raise OutOfMemory(
            f"{name} needs about {size * _ROOM / 2**30:.1f} GiB on {where}, of which {have / 2**30:.1f} GiB are free"
        )
