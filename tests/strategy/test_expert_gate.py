"""Expert Gate: one expert and one autoencoder more for each experience, and the right one for each input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from clx.buffer.reservoir import Reservoir
from clx.loop.trainer import Trainer
from clx.model.pnn import PNN
from clx.strategy.expert_gate import ExpertGate
from clx.types import Batch, Experience, Samples

PLAIN = {
    "ae_train_mb_size": 8, "ae_train_epochs": 5, "ae_latent_dim": None, "ae_lr": 0.01, "temp": 2.0, "rel_thresh": 0.85,
    "expert_hidden": [6], "top_k": 1, "holdout": 0.25, "lwf_weight": 1.0, "lwf_temperature": 2.0, "seed": 0,
}  # fmt: skip


def expert_gate(model: Any, buffer: Any = None, **options: Any) -> ExpertGate:
    return ExpertGate(model, buffer, **PLAIN | options)


def trained(strategy: ExpertGate, stream: Any, **options: Any) -> Trainer:
    trainer = Trainer(strategy, device="cpu", **{"epochs": 3, "batch_size": 8} | options)
    trainer.train(stream)
    return trainer


def count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def test_an_experience_adds_an_autoencoder_and_an_expert_and_no_backbone(make_benchmark: Any, make_model: Any) -> None:
    """8 features: autoencoder 8-2-8 has 42 parameters; expert 8-6-2 has 68; the layer for kept answers is shared."""
    strategy, model = expert_gate(make_model()), make_model()
    sizes = []
    for experience in make_benchmark().train:
        strategy.adaptation(experience)
        sizes.append((count(strategy.model), count(strategy.autoencoders), count(strategy.experts)))
    assert sizes == [(count(model), 42 * n, 68 * n) for n in (1, 2, 3)]


def test_the_backbone_and_earlier_experts_stay(make_benchmark: Any, make_model: Any) -> None:
    strategy, stream = expert_gate(make_model()), make_benchmark().train
    trainer = trained(strategy, stream[:1])
    kept = {name: value.clone() for name, value in strategy.state_dict().items()}
    trainer.train(stream[1:])
    for name, value in strategy.state_dict().items():
        if name.startswith(("model.", "autoencoders.0.", "experts.0.", "mean", "std")) and torch.is_tensor(value):
            assert torch.equal(value, kept[name]), name
    assert not strategy.train().model.training


def test_after_one_experience_it_is_its_expert(make_benchmark: Any, make_model: Any) -> None:
    benchmark, strategy = make_benchmark(), expert_gate(make_model())
    trained(strategy, benchmark.train[:1])
    x = benchmark.transform.eval(benchmark.test[0].raw)
    scores = strategy.eval().inference(x)
    torch.testing.assert_close(scores, strategy.experts[0](strategy.model.features(x)).log_softmax(1))
    assert torch.equal(strategy.probabilities(x), torch.ones(len(x), 1))


def test_the_gate_knows_clearly_different_inputs(make_model: Any) -> None:
    """One task near 0, one near 3, in 16 values: the right expert for at least 9 of 10 samples, and their classes."""
    torch.manual_seed(0)
    strategy, sets = expert_gate(make_model(), ae_train_epochs=30), []
    for task in range(2):
        y = torch.arange(80) % 2 + 2 * task
        x = torch.randn(80, 1, 4, 4) * 0.3 + 3 * task
        x[:, 0, 0, 0] += 4.0 * (y % 2)
        sets.append(Experience(index=task, classes=(2 * task, 2 * task + 1), previous_classes=tuple(range(2 * task)),
                               train=Samples(x, y, torch.zeros_like(y))))  # fmt: skip

    class Plain:
        train = eval = staticmethod(torch.Tensor.float)

    trained(strategy, sets, transform=Plain, epochs=20)
    strategy.eval()
    for task, experience in enumerate(sets):
        right = strategy.probabilities(experience.data.raw).argmax(1) == task
        assert right.float().mean() >= 0.9
        hits = strategy.inference(experience.data.raw).argmax(1) == experience.data.y
        assert hits.float().mean() >= 0.8


def prepared(model: Any, **options: Any) -> ExpertGate:
    """Two experiences grown, nothing trained."""
    strategy = expert_gate(model, **options)
    strategy.adaptation(Experience(index=0, classes=(0, 1)))
    strategy.adaptation(Experience(index=1, classes=(2, 3), previous_classes=(0, 1)))
    return strategy


def test_the_terms_by_hand(make_model: Any) -> None:
    """ce over the expert's own two classes; lwf: T^2 KL between the teacher's answers and those that are kept, which
    start as the teacher's last layer, on the new expert's hidden units."""
    strategy = prepared(make_model(), lwf_weight=3.0)
    teacher, expert = strategy.expert(0), strategy.expert(1)
    strategy.keep_answers_of(teacher)
    x, y = torch.randn(5, 8), torch.tensor([2, 3, 3, 2, 2])
    terms = strategy.observe_expert(Batch(x, y, torch.zeros_like(y)), teacher).terms
    hidden = expert.body(x)
    torch.testing.assert_close(terms["ce"], torch.nn.functional.cross_entropy(expert.classifier(hidden), y - 2))
    p = (teacher(x) / 2).softmax(1)
    q = ((hidden @ teacher.classifier.weight.T + teacher.classifier.bias) / 2).softmax(1)
    kl = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(terms["lwf"], 3 * 4 * kl)
    assert strategy.observe_expert(Batch(x, y, torch.zeros_like(y))).terms.keys() == {"ce"}
    codes = torch.rand(5, 8)
    logits = strategy.autoencoders[-1](codes)
    bce = -(codes * logits.sigmoid().log() + (1 - codes) * (1 - logits.sigmoid()).log()).sum(1).mean()
    torch.testing.assert_close(strategy.observe_codes(Batch(codes, y, y)).terms["reconstruction"], bce)


@pytest.mark.parametrize(("threshold", "held"), [(-math.inf, True), (math.inf, False)])
def test_related_enough_or_not(threshold: float, held: bool, make_benchmark: Any, make_model: Any) -> None:
    """The new expert starts from the related one either way; above the threshold its answers are kept too."""
    strategy, stream = expert_gate(make_model(), rel_thresh=threshold), make_benchmark().train
    trainer = trained(strategy, stream[:1])
    trainer.grow(stream[1])
    phases = strategy.phases(stream[1])
    assert next(phases).name == "autoencoder"
    expert = next(phases)
    assert expert.name == "expert"
    own, theirs = strategy.expert(1).body[0].weight, strategy.expert(0).body[0].weight
    assert torch.equal(own, theirs)
    assert (expert.observe.keywords["teacher"] is not None) == held
    assert len(expert.parameters[0]["params"]) == (6 if held else 4)


def test_the_most_related_is_the_one_with_the_least_error(make_model: Any) -> None:
    strategy = prepared(make_model())
    strategy.adaptation(Experience(index=2, classes=(4, 5), previous_classes=(0, 1, 2, 3)))
    errors = [1.3, 1.1, 1.0]
    for module, error in zip(strategy.autoencoders, errors, strict=True):
        module.error = lambda codes, e=error: torch.full((len(codes),), e)
    number, degree = strategy.most_related(torch.rand(4, 8))
    assert (number, degree) == (1, pytest.approx(0.9))


def test_what_does_not_fit(make_benchmark: Any, make_model: Any) -> None:
    model, benchmark = make_model(), make_benchmark()
    assert "set buffer=none" in str(expert_gate(model, Reservoir(5, 0, offer="first_epoch")).conflict(benchmark))
    assert "depend on the task" in str(expert_gate(PNN()).conflict(benchmark))
    assert "domain_incremental" in str(expert_gate(model).conflict(make_benchmark(scenario="domain_incremental")))
    for wrong in (
        {"ae_latent_dim": 9},
        {"ae_latent_dim": 0},
        {"temp": 0.0},
        {"top_k": 0},
        {"holdout": 1.0},
        {"ae_lr": 0.0},
    ):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} "):
            expert_gate(model, **wrong)
