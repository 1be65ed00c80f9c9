"""L2P: its terms by hand, what it trains, and what it refuses."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.vit import ViT
from clx.strategy.l2p import L2P
from clx.types import Batch, Experience

PAPER = {"M": 10, "L_p": 5, "N": 5, "lamda": 0.1}


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    vit = ViT(2, "test_vit", input_shape=(1, 4, 4))
    vit.classifier = IncrementalClassifier(vit.feature_dim)
    return vit


def batch_of(y: list[int]) -> Batch:
    return Batch(torch.randn(len(y), 1, 4, 4), torch.tensor(y), torch.zeros(len(y), dtype=torch.int64))


def test_terms_by_hand(model: ViT) -> None:
    """A head of zeros with biases 0, 0, 0, ln 3: among classes 2 and 3 the first has 1/4, so ln 4; among all it
    would be ln 6. Both keys lie along the query, one of them opposite: cosines 1 and -1, distances 0 + 2, times .5."""
    method = L2P(model, M=2, L_p=1, N=2, lamda=0.5)
    method.adaptation(Experience(index=0, classes=(0, 1)))
    method.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    batch = batch_of([2])
    query = model.query(batch.x)
    assert isinstance(model.prompts, nn.Module)
    model.prompts.keys.data.copy_(torch.cat((-query, 3 * query)))
    linear = model.classifier.classifier
    linear.weight.data.zero_()
    linear.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(3)]))
    objective = method.observe(batch)
    assert {name: term.item() for name, term in objective.terms.items()} == pytest.approx(
        {"ce": math.log(4), "pull": 1.0}, abs=1e-5
    )
    assert objective.logits is not None
    assert objective.logits.shape == (1, 4)


def test_logits_are_of_the_prompted_network(model: ViT) -> None:
    """The prompts of the nearest keys, taken sample by sample, ahead of the image's tokens."""
    method = L2P(model, **PAPER).eval()
    method.adaptation(Experience(index=0, classes=(0, 1)))
    x = batch_of([0, 1, 0]).x
    pool: Any = model.prompts
    logits = []
    for image in x:
        query = model.query(image[None])
        order = torch.cosine_similarity(query, pool.keys).argsort(descending=True)[:5]
        tokens = model.body._pos_embed(model.body.patch_embed(nn.functional.pad(image[None], (6,) * 4)))
        joined = torch.cat((pool.prompts[order].flatten(0, 1)[None], tokens), 1)
        logits.append(model.classifier(model.body.norm(model.body.blocks(joined))[:, :25].mean(1)))
    torch.testing.assert_close(method.inference(x), torch.cat(logits), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.classify(method.model.features(x)), torch.cat(logits), atol=1e-5, rtol=1e-5)


def test_prediction_does_not_depend_on_the_batch(model: ViT) -> None:
    method = L2P(model, **PAPER).eval()
    method.adaptation(Experience(index=0, classes=(0, 1)))
    x = batch_of([0] * 6).x
    torch.testing.assert_close(method.inference(x)[2:4], method.inference(x[2:4]), atol=1e-5, rtol=1e-5)


def train(model: ViT, benchmark: Any, **options: Any) -> dict[str, Tensor]:
    method = L2P(model, **PAPER | options)
    trainer = Trainer(method, partial(torch.optim.Adam, lr=0.01), epochs=1, batch_size=5, device="cpu")
    trainer.train(benchmark.train)
    return method.model.state_dict()


def test_body_stays_and_prompts_move(model: ViT, make_benchmark: Any) -> None:
    """Without the pull no gradient reaches the keys: they stay too."""
    before, still = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    after = train(model, make_benchmark())
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith("body"))
    torch.manual_seed(7)
    start = L2P(copy.deepcopy(still), **PAPER).model.state_dict()
    torch.manual_seed(7)
    free = train(still, make_benchmark(), lamda=0.0)
    assert torch.equal(free["prompts.keys"], start["prompts.keys"])
    assert not torch.equal(free["prompts.prompts"], start["prompts.prompts"])


def test_what_it_refuses(model: ViT, make_model: Any, make_benchmark: Any) -> None:
    for options, text in (
        ({"N": 11}, r"^N 11 is outside 1\.\.10"),
        ({"N": 0}, r"^N 0 is outside 1\.\.10"),
        ({"L_p": 0}, "^L_p 0 < 1"),
        ({"lamda": -1.0}, r"^lamda -1\.0 < 0"),
    ):
        with pytest.raises(ValueError, match=text):
            L2P(model, **PAPER | options)
    reason = L2P(make_model(), **PAPER).conflict(make_benchmark())
    assert reason == "model: prompts go into a vision transformer; set model=vit"
