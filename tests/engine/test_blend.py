"""Large weighted sums as one product: the same numbers as candidate by candidate, for each lane its own bits."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from superpose.engines import torch_engine_blend
from superpose.engines.torch_engine_blend import MIXED, Blender, are_few, candidates
from superpose.types import GaussianNoise, Mixture

VOCAB, WIDTH = 5000, 24


class Scaled(nn.Embedding):
    """Gemma's way: the module gives more than its table's rows; `looked_up` counts them."""

    looked_up = 0

    def forward(self, ids):
        self.looked_up += ids.numel()
        return super().forward(ids) * 4.9


def blender(module=nn.Embedding, dtype=torch.float32):
    embedding = module(VOCAB, WIDTH).requires_grad_(False)
    embedding.weight.copy_(torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(1)))
    return Blender(embedding.to(dtype), VOCAB, torch.device("cpu")), embedding


def mixture(seed, count=VOCAB, **options):
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.ones(count)) + 1e-4 * np.linspace(-1, 1, count)  # some negative
    return Mixture(random.permutation(VOCAB)[:count].astype(np.int32), weights.astype(np.float32), **options)


def bits(rows):
    return rows.numpy().view(np.uint32).tolist()


@pytest.mark.parametrize("module", [nn.Embedding, Scaled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_the_sum_of_the_modules_outputs(monkeypatch, module, dtype):
    blend, embedding = blender(module, dtype)
    inputs = [mixture(1), mixture(2, 3000, rescale="mean_norm"), mixture(3)]
    got = blend.mixtures(inputs)
    rows = [embedding(torch.tensor(m.ids)).double() for m in inputs]
    exact = torch.stack([torch.tensor(m.weights).double() @ row for m, row in zip(inputs, rows, strict=True)])
    exact[1] *= blend._mean_norm / exact[1].norm()
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() < 1e-6 * max(1.0, float(exact.abs().max()))
    monkeypatch.setattr(blend, "_large", VOCAB)
    one_by_one = blend.mixtures([*inputs, mixture(4)])[:3]  # another call: the last one's results are kept
    assert not torch.equal(got, one_by_one)  # they were added up in another order
    assert (got - one_by_one).abs().max() < 1e-6 * max(1.0, float(exact.abs().max()))


def test_a_large_sum_does_not_feel_its_neighbours_its_place_or_the_threads():
    blend, _ = blender()
    mine, others = mixture(0), [mixture(seed, 700 + 200 * seed) for seed in range(1, 20)]
    small, highest = mixture(50, 9), mixture(51, 700, combine="max")
    threads, found = torch.get_num_threads(), []
    try:
        for count in {1, threads}:
            torch.set_num_threads(count)
            for at, among in ((0, []), (0, others[:1]), (5, others[:6]), (9, others), (2, [small, highest, others[3]])):
                rows = blend._mixed([*among[:at], mine, *among[at:]])
                found.append(bits(rows[at]))
        assert found == found[:1] * len(found)
        assert bits(blend._mixed([small])[0]) == bits(blend._mixed([mine, small])[1])
    finally:
        torch.set_num_threads(threads)


def test_embeddings_are_read_once_for_all_lanes_and_for_measuring_and_feeding():
    blend, embedding = blender(Scaled)
    inputs = [mixture(seed) for seed in range(16)]
    embedding.looked_up = 0
    ratios = blend.norm_ratios(inputs)
    fed = blend.mixtures(inputs[::-1])
    assert embedding.looked_up == VOCAB
    assert ratios[::-1] == pytest.approx((fed.norm(dim=-1) / blend._mean_norm).numpy())
    assert torch.equal(fed, torch.cat([blend._mixed([m]) for m in inputs[::-1]]))


def test_beside_a_step_only_what_it_blends_itself_is_blended_again(monkeypatch):
    blend, embedding = blender(Scaled)
    inputs = [mixture(seed) for seed in range(5)]
    expected, done = [blend._mixed([m]).norm() for m in inputs], []

    class Stream:
        """Stands for a GPU's; says what it waits for."""

        def __init__(self, device, priority):
            assert priority < 0

        def wait_event(self, event):
            done.append(event)

    monkeypatch.setattr(torch_engine_blend, "_cuda", SimpleNamespace(Stream=Stream, stream=nullcontext))
    assert blend._lengths_beside(inputs).tolist() == expected and done == []
    blend.mixtures(inputs[1:3])
    blend._kept = blend._kept._replace(ready="ready")
    embedding.looked_up = 0
    assert blend._lengths_beside(inputs[2:0:-1]).tolist() == expected[2:0:-1]
    assert (embedding.looked_up, done) == (0, ["ready"])
    few = mixture(9, 2)
    assert blend._lengths_beside([few, inputs[2]])[1] == expected[2]
    assert embedding.looked_up == 2


