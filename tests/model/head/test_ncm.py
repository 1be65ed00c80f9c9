"""The nearest class mean, by hand and against one sample at a time."""

from __future__ import annotations

import pytest
import torch

from clx.model.head.ncm import NCMClassifier
from clx.types import Experience


def adapted(in_features: int, *classes: int, normalize: bool = True) -> NCMClassifier:
    head = NCMClassifier(in_features, normalize=normalize)
    head.adaptation(Experience(index=0, classes=classes))
    return head


def test_the_score_is_minus_the_distance_to_the_mean() -> None:
    """Means (0, 0) and (3, 4) of two samples each; from (0, 1): distances 1 and sqrt(9 + 9). Tolerance: float32."""
    head = adapted(2, 0, 1, normalize=False)
    head.add(torch.tensor([[1.0, 0.0], [2.0, 4.0], [-1.0, 0.0], [4.0, 4.0]]), torch.tensor([0, 1, 0, 1]))
    assert head.class_means.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    torch.testing.assert_close(head(torch.tensor([[0.0, 1.0]])), torch.tensor([[-1.0, -(18**0.5)]]))


def test_normalised_features_and_means() -> None:
    """(2, 0) and (0, 8) become (1, 0) and (0, 1), their mean (.5, .5) becomes (1, 1) / sqrt 2; from (5, 5): 0."""
    head = adapted(2, 0)
    head.add(torch.tensor([[2.0, 0.0], [0.0, 8.0]]), torch.tensor([0, 0]))
    torch.testing.assert_close(head(torch.tensor([[5.0, 5.0]])), torch.zeros(1, 1), atol=1e-3, rtol=0)
    assert head(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(-((2 - 2**0.5) ** 0.5), abs=1e-6)


def test_samples_at_once_equal_samples_one_by_one_in_another_order() -> None:
    """Tolerance 1e-6: the running mean rounds at each sample."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, generator=draw), torch.randint(4, (50,), generator=draw)
    at_once, one_by_one = adapted(3, 0, 1, 2, 3), adapted(3, 0, 1, 2, 3)
    at_once.add(x[:20], y[:20])
    at_once.add(x[20:], y[20:])
    for i in torch.randperm(50, generator=draw).tolist():
        one_by_one.add(x[i : i + 1], y[i : i + 1])
    torch.testing.assert_close(at_once.class_means, one_by_one.class_means, atol=1e-6, rtol=0)
    assert at_once.counts.tolist() == y.bincount(minlength=4).tolist() == one_by_one.counts.tolist()


def test_given_means() -> None:
    """Unit vectors in four dimensions as means: (4, 3, 2, 1) is nearest to the first, (3, 2, 4, 1) to the third.
    A class 5 after 0 to 2 makes six rows; 3 and 4 have no mean, and a class without one never wins."""
    head = NCMClassifier(4, normalize=False)
    head.set_means(dict(enumerate(torch.eye(3, 4))))
    x = torch.tensor([[4.0, 3, 2, 1], [3.0, 2, 4, 1]])
    assert head(x).argmax(1).tolist() == [0, 2]
    head.set_means({5: torch.tensor([4.0, 3, 2, 1])})
    assert head.class_means.shape == (6, 4)
    assert not head.class_means[3:5].any()
    assert head(x)[:, 3:5].tolist() == [[-1000.0, -1000.0]] * 2
    assert head(x).argmax(1).tolist() == [5, 5]


def test_classes_without_any_mean_still_have_a_column() -> None:
    assert adapted(7, *range(10))(torch.zeros(2, 7)).tolist() == [[-1000.0] * 10] * 2


def test_means_load_into_a_fresh_head() -> None:
    """Classes 1 and 2 of five features: three rows, the first empty."""
    head, fresh = NCMClassifier(5), NCMClassifier(5)
    head.set_means({1: torch.ones(5), 2: torch.arange(5.0)})
    fresh.load_state_dict(head.state_dict())
    assert fresh.class_means.shape == (3, 5)
    assert not fresh.class_means[0].any()
    assert fresh.counts.tolist() == [0, 1, 1]
    x = torch.randn(3, 5)
    assert torch.equal(fresh(x), head(x))


def test_bfloat16_in_bfloat16_out() -> None:
    head = NCMClassifier(2)
    head.set_means({0: torch.ones(2)})
    assert head(torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
