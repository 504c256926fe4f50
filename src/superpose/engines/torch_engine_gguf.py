"""A .gguf file as a folder of the model hub's kind: exact float32 weights and the file's own tokenizer.

transformers' own reader of GGUF is not used: it drops parts of the config and the scaling of positions in
silence, takes four times as long, and its tokenizers give other ids.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from tokenizers.processors import TemplateProcessing

from superpose.engine import EngineError, OutOfMemory, UnsupportedModel
from superpose.engines.torch_engine_gguf_vocab import build_tokenizer
from superpose.engines.torch_engine_memory import free_bytes
from superpose.types import FloatArray

Progress = Callable[[str, float, float], None]  # stage, done, total (total 0 = unknown)

VERSION = 1  # of what a folder holds: raise it when conversion changes, so that older folders are left behind

_ARCH = "general.architecture"
# Architectures checked to give llama.cpp's logits: their type in transformers, and its word for the epsilon.
_KNOWN = {
    "llama": ("llama", "rms_norm_eps"),
    "qwen2": ("qwen2", "rms_norm_eps"),
    "qwen3": ("qwen3", "rms_norm_eps"),
    "gemma2": ("gemma2", "rms_norm_eps"),
    "gemma3": ("gemma3_text", "rms_norm_eps"),
    "phi3": ("phi3", "rms_norm_eps"),
    "stablelm": ("stablelm", "layer_norm_eps"),
    "starcoder2": ("starcoder2", "norm_epsilon"),
    "nemotron": ("nemotron", "norm_eps"),
}


def to_folder(path: Path, cache: Path, progress: Progress | None = None) -> Path:
    """The folder of hub files (config, float32 safetensors, tokenizer) that holds the model of a .gguf file.

    Made once per content (SHA-256) under `cache`/gguf, and found again by the file's path, size and time of
    change without reading it. Several processes may ask at once: one converts, the others wait. Raises
    UnsupportedModel for a file that is broken or cannot be read exactly, EngineError when it cannot be kept.
    """
    home = cache / "gguf"
    try:
        path = path.expanduser().resolve()
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UnsupportedModel(f"{path.name} is not a GGUF file")
            status = os.stat(file.fileno())
            key = f"{VERSION}\0{path}\0{status.st_size}\0{status.st_mtime_ns}"
            seen = home / "seen" / hashlib.sha256(key.encode()).hexdigest()
            if seen.is_file() and (folder := home / seen.read_text()).is_dir():
                return folder
            file.seek(0)
            folder = home / f"{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}-v{VERSION}"
    except OSError as error:
        raise UnsupportedModel(f"{path} cannot be read: {error.strerror}") from error
    try:
        seen.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
                partial.mkdir()
                try:
                    _convert(path, partial, progress or (lambda stage, done, total: None))
                    partial.rename(folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
            noted = seen.with_suffix(".new")
            noted.write_text(folder.name)
            noted.replace(seen)
    except MemoryError as error:
        raise OutOfMemory(f"there is not enough memory to unpack {path.name}") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineError(f"the converted model cannot be kept in {home}: {reason}") from error
    return folder


def _convert(path: Path, folder: Path, progress: Progress) -> None:
    """Fills a folder with the model's hub files. Raises UnsupportedModel, and OSError when it is not kept."""
    from safetensors.numpy import save_file
    from transformers import GenerationConfig

    progress("reading", 0, 0)
    meta, tensors = _read(path)
    try:
        tokenizer = build_tokenizer(meta, path.name)
        config = _config(meta, tensors)
        weights = _weights(meta, tensors, config, progress)
    except (EngineError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UnsupportedModel(f"{path.name} cannot be read as a {meta[_ARCH]} model: {reason}") from error
    progress("writing", 0, 0)
    config.save_pretrained(folder)
    ends = [f"tokenizer.ggml.{end}_token_id" for end in ("eos", "eot", "eom")]
    ids = sorted({meta[end] for end in ends if end in meta})
    special = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    GenerationConfig(eos_token_id=ids or None, **special).save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    names = _tokenizer_config(meta)
    if (bos := names["bos_token"]) and names["add_bos_token"]:
        known = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=known)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=1), "utf-8")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata, and tensors by name, of a whole GGUF file with a known architecture."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        meta = {key: field.contents() for key, field in reader.fields.items()}
    except Exception as error:  # truncated or spoilt bytes end in whatever numpy makes of them
        raise UnsupportedModel(f"{path.name} is broken or not complete") from error
    if meta.get(_ARCH) not in _KNOWN:
        kind, known = meta.get(_ARCH), ", ".join(_KNOWN)
        raise UnsupportedModel(f"{path.name} has the architecture {kind!r}; in a .gguf can be read: {known}")
    if meta.get("split.count", 0) > 1:
        raise UnsupportedModel(f"{path.name} is one part of several: merge them with llama-gguf-split first")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if "token_embd.weight" not in tensors:
        raise UnsupportedModel(f"{path.name} holds no language model")
    return meta, tensors


