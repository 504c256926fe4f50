"""Linear layers laid out anew: what they give, and which of them become one product."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from superpose.engines import torch_engine_linear
from superpose.engines.torch_engine_joined import Share
from superpose.engines.torch_engine_linear import PackedLinear, lay_out

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
needs_bfloat16 = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="needs oneDNN in bfloat16",
)


class Attention(nn.Module):
    """Three layers that read the same, one that reads their sum, and one that is used twice."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, size, bias=bias) for size in (48, 16, 16))
        self.out, self.again = nn.Linear(16, 32, bias=bias), nn.Linear(32, 32, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.q(x)[..., :16] + self.k(x) * self.v(x)
        y: Tensor = self.out(mixed)
        return self.again(y) + self.again(y)


class Model(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.table, self.block = nn.Embedding(8, 32), Attention(bias)

    def forward(self, input_ids: Tensor, use_cache: bool) -> Tensor:
        y: Tensor = self.block(self.table(input_ids))
        return y


@pytest.fixture(params=[False, True], ids=["without bias", "with bias"])
def bias(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[pytest.param(PackedLinear, marks=needs_onednn), nn.Linear], ids=["packed", "joined"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    """What layers are exchanged for, with oneDNN and where it is missing."""
    if request.param is nn.Linear:
        monkeypatch.setattr(torch_engine_linear, "_works", lambda _: False)
    return request.param


@pytest.fixture
def laid_out(bias: bool, kind: type[nn.Module]) -> tuple[Model, Attention]:
    """A model laid out anew, and its attention as it was before."""
    torch.manual_seed(0)
    model, same = Model(bias), Model(bias)
    same.load_state_dict(model.state_dict())
    assert lay_out(model) == ("packed together" if kind is PackedLinear else "joined")
    return model, same.block


def test_layers_that_read_the_same_are_one_product(laid_out: tuple[Model, Attention], kind: type[nn.Module]) -> None:
    model, plain = laid_out
    block = model.block
    shares = [block.q, block.k, block.v]
    assert all(isinstance(share, Share) for share in shares)
    assert len({id(share.whole) for share in shares}) == 1
    products = 0

    def count(*_: object) -> None:
        nonlocal products
        products += 1

    for module in block.modules():
        if isinstance(module, kind):
            module.register_forward_pre_hook(count)
    for rows in (1, 2, 7):
        x, products = torch.randn(rows, 1, 32), 0
        with torch.inference_mode():
            torch.testing.assert_close(block(x), plain(x))
        assert products == 4  # one of three, one of `out`, two of `again`


def test_a_layer_that_is_used_twice_stays_alone(laid_out: tuple[Model, Attention], kind: type[nn.Module]) -> None:
    assert isinstance(laid_out[0].block.again, kind)


@torch.inference_mode()
def test_a_layer_that_reads_something_else_gives_its_own(laid_out: tuple[Model, Attention]) -> None:
    block, plain = laid_out[0].block, laid_out[1]
    x, other = torch.randn(3, 1, 32), torch.randn(3, 1, 32)
    block.q(x)
    torch.testing.assert_close(block.k(other), plain.k(other))
    torch.testing.assert_close(block.v(x), plain.v(x))


@torch.inference_mode()
def test_what_was_fed_is_let_go_of_with_the_last_layer(laid_out: tuple[Model, Attention]) -> None:
    block = laid_out[0].block
    x = torch.randn(3, 1, 32)
    block.q(x)
    block.k(x)
    block.v(x)
    assert block.q._kept == [None, ()]


@torch.inference_mode()
def test_the_first_layer_reads_a_buffer_anew(laid_out: tuple[Model, Attention]) -> None:
    block, plain = laid_out[0].block, laid_out[1]
    x = torch.randn(3, 1, 32)
    block.q(x)
    x.neg_()
    torch.testing.assert_close(block.q(x), plain.q(x))
    torch.testing.assert_close(block.k(x), plain.k(x))


@needs_onednn
def test_a_weight_is_let_go_of_before_the_next_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model would not fit twice."""
    model = Model(bias=False)
    weights = [weakref.ref(module.weight) for module in model.modules() if type(module) is nn.Linear]
    alive: list[int] = []

    class Counted(PackedLinear):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__(linear)
            alive.append(sum(weight() is not None for weight in weights))

    monkeypatch.setattr(torch_engine_linear, "PackedLinear", Counted)
    assert lay_out(model) == "packed together"
    assert alive == [5, 5, 2, 1]  # the trial, three at once, then one by one
    assert not any(weight() is not None for weight in weights)


@torch.inference_mode()
def test_layers_joined_in_bfloat16_give_the_bits_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine_linear, "_works", lambda _: False)
    torch.manual_seed(0)
    model, same = Model(bias=False).bfloat16(), Model(bias=False).bfloat16()
    same.load_state_dict(model.state_dict())
    assert lay_out(model) == "joined"
    for rows in (1, 2, 7):
        x = torch.randn(rows, 1, 32).bfloat16()
        assert torch.equal(model.block(x), same.block(x))


@needs_bfloat16
@torch.inference_mode()
def test_layers_in_bfloat16_are_packed_too(bias: bool) -> None:
    torch.manual_seed(0)
    model, same = Model(bias).bfloat16(), Model(bias).bfloat16()
    same.load_state_dict(model.state_dict())
    assert lay_out(model) == "packed together"
    for rows in (1, 2, 7):
        x = torch.randn(rows, 1, 32).bfloat16()
        torch.testing.assert_close(model.block(x), same.block(x))


@needs_bfloat16
def test_a_bfloat16_engine_computes_with_packed_layers_alone(
    build: Callable[..., Any], engine_of: Callable[..., Any], one_thread: None
) -> None:
    engine = engine_of(build("qwen3").to(torch.bfloat16))
    assert not any(type(module) is nn.Linear for module in engine._model.modules())
    assert {weight.dtype for weight in torch_engine_linear.packed(engine._model)} == {torch.bfloat16}


def test_layers_of_several_devices_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine_linear, "_works", lambda _: False)
    model = Model(bias=False)
    model.table.to("meta")
    assert lay_out(model) == "plain"
    assert type(model.block.q) is nn.Linear
