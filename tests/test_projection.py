"""Projections against hand-worked values, a reference solver, and what makes each of them one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from clx.model.dynamic import model_adaptation
from clx.projection import (
    as_vector,
    extend_projector,
    filled_gradients,
    layer_inputs,
    logit_gradients,
    new_directions,
    project_cone,
    project_layer,
    project_out,
    quadratic_minimum,
    regrown,
    write_vector,
)
from clx.types import Experience


def test_vectors_go_back_to_where_they_came_from() -> None:
    tensors = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0])]
    vector = as_vector(tensors)
    assert vector.tolist() == [1, 2, 3, 4, 5]
    write_vector(tensors, vector * 2)
    assert tensors[0].tolist() == [[2, 4], [6, 8]]
    assert tensors[1].tolist() == [10]


def test_parameters_without_a_gradient_get_zeros() -> None:
    with_one, without = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    with_one.grad = torch.tensor([3.0, 4.0])
    found = filled_gradients([with_one, without])
    assert [g.tolist() for g in found] == [[3, 4], [0]]
    assert found[0] is with_one.grad
    assert found[1] is without.grad


@pytest.mark.parametrize(
    ("g", "references", "gamma", "expected"),
    [
        ((1.0, -1.0), [(0.0, 2.0)], 0.0, (1.0, 0.0)),  # v = 2 / 4: g + (0, 1)
        ((1.0, -1.0), [(0.0, 2.0)], 0.5, (1.0, 0.0)),  # the same v is no less than gamma
        ((1.0, -1.0), [(0.0, 2.0)], 2.0, (1.0, 3.0)),  # v = gamma: g + (0, 4)
        ((-1.0, -2.0), [(1.0, 0.0), (0.0, 1.0)], 0.0, (0.0, 0.0)),  # v = 1, 2
        ((1.0, -2.0), [(1.0, 0.0), (0.0, 1.0)], 0.0, (1.0, 0.0)),  # v = 0, 2: the first does not mind
        ((1.0, -2.0), [(1.0, 0.0), (0.0, 1.0)], 0.5, (1.5, 0.0)),  # v = .5, 2: it takes part where another does
        # Gg = -1, -1 and GG' = 1 1 | 1 2: on the second alone v = 1/2, g + v r = (-.5, .5), which the first minds;
        # on the first alone v = 1, (0, 0), which neither minds.
        ((-1.0, 0.0), [(1.0, 0.0), (1.0, 1.0)], 0.0, (0.0, 0.0)),
        ((1.0, 1.0), [(1.0, 0.0), (-1.0, 1.0)], 0.5, (1.0, 1.0)),  # Gg = 1, 0: as it was, gamma or not
    ],
)
def test_cone_by_hand(
    g: tuple[float, ...], references: list[tuple[float, ...]], gamma: float, expected: tuple[float, ...]
) -> None:
    """ridge 1e-9 moves v by as little."""
    found = project_cone(torch.tensor(g), torch.tensor(references), gamma, 1e-9)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_quadratic_minimum_against_a_reference_solver(seed: int, gamma: float) -> None:
    """L-BFGS-B from scipy with bounds finds no lower value, and the same v. Tolerance: its own, 1e-4."""
    draw = torch.Generator().manual_seed(seed)
    references = torch.randn(7, 12, generator=draw, dtype=torch.float64)
    square = references @ references.T + 1e-3 * torch.eye(7, dtype=torch.float64)
    linear = 4 * references @ torch.randn(12, generator=draw, dtype=torch.float64)
    found = quadratic_minimum(square, linear, gamma)

    def value(v: Tensor) -> float:
        return float(v @ square @ v / 2 + linear @ v)

    other = minimize(
        lambda v: value(torch.from_numpy(v)),
        torch.ones(7).numpy(),
        jac=lambda v: (square @ torch.from_numpy(v) + linear).numpy(),
        bounds=[(gamma, None)] * 7,
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    assert bool((found >= gamma).all())
    assert value(found) <= other.fun + 1e-9
    torch.testing.assert_close(found, torch.from_numpy(other.x), rtol=0, atol=1e-4)
    slope = square @ found + linear  # the conditions of a minimum: flat where v is free, upwards at the bound
    free = found > gamma + 1e-9
    assert 0 < int(free.sum()) < 7
    torch.testing.assert_close(slope[free], torch.zeros(int(free.sum()), dtype=torch.float64), rtol=0, atol=1e-8)
    assert bool((slope[~free] > -1e-8).all())


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_points_against_no_reference_and_is_the_closest_such(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    g = torch.randn(30, generator=draw, dtype=torch.float64)
    references = torch.randn(5, 30, generator=draw, dtype=torch.float64)
    references[0] -= 2 * g  # so that there is a conflict
    found = project_cone(g, references, 0.0, 1e-12)
    assert float((references @ g).min()) < 0
    assert float((references @ found).min()) > -1e-9
    for _ in range(50):  # no vector that is allowed is closer; the set is convex, so steps towards it are enough
        other = found + 0.1 * torch.randn(30, generator=draw, dtype=torch.float64)
        if float((references @ other).min()) >= 0:
            assert float((other - g).norm()) >= float((found - g).norm())


def test_a_gradient_that_is_not_finite_is_left_to_the_loop() -> None:
    g = torch.tensor([float("nan"), -1.0])
    assert project_cone(g, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.5, 1e-3) is g
    references = torch.tensor([[0.0, 1.0], [float("inf"), 0.0]])
    assert torch.equal(project_cone(torch.tensor([0.0, -1.0]), references, 0.5, 1e-3), torch.tensor([0.0, -1.0]))


def test_logit_gradients_are_those_of_single_samples(make_model: Any) -> None:
    """Against autograd on one sample at a time, in two chunks; the frozen first layer has no column."""
    model = make_model().eval()
    model_adaptation(model, Experience(index=0, classes=(0, 1, 2)))
    model.body[1].weight.requires_grad_(False)
    x, y = torch.randn(5, 1, 4, 4), torch.tensor([0, 2, 1, 1, 0])
    found = logit_gradients(model, x, y, task_label=0, chunk=3)
    trained = [p for p in model.parameters() if p.requires_grad]
    for row, sample, label in zip(found, x, y, strict=True):
        wanted = torch.autograd.grad(model(sample.unsqueeze(0), 0)[0, label], trained)
        torch.testing.assert_close(row, as_vector(wanted), rtol=1e-5, atol=1e-6)


def test_project_out_by_hand() -> None:
    """(3, 4, 5) without its parts along (0, 1, 0) and (.6, 0, .8): 4, and 1.8 + 4 = 5.8, so (3 - 3.48, 0, 5 - 4.64)."""
    basis = torch.tensor([[0.0, 1.0, 0.0], [0.6, 0.0, 0.8], [0.0, 0.0, 0.0]])
    found = project_out(torch.tensor([3.0, 4.0, 5.0]), basis)
    torch.testing.assert_close(found, torch.tensor([-0.48, 0.0, 0.36]), rtol=0, atol=1e-6)


def test_new_directions_span_what_gram_schmidt_does() -> None:
    """Seven vectors of rank five over a basis of two: five more rows, orthonormal, and the same projection as
    Gram-Schmidt, one vector after the other, has. Tolerance 1e-10 in float64."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 2, generator=draw, dtype=torch.float64)).Q.T
    vectors = torch.randn(5, 12, generator=draw, dtype=torch.float64)
    vectors = torch.cat((vectors, 2 * vectors[:1], vectors[1:2] - basis[:1]))
    found = new_directions(vectors, basis)
    assert len(found) == 5
    together = torch.cat((basis, found))
    torch.testing.assert_close(together @ together.T, torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-10)
    rows = list(basis)
    for vector in vectors:
        left = vector - sum((row @ vector) * row for row in rows)
        if left.norm() > 1e-8:
            rows.append(left / left.norm())
    schmidt = torch.stack(rows)
    torch.testing.assert_close(together.T @ together, schmidt.T @ schmidt, rtol=0, atol=1e-10)


