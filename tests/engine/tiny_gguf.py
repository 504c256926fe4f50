"""A tiny random .gguf file, with a token for each byte and a few control tokens."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from tokenizers.pre_tokenizers import ByteLevel

WIDTH, HIDDEN, HEADS, GROUPS = 64, 96, 4, 2
TOKENS = ["<unk>", "<s>", "</s>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "Ġa", "ab", "<tool>"]
TYPES = [3, 3, 3, 3, *[1] * 256, 1, 1, 4]
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"


def metadata(arch="llama", blocks=1):
    """The metadata of a tiny model."""
    keys = {
        "context_length": 128, "embedding_length": WIDTH, "block_count": blocks, "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS, "attention.head_count_kv": GROUPS,
        "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 50000.0, "rope.dimension_count": WIDTH // HEADS,
    }  # fmt: skip
    return {f"{arch}.{key}": value for key, value in keys.items()} | {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": TYPES, "tokenizer.ggml.merges": ["Ġ a", "a b"],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 3,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip


def weights(rows, blocks=1):
    """Tensors of that llama, in the order of their dimensions in numpy; `rows` of embeddings."""
    rng = np.random.default_rng(1)
    half = WIDTH // HEADS * GROUPS
    shapes = {"token_embd.weight": (rows, WIDTH), "output_norm.weight": (WIDTH,), "output.weight": (rows, WIDTH)}
    for block in range(blocks):
        of_block = {
            "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (half, WIDTH),
            "attn_v": (half, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_gate": (HIDDEN, WIDTH),
            "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN),
        }  # fmt: skip
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in of_block.items()}
    return {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, meta, tensors, kind=Kind.F32, arch="llama") -> Path:
    """A .gguf with matrices of that kind; metadata of None is left out."""
    writer = gguf.GGUFWriter(path, arch)
    for key, value in meta.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            add = {str: "string", int: "uint32", float: "float32", bool: "bool"}[type(value)]
            getattr(writer, f"add_{add}")(key, value)
    for name, values in tensors.items():
        if values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny(path: Path, blocks=2, kind=Kind.F32, **changes) -> Path:
    """A llama that llama.cpp loads: it wants as many rows as tokens."""
    return write(path, metadata(blocks=blocks) | changes, weights(len(TOKENS), blocks), kind)
