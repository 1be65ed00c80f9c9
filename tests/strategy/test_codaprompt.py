"""CODA-Prompt: its terms by hand, components of earlier experiences, and what it refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.prompt import PromptComponents
from clx.model.vit import Prompt, ViT
from clx.strategy.codaprompt import CODAPrompt
from clx.types import Batch, Experience

PAPER = {"components": 10, "L_p": 8, "layers": [0, 1, 2, 3, 4], "lamda": 0.1}


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    vit = ViT(2, "test_vit", input_shape=(1, 4, 4))
    vit.classifier = IncrementalClassifier(vit.feature_dim)
    return vit


def test_terms_by_hand(model: ViT) -> None:
    """Biases 0, 0, 0, ln 3: class 2 has 1/4 of its experience's, so ln 4. All components are orthonormal but for one
    key of length 3: its square less one is 8, and 8^2 / 4 of the 2 x 2 entries is 16, times .5."""
    method = CODAPrompt(model, **PAPER | {"components": 1, "layers": [1], "lamda": 0.5})
    method.adaptation(Experience(index=0, classes=(0, 1)))
    method.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    assert isinstance(model.prompts, PromptComponents)
    model.prompts.blocks["K1"].data.mul_(3)
    linear: Any = model.classifier.classifier
    linear.weight.data.zero_()
    linear.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(3)]))
    batch = Batch(torch.randn(1, 1, 4, 4), torch.tensor([2]), torch.tensor([0]))
    terms = method.observe(batch).terms
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ce": math.log(4), "orthogonality": 8.0}, abs=1e-4
    )
    method.lamda = 0.0
    assert list(method.observe(batch).terms) == ["ce"]


def test_features_have_the_summed_components_as_prefixes(model: ViT) -> None:
    """For each sample alone: cosines of q * A_m to K_m, by a loop; half of the rows of the sum are keys."""
    method = CODAPrompt(model, **PAPER | {"components": 2, "layers": [0, 3]}).eval()
    for index in range(2):
        method.adaptation(Experience(index=index, classes=(index,), previous_classes=tuple(range(index))))
    prompts, x, wanted = model.prompts, torch.randn(3, 1, 4, 4), []
    assert isinstance(prompts, PromptComponents)
    for image in x:
        query, prefixes = model.query(image[None])[0], {}
        for place, layer in enumerate((0, 3)):
            rows = zip(*(prompts.joined(kind)[place] for kind in "AKP"), strict=True)
            p = torch.stack([torch.cosine_similarity(query * a, k, dim=0) * p for a, k, p in rows]).sum(0)
            keys, values = p.view(8, -1).split(4)
            prefixes[layer] = torch.stack((keys, values))[None]
        wanted.append(model.prompted(image[None], Prompt(prefixes=prefixes)))
    torch.testing.assert_close(method.inference(x), model.classifier(torch.cat(wanted)), atol=1e-5, rtol=1e-5)


def test_later_experiences_leave_earlier_components(model: ViT, make_benchmark: Any) -> None:
    method, benchmark = CODAPrompt(model, **PAPER), make_benchmark()
    trainer = Trainer(method, partial(torch.optim.Adam, lr=0.01), epochs=1, batch_size=5, device="cpu")
    trainer.train(benchmark.train[0])
    first = {name: value.clone() for name, value in method.state_dict().items()}
    trainer.train(benchmark.train[1])
    last = method.state_dict()
    for kind in "PKA":
        assert torch.equal(first[f"model.prompts.blocks.{kind}0"], last[f"model.prompts.blocks.{kind}0"])
        assert f"model.prompts.blocks.{kind}1" in last
    assert all(torch.equal(first[name], last[name]) for name in first if name.startswith("model.body"))


def test_what_it_refuses(model: ViT, make_model: Any, make_benchmark: Any) -> None:
    for options, text in (
        ({"components": 0}, "^components 0 < 1"),
        ({"L_p": 3}, "^L_p 3: half are keys and half values"),
        ({"lamda": -1.0}, r"^lamda -1\.0 < 0"),
        ({"layers": [0, 6]}, r"^layers \[0, 6\]: each layer once, out of 0\.\.5"),
    ):
        with pytest.raises(ValueError, match=text):
            CODAPrompt(model, **PAPER | options)
    reason = CODAPrompt(make_model(), **PAPER).conflict(make_benchmark())
    assert reason == "model: prompts go into a vision transformer; set model=vit"
    reason = CODAPrompt(model, **PAPER | {"components": 22}).conflict(make_benchmark())
    assert reason is not None
    assert reason.startswith("strategy.components=22: 3 experiences make 66, more than the 64 features")
