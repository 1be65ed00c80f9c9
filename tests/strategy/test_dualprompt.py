"""DualPrompt: its terms by hand, the experience's own prompts, and what it refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from clx.loop.trainer import Trainer
from clx.model.head.incremental import IncrementalClassifier
from clx.model.prompt import DualPrompts
from clx.model.vit import ViT
from clx.strategy.dualprompt import DualPrompt
from clx.types import Batch, Experience

PAPER = {"g_layers": [0, 1], "e_layers": [2, 3, 4], "L_g": 5, "L_e": 20, "lamda": 1.0}


@pytest.fixture
def model() -> ViT:
    torch.manual_seed(0)
    vit = ViT(2, "test_vit", input_shape=(1, 4, 4))
    vit.classifier = IncrementalClassifier(vit.feature_dim)
    return vit


def grown(model: ViT, **options: Any) -> tuple[DualPrompt, DualPrompts]:
    """After two experiences of two classes."""
    method = DualPrompt(model, **PAPER | options)
    method.adaptation(Experience(index=0, classes=(0, 1)))
    method.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    assert isinstance(model.prompts, DualPrompts)
    return method, model.prompts


def test_terms_by_hand(model: ViT) -> None:
    """Biases 0, 0, 0, ln 3: class 2 has 1/4 of its experience's, so ln 4. The newest key is opposite to the query,
    distance 2; the older one, which is right on it, is not asked in training."""
    method, prompts = grown(model, lamda=0.25)
    batch = Batch(torch.randn(1, 1, 4, 4), torch.tensor([2]), torch.tensor([0]))
    query = model.query(batch.x)[0]
    prompts.keys[0].data.copy_(query)
    prompts.keys[1].data.copy_(-query)
    linear: Any = model.classifier.classifier
    linear.weight.data.zero_()
    linear.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(3)]))
    terms = method.train().observe(batch).terms
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"ce": math.log(4), "pull": 0.5}, abs=1e-5
    )


def test_inference_finds_the_experience_by_its_key(model: ViT) -> None:
    """With the keys the other way round the other E-prompt answers."""
    method, prompts = grown(model)
    method.eval()
    x = torch.randn(1, 1, 4, 4)
    query = model.query(x)[0]
    answers = []
    for first, second in ((query, -query), (-query, query)):
        prompts.keys[0].data.copy_(first)
        prompts.keys[1].data.copy_(second)
        answers.append(method.inference(x))
    assert not torch.allclose(*answers)
    with torch.no_grad():
        prompts.e[0].copy_(prompts.e[1])
    torch.testing.assert_close(method.inference(x), answers[1])


def test_without_rows_it_is_a_linear_probe(model: ViT) -> None:
    method, _ = grown(model, L_g=0, L_e=0)
    method.eval()
    x = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(method.inference(x), model.classifier(model.query(x)), atol=1e-5, rtol=1e-5)


def test_later_experiences_leave_earlier_prompts(model: ViT, make_benchmark: Any) -> None:
    method, benchmark = DualPrompt(model, **PAPER), make_benchmark()
    trainer = Trainer(method, partial(torch.optim.Adam, lr=0.01), epochs=1, batch_size=5, device="cpu")
    states = []
    for experience in benchmark.train:
        trainer.train(experience)
        states.append({name: value.clone() for name, value in method.state_dict().items()})
    first, _, last = states
    for name in ("model.prompts.e.0", "model.prompts.keys.0", "model.body.blocks.0.attn.qkv.weight"):
        assert torch.equal(first[name], last[name])
    assert not torch.equal(first["model.prompts.g"], last["model.prompts.g"])


def test_what_it_refuses(model: ViT, make_model: Any, make_benchmark: Any) -> None:
    for options, text in (
        ({"L_e": -1}, "^L_e -1 < 0"),
        ({"e_layers": [1, 2]}, r"^e_layers \[1, 2\]: a layer has one kind of prompt"),
        ({"e_layers": [6]}, r"^e_layers \[6\]: each layer once, out of 0\.\.5"),
        ({"g_layers": [0, 0]}, r"^g_layers \[0, 0\]: each layer once"),
        ({"lamda": -1.0}, r"^lamda -1\.0 < 0"),
    ):
        with pytest.raises(ValueError, match=text):
            DualPrompt(model, **PAPER | options)
    reason = DualPrompt(make_model(), **PAPER).conflict(make_benchmark())
    assert reason == "model: prompts go into a vision transformer; set model=vit"
