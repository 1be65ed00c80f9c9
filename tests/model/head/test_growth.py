"""Linear layers that get more rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from clx.model.head.growth import grow_linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_old_rows_stay_bit_for_bit(bias: bool, dtype: torch.dtype) -> None:
    """New rows are drawn as torch draws a fresh layer of 4 inputs: within 1 / sqrt(4), and not all zero."""
    old = nn.Linear(4, 3, bias=bias, dtype=dtype)
    weight = old.weight.detach().clone()
    new = grow_linear(old, 5)
    assert (new.in_features, new.out_features) == (4, 5)
    assert new.weight.shape == (5, 4)
    assert new.weight.dtype == dtype
    assert torch.equal(new.weight[:3], weight)
    assert 0 < new.weight[3:].abs().max() <= 0.5
    assert (new.bias is not None) == bias
    if bias:
        assert new.bias.shape == (5,)
        assert torch.equal(new.bias[:3], old.bias)
        assert 0 < new.bias[3:].abs().max() <= 0.5
    assert torch.equal(old.weight, weight)
    assert old.weight.shape == (3, 4)


@pytest.mark.parametrize("width", [3, 2])
def test_a_layer_that_is_wide_enough_is_left_alone(width: int) -> None:
    layer = nn.Linear(4, 3)
    assert grow_linear(layer, width) is layer


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_what_trains_goes_on_training(trained: bool, training: bool) -> None:
    layer = nn.Linear(4, 3).requires_grad_(trained).train(training)
    new = grow_linear(layer, 4)
    assert [p.requires_grad for p in new.parameters()] == [trained, trained]
    assert all(p.is_leaf for p in new.parameters())
    assert new.training == training


def test_a_large_layer_grows_in_place_and_a_copy_of_it_does_not_share_the_room() -> None:
    """512 x 600 floats pass 1 MiB: the first growth makes room for half as much again, the second moves nothing."""
    layer = nn.Linear(512, 600)
    first = grow_linear(layer, 610)
    assert first.weight.data_ptr() != layer.weight.data_ptr()
    before, copied = first.weight.detach().clone(), copy.deepcopy(first)
    second = grow_linear(first, 620)
    assert second.weight.data_ptr() == first.weight.data_ptr()
    assert second.weight is not first.weight
    assert torch.equal(second.weight[:610], before)
    other = grow_linear(copied, 620)
    assert other.weight.data_ptr() != second.weight.data_ptr()
    assert torch.equal(other.weight[:610], before)
    assert not torch.equal(other.weight[610:], second.weight[610:])


def test_what_lies_behind_a_view_of_somebody_else_stays() -> None:
    everything = torch.zeros(1000, 512)
    layer = nn.Linear(512, 600)
    layer.weight = nn.Parameter(everything[:600])
    grow_linear(layer, 700)
    assert not everything.any()
