"""Columns, lateral connections, and what is frozen."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.gradient import squared_gradients
from clx.loop.trainer import Trainer
from clx.model.dynamic import model_adaptation
from clx.model.pnn import PNN
from clx.strategy.finetune import Finetune
from clx.types import Experience

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def experience(index: int, **tasks: tuple[int, ...]) -> Experience:
    by_task = {int(name.removeprefix("t")): classes for name, classes in tasks.items()}
    classes = tuple(c for group in by_task.values() for c in group)
    return Experience(index=index, classes=classes, classes_by_task=by_task)


def grown(*experiences: Experience, **options: Any) -> PNN:
    torch.manual_seed(0)
    net = PNN(**{"num_layers": 2, "input_size": 3, "hidden_features_per_column": 4} | options)
    for each in experiences:
        model_adaptation(net, each)
    return net


FIRST, SECOND, THIRD = experience(0, t0=(0, 1)), experience(1, t5=(2, 3)), experience(2, t2=(4, 5))


def affine(layer: Any, x: Tensor) -> Tensor:
    return x @ layer.weight.T if layer.bias is None else x @ layer.weight.T + layer.bias


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_two_columns_by_hand(kind: Any) -> None:
    """Layer 1 of column 2 has no lateral input; layer 2 gets that of layer 1 of column 1, the output that of layer 2.
    mlp: U relu(V (scale h) + b); linear: U h. Tolerance: float32."""
    net = grown(FIRST, SECOND, adapter=kind)
    old, new = net.columns

    def lateral(adapter: Any, h: Tensor) -> Tensor:
        if kind == "linear":
            return affine(adapter.outer, h)
        return affine(adapter.outer, torch.relu(affine(adapter.inner, adapter.scale[0] * h)))

    if kind == "mlp":
        with torch.no_grad():
            new.adapters[0].scale.fill_(3.0)
    old1, new1 = (torch.relu(affine(column.layers[0], X)) for column in (old, new))
    old2 = torch.relu(affine(old.layers[1], old1))
    new2 = torch.relu(affine(new.layers[1], new1) + lateral(new.adapters[0], old1))
    torch.testing.assert_close(net.features(X, 0), old2)
    torch.testing.assert_close(net.features(X, 5), new2 + lateral(new.adapters[1], old2))
    heads = net.classifier.classifiers
    torch.testing.assert_close(net(X, 0)[:, :2], affine(heads["0"], old2))
    assert bool((net(X, 0)[:, 2:] == net.mask_value).all())


@pytest.mark.parametrize(("kind", "adapter"), [("mlp", 1 + 4 * 4 + 4 + 4 * 4), ("linear", 4 * 4)])
def test_parameters_of_a_column(kind: Any, adapter: int) -> None:
    """Inputs 3, two layers of 4: 16 + 20; the second column has two adapters more, of 4 inputs each."""
    first, second = grown(FIRST, SECOND, adapter=kind).columns
    assert sum(p.numel() for p in first.parameters()) == 36
    assert sum(p.numel() for p in second.parameters()) == 36 + 2 * adapter


def test_labels_of_every_form_agree_and_rows_keep_their_order() -> None:
    net = grown(FIRST, SECOND, THIRD)
    labels = [0, 5, 2, 5, 0, 2]
    mixed = net(X, labels)
    assert mixed.shape == (6, 6)
    assert torch.equal(mixed, net(X, torch.tensor(labels)))
    by_task = net(X, None)
    assert list(by_task) == [0, 5, 2]
    for row, task in enumerate(labels):
        torch.testing.assert_close(mixed[row], net(X, task)[row])
        torch.testing.assert_close(mixed[row], by_task[task][row])
    torch.testing.assert_close(net(X[:1], [5]), net(X, 5)[:1])


@pytest.mark.parametrize("labels", [7, [0, 7, 0, 0, 0, 0], torch.full((6,), 7)])
def test_an_unknown_task(labels: Any) -> None:
    with pytest.raises(ValueError, match=r"^task_labels 7: .* \[0, 5\]"):
        grown(FIRST, SECOND)(X, labels)
    with pytest.raises(ValueError, match=r"^task_labels None"):
        grown(FIRST).features(X)


def test_old_columns_do_not_move() -> None:
    """Momentum and weight decay over everything that asks for a gradient: outputs of task 0 stay, bit for bit."""
    net = grown(FIRST)
    before = copy.deepcopy(net)(X, 0)[:, :2]
    model_adaptation(net, SECOND)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5, momentum=0.9, weight_decay=0.1)
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        net(X, 5)[:, 2:].square().sum().backward()
        optimizer.step()
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, kept[name])}
    assert moved == {name for name in kept if name.startswith(("columns.1.", "classifier.classifiers.5."))}
    assert torch.equal(net(X, 0)[:, :2], before)


def test_what_is_trained() -> None:
    """A new task freezes what was there; two at once are trained together; one that comes again adds nothing."""

    def trainable(net: PNN) -> list[bool]:
        return [all(p.requires_grad for p in column.parameters()) for column in net.columns]

    net = grown(FIRST, SECOND)
    assert trainable(net) == [False, True]
    model_adaptation(net, experience(2, t8=(4,), t9=(5,)))
    assert trainable(net) == [False, False, True, True]
    model_adaptation(net, experience(3, t0=(0, 1)))
    assert trainable(net) == [False, False, True, True]
    model_adaptation(net, experience(4, t1=(6,)))
    assert trainable(net) == [False, False, False, False, True]


def test_a_grown_net_loads_into_a_fresh_one() -> None:
    net, fresh = grown(FIRST, SECOND, THIRD), grown()
    fresh.load_state_dict(net.state_dict())
    labels = [2, 5, 0, 0, 5, 2]
    assert torch.equal(fresh(X, labels), net(X, labels))
    assert (fresh.known_tasks, fresh.num_columns) == ([0, 5, 2], 6)
    assert [p.requires_grad for p in fresh.parameters()] == [p.requires_grad for p in net.parameters()]
    model_adaptation(fresh, experience(3, t7=(6, 7)))
    assert torch.equal(fresh(X, labels)[:, :6], net(X, labels))


def test_what_is_trained_is_loaded_too() -> None:
    """Two tasks that came at once are both still trained after loading, whatever came before them."""
    for before in ((), (FIRST,)):
        net, fresh = grown(*before, experience(1, t8=(2,), t9=(3,))), grown()
        fresh.load_state_dict(net.state_dict())
        trained = [column.layers[0].weight.requires_grad for column in fresh.columns]
        assert trained == [False] * len(before) + [True, True]


def test_gradients_of_single_samples() -> None:
    """What a Fisher estimate asks for: squares of per-sample gradients equal those of one sample at a time."""
    net, targets = grown(FIRST, SECOND), torch.tensor([2, 3, 2, 3, 2, 3])
    loss_of_one = lambda logits, target: nn.functional.cross_entropy(logits, target.unsqueeze(0))  # noqa: E731
    squares = squared_gradients(net, X, targets, loss_of_one, task_label=5)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    assert set(squares) == set(names)
    wanted = {name: torch.zeros_like(p) for name, p in net.named_parameters() if p.requires_grad}
    for x, target in zip(X, targets, strict=True):
        loss = nn.functional.cross_entropy(net(x.unsqueeze(0), 5), target.unsqueeze(0))
        parameters = [p for p in net.parameters() if p.requires_grad]
        for name, g in zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if g is not None:
                wanted[name] += g.square()
    for name in names:
        torch.testing.assert_close(squares[name], wanted[name], atol=1e-6, rtol=1e-5)


def test_it_learns_each_task_and_forgets_none(make_benchmark: Any) -> None:
    torch.manual_seed(0)
    benchmark = make_benchmark(scenario="task_incremental")
    net = PNN(num_layers=2, input_size=16, hidden_features_per_column=16)
    trainer = Trainer(Finetune(net), partial(torch.optim.SGD, lr=0.1, momentum=0.9), epochs=10, batch_size=4)
    assert trainer.train(benchmark.train, benchmark.test)["average_accuracy"] > 0.8
    plain = trainer.matrix.plain
    assert all(plain[i, j] == plain[j + 1, j] for j in range(3) for i in range(j + 1, 4))


@pytest.mark.parametrize("options", [{"num_layers": 0}, {"hidden_features_per_column": 0}, {"adapter": "none"}])
def test_bad_values(options: Any) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        PNN(**options)