def _config(meta: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """What transformers calls the settings of this model; every one that differs from its default."""
    from transformers import AutoConfig

    arch = meta[_ARCH]
    kind, epsilon = _KNOWN[arch]
    width, heads, depth = (meta[f"{arch}.{key}"] for key in ("embedding_length", "attention.head_count", "block_count"))
    head = meta.get(f"{arch}.attention.key_length", width // heads)
    norm = "layer_norm_rms_epsilon" if f"{arch}.attention.layer_norm_rms_epsilon" in meta else "layer_norm_epsilon"
    rows = int(tensors["token_embd.weight"].shape[1])  # often more than there are tokens
    if rows < len(meta["tokenizer.ggml.tokens"]):
        raise ValueError("some of its tokens have no embedding")
    settings = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "head_dim": head,
        "num_key_value_heads": meta.get(f"{arch}.attention.head_count_kv", heads),
        "intermediate_size": meta[f"{arch}.feed_forward_length"],
        "max_position_embeddings": meta[f"{arch}.context_length"],
        "vocab_size": rows,
        "tie_word_embeddings": "output.weight" not in tensors,
        "rope_parameters": _rope(meta, tensors, head),
        epsilon: meta[f"{arch}.attention.{norm}"],
        **{f"{end}_token_id": meta.get(f"tokenizer.ggml.{end}_token_id") for end in ("bos", "eos")},
        "pad_token_id": meta.get("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }
    biased = "blk.0.attn_q.bias" in tensors
    if arch == "llama":
        settings["attention_bias"] = biased
    elif arch == "stablelm":
        settings |= {"use_qkv_bias": biased, "use_parallel_residual": "blk.0.ffn_norm.weight" not in tensors}
    elif arch in ("gemma2", "gemma3"):
        large = depth == {"gemma2": 46, "gemma3": 62}[arch]  # the 27B models scale in their own way
        settings["query_pre_attn_scalar"] = width // heads if large else head
        settings["sliding_window"] = meta[f"{arch}.attention.sliding_window"]
    return AutoConfig.for_model(kind, **settings)


def _rope(meta: Mapping[str, Any], tensors: Mapping[str, Any], head: int) -> dict[str, Any]:
    """The rope parameters of transformers for heads of this width."""
    arch = meta[_ARCH]
    rope = {"rope_type": "default", "rope_theta": meta.get(f"{arch}.rope.freq_base", 10000.0)}
    turned = meta.get(f"{arch}.rope.dimension_count", head)
    if arch in ("phi3", "stablelm", "nemotron"):
        rope["partial_rotary_factor"] = turned / head
    elif turned != head:
        raise ValueError(f"it turns {turned} of {head} dimensions")
    scaling = meta.get(f"{arch}.rope.scaling.type", "none")
    if scaling == "linear":
        rope |= {"rope_type": "linear", "factor": meta[f"{arch}.rope.scaling.factor"]}
    elif scaling != "none":
        raise ValueError(f"positions scaled by {scaling!r} are not known to superpose")
    if factors := tensors.get("rope_freqs.weight"):
        rope |= _llama3_rope(np.asarray(factors.data), rope["rope_theta"])
    if arch == "gemma3":
        local = meta.get(f"{arch}.rope.freq_base_swa", 10000.0)
        return {"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": local}}
    return rope


def _llama3_rope(factors: FloatArray, theta: float) -> dict[str, Any]:
    """The rope parameters of Llama 3.1 and later: a GGUF holds what they come to for each frequency, [n]."""
    low, high, context, factor = 1.0, 4.0, 8192, float(factors.max())
    turns = context * theta ** -(np.arange(factors.size) / factors.size) / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(1 / ((1 - smooth) / factor + smooth), factors, rtol=1e-4):
        raise ValueError("it scales positions in a way that superpose does not know")
    names = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": context}
    return {"rope_type": "llama3", "factor": factor, **names}


def _weights(
    meta: Mapping[str, Any], tensors: Mapping[str, Any], config: Any, progress: Progress
) -> dict[str, FloatArray]:
    """The weights by their names in transformers: each that the model has, and none left over."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    needed, free = 4 * sum(math.prod(shape) for shape in shapes.values()), free_bytes(torch.device("cpu"))
    if free is not None and needed > free:
        raise OutOfMemory(f"unpacked it takes {needed / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB are free")
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == meta[_ARCH])
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    left = {name: tensor for name, tensor in tensors.items() if name != "rope_freqs.weight"}  # in the config
    weights = {}
    for done, (name, shape) in enumerate(shapes.items()):
        progress("dequantising", done, len(shapes))
        source = names.get_name(name, (".weight", ".bias"))
        if source not in left:
            raise ValueError(f"it lacks {name}")
        tensor = left.pop(source)
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise ValueError(f"numbers of the type {tensor.tensor_type.name} cannot be unpacked") from error
        if values.shape != shape:
            raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
        weights[name] = _undone(values, name, meta[_ARCH], config)
    if left:
        raise ValueError(f"{', '.join(sorted(left)[:3])} would be left out")
    return weights


def _undone(values: FloatArray, name: str, arch: str, config: Any) -> FloatArray:
    """A tensor without what llama.cpp's converter did to it."""
    if arch == "llama" and (".q_proj." in name or ".k_proj." in name):
        # It turns neighbouring rows of a head together, transformers a row with the one half a head further.
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        pairs = values.reshape(heads, -1, 2, *values.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
    if arch in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        return values - 1  # kept as what is multiplied with, in transformers as its distance from 1
    return np.ascontiguousarray(values, np.float32)


def _tokenizer_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    known = {"bos": 1, "eos": 2, "unknown": 0} if meta["tokenizer.ggml.model"] == "llama" else {}
    tokens = dict(enumerate(meta["tokenizer.ggml.tokens"]))

    def token(kind: str) -> str | None:
        return tokens.get(meta.get(f"tokenizer.ggml.{kind}_token_id", known.get(kind)))

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "add_bos_token": meta.get("tokenizer.ggml.add_bos_token", bool(known)),
        "clean_up_tokenization_spaces": False,
        "chat_template": meta.get("tokenizer.chat_template"),
    }