def test_nothing_new_adds_no_direction() -> None:
    basis = torch.eye(2, 4)
    assert new_directions(torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), basis).shape == (0, 4)
    assert new_directions(torch.zeros(0, 4), basis).shape == (0, 4)


def test_a_basis_follows_parameters_that_grow() -> None:
    """Parameter a of two values gets a third, b keeps its one, c is new; one row becomes two."""
    found = regrown(torch.tensor([[1.0, 2.0, 3.0]]), {"a": 2, "b": 1}, {"a": 3, "c": 1, "b": 1}, 2)
    assert found.tolist() == [[1, 2, 0, 0, 3], [0, 0, 0, 0, 0]]
    assert regrown(torch.zeros(0, 0), {}, {"a": 2}, 1).tolist() == [[0, 0]]


def test_projector_by_hand() -> None:
    """Inputs' moment diag(6, 3, 1), energy 10. Threshold .5: the first axis holds .6. Then .95 with all moments the
    same: .6 and .3 are .9, so both others are taken. At .85 one is."""
    moment = torch.diag(torch.tensor([6.0, 3.0, 1.0]))
    first = extend_projector(torch.zeros(3, 3), moment, 0.5)
    torch.testing.assert_close(first, torch.diag(torch.tensor([1.0, 0.0, 0.0])))
    torch.testing.assert_close(extend_projector(first, moment, 0.95), torch.eye(3))
    torch.testing.assert_close(extend_projector(first, moment, 0.85), torch.diag(torch.tensor([1.0, 1.0, 0.0])))
    assert extend_projector(first, moment, 0.6) is first
    assert not extend_projector(torch.zeros(3, 3), moment, 0.0).any()


