"""Tiny random models for the torch engine, no parameter of which is left at an innocent 0 or 1."""

import pytest
import torch
import transformers

from superpose.engines.torch_engine import TorchEngine
from superpose.engines.toy import ByteTokenizer

WINDOW = 6
SHAPE = dict(
    vocab_size=300, hidden_size=48, intermediate_size=64, num_hidden_layers=4, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip
TURNS = ["sliding_attention", "full_attention"] * 2
MODELS = {
    "llama": ("Llama", {}),
    "llama3-rope": ("Llama", dict(rope_parameters=LLAMA3, num_key_value_heads=6)),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3", dict(head_dim=16)),
    "mistral-sliding": ("Mistral", dict(sliding_window=WINDOW)),
    "gemma2": ("Gemma2", dict(head_dim=16, sliding_window=WINDOW, attn_logit_softcapping=2.0)),
    "gemma3": ("Gemma3", dict(head_dim=16, sliding_window=WINDOW, layer_types=TURNS)),
    "gpt-oss": (
        "GptOss",
        dict(
            head_dim=16,
            sliding_window=WINDOW,
            num_local_experts=2,
            num_experts_per_tok=1,
            rope_parameters=LLAMA3,
        ),
    ),
    "llama4-chunked": ("Llama4", dict(head_dim=16, attention_chunk_size=WINDOW, no_rope_layers=[1, 1, 1, 0])),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig", "Llama4": "Llama4TextConfig"}


def randomise(model, seed=0):
    """Norm weights, biases and sinks too: at their defaults they would hide that something is left out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.3 if parameter.ndim == 1 else 0.8 * parameter.shape[-1] ** -0.5
            parameter.normal_(1.0 if "norm" in name else 0.0, spread, generator=generator)
    return model.eval()


@pytest.fixture
def one_thread():
    """For tiny tensors a second thread is only waited for, long when the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def build():
    """`build(name, **changes)`: a tiny model of MODELS in float32, the same numbers each time."""

    def make(name, **changes):
        family, options = MODELS[name]
        config = getattr(transformers, CONFIGS.get(family, f"{family}Config"))(**{**SHAPE, **options, **changes})
        return randomise(getattr(transformers, f"{family}ForCausalLM")(config))

    return make


@pytest.fixture
def engine_of():
    """`engine_of(model)`: a small engine that drives it."""

    def make(model, label="tiny", max_lanes=4, context=200):
        return TorchEngine(model, ByteTokenizer(), label, max_lanes=max_lanes, context=context)

    return make


@pytest.fixture(params=MODELS)
def name(request):
    """The name of each tiny model in turn."""
    return request.param