@pytest.mark.parametrize("module", [nn.Embedding, Scaled])
def test_the_nearest_tokens_are_looked_for_among_the_modules_outputs_span_by_span(module):
    blend, embedding = blender(module, torch.bfloat16)
    m = mixture(1, 40)
    table = embedding(torch.arange(VOCAB)).double().numpy()
    mixed = m.weights.astype(np.float64) @ table[m.ids]
    cosines = table @ mixed / np.linalg.norm(table, axis=1) / np.linalg.norm(mixed)
    near = blend.nearest(m, 12)
    assert [token for token, _ in near] == np.argsort(-cosines)[:12].tolist()
    assert [cosine for _, cosine in near] == pytest.approx(np.sort(cosines)[:-13:-1], abs=1e-6)


def test_rows_without_a_direction_are_near_to_nothing():
    embedding = nn.Embedding(4, 2).requires_grad_(False)
    embedding.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [float("nan"), 0.0], [-1.0, -1.0]]))
    blend = Blender(embedding, 4, torch.device("cpu"))
    assert [token for token, _ in blend.nearest(Mixture.token(1), 4)] == [1, 3]
    assert blend.nearest(Mixture.token(0), 4) == []


@pytest.mark.parametrize("module", [nn.Embedding, Scaled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_mixes_few_candidates_to_the_same_bits(module, dtype):
    blend, _ = blender(module, dtype)
    inputs = [mixture(count, count, combine=combine) for count in (1, 2, 3, 17, MIXED) for combine in ("sum", "max")]
    highest = torch.tensor([[m.combine == "max"] for m in inputs])
    given = torch.from_numpy(candidates(inputs, MIXED))
    assert all(map(are_few, inputs))
    assert bits(blend.blend_few(given, highest)) == bits(blend.mixtures(inputs))
    others = [mixture(1, MIXED + 1), mixture(1, 2, combine="slerp"), mixture(1, 3, rescale=0.5)]
    assert not any(map(are_few, [*others, mixture(1, 3, noise=GaussianNoise(0.1, 1, 1))]))


def test_few_candidates_are_looked_up_alone():
    blend, embedding = blender(Scaled)
    embedding.looked_up = 0
    blend.mixtures([mixture(1, 625)])  # an eighth of the vocabulary
    assert embedding.looked_up == 1024


def test_a_row_that_is_not_finite_spoils_only_what_mixes_it():
    embedding = nn.Embedding(VOCAB, WIDTH).requires_grad_(False)
    embedding.weight[7] = float("nan")
    blend = Blender(embedding, VOCAB, torch.device("cpu"))
    without = Mixture(np.delete(np.arange(VOCAB, dtype=np.int32), 7), np.full(VOCAB - 1, 1 / (VOCAB - 1)))
    assert blend.mixtures([without]).isfinite().all()


def test_a_product_that_mixes_lanes_up_is_not_used(monkeypatch):
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: product(a, b) + 1e-6 * product(a, b).sum(0))
    assert blender()[0]._large == VOCAB
    assert torch_engine_blend.CANDIDATES < VOCAB // 8 + 1 < VOCAB