@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.99, 1.0])
def test_projector_against_singular_vectors_of_the_inputs(threshold: float) -> None:
    """The paper's own way: R^ = R - M M' R, its SVD, and the least k with |M M' R|^2 + |R^_k|^2 >= threshold |R|^2."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(9, 2, generator=draw, dtype=torch.float64)).Q
    inputs = torch.randn(9, 6, generator=draw, dtype=torch.float64)  # columns are inputs; rank 6 of 9
    held = basis @ (basis.T @ inputs)
    left, sizes, _ = torch.linalg.svd(inputs - held, full_matrices=False)
    energies = [float(held.square().sum() + sizes[:k].square().sum()) for k in range(7)]
    count = next(k for k, energy in enumerate(energies) if energy >= threshold * float(inputs.square().sum()) - 1e-9)
    wanted = basis @ basis.T + left[:, :count] @ left[:, :count].T
    found = extend_projector(basis @ basis.T, inputs @ inputs.T, threshold)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(found @ found, found, rtol=0, atol=1e-10)
    assert found.trace().item() == pytest.approx(2 + count)


@pytest.mark.parametrize("bias", [True, False])
def test_layer_inputs_are_what_the_weights_multiply(bias: bool) -> None:
    """inputs @ [W b]' gives the outputs of the layer itself, a convolution with stride, dilation and padding too."""
    draw = torch.Generator().manual_seed(0)
    layers: list[tuple[nn.Linear | nn.Conv2d, Tensor]] = [
        (nn.Linear(5, 3, bias=bias), torch.randn(4, 5, generator=draw)),
        (nn.Conv2d(2, 3, (3, 2), 2, padding=1, dilation=(1, 2), bias=bias), torch.randn(4, 2, 6, 7, generator=draw)),
    ]
    for layer, x in layers:
        weight = layer.weight.flatten(1)
        whole = torch.cat((weight, layer.bias.unsqueeze(1)), 1) if layer.bias is not None else weight
        outputs = layer(x)
        wanted = outputs if outputs.dim() == 2 else outputs.permute(0, 2, 3, 1).flatten(0, 2)
        torch.testing.assert_close(layer_inputs(layer, x) @ whole.T, wanted, rtol=1e-5, atol=1e-5)


def test_project_layer_by_hand() -> None:
    """Inputs (1, 1) with the constant 1 are kept: P = 1/3 everywhere. A gradient (1, 2) with bias 3 has sum 6, so
    2 is taken from each; (3, 0) with 0 has 3, so 1."""
    layer = nn.Linear(2, 2)
    layer.weight.grad, layer.bias.grad = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([3.0, 0.0])
    project_layer(layer, torch.full((3, 3), 1 / 3))
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[-1.0, 0.0], [2.0, -1.0]]))
    torch.testing.assert_close(layer.bias.grad, torch.tensor([1.0, -1.0]))
