"""torch's compiler on modules in place. Graphs are counted by a backend that runs them as they are: no C++ compiler."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clx.runtime import compiled
from clx.runtime.compiled import check, compile_in_place, uncompiled

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """What compile_in_place sets process-wide is put back."""
    import torch._dynamo

    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        yield


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every graph that is compiled, as it comes."""
    found: list[Any] = []

    def backend(graph: Any, _: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "how", lambda mode: {"backend": backend, "dynamic": False})
    return found


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def test_the_same_module_with_one_graph_for_all_sizes_of_batches(graphs: list[Any]) -> None:
    """Sizes 5, 3, 7 share a graph; evaluation has its own, and a batch of one too. Dropout draws as uncompiled."""
    ours, theirs = net(), net()
    compile_in_place(ours, "default")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert type(ours) is nn.Sequential
    counted = []
    for size in (5, 3, 7):
        for module in (ours, theirs):
            torch.manual_seed(size)
            module(torch.randn(size, 3)).square().sum().backward()
        counted.append(len(graphs))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad)
    with torch.no_grad():
        for size in (5, 3, 1, 1):
            x = torch.randn(size, 3)
            torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
            counted.append(len(graphs))
    assert counted == [1, 1, 1, 2, 2, 3, 3]


def test_graphs_do_not_depend_on_what_came_before(graphs: list[Any]) -> None:
    """Whichever size comes first, the graph has a symbol for it."""
    for sizes in ((5, 3), (3, 5)):
        module = net()
        compile_in_place(module, "default")
        for size in sizes:
            module(torch.randn(size, 3))
    assert len(graphs) == 2
    shapes = [
        [node.meta["example_value"].shape[0] for node in graph.graph.nodes if node.target is torch.nn.functional.linear]
        for graph in graphs
    ]
    assert all(isinstance(size, torch.SymInt) for found in shapes for size in found)


def test_a_copy_is_not_compiled_and_does_not_share_weights(graphs: list[Any]) -> None:
    module = net().eval()
    compile_in_place(module, "default")
    x = torch.randn(4, 3)
    before = module(x)
    teacher = copy.deepcopy(module)
    assert len(graphs) == 1
    with torch.no_grad():
        module[0].weight.add_(1.0)
    torch.testing.assert_close(teacher(x), before)
    assert len(graphs) == 1  # the copy ran as it is
    assert not torch.allclose(module(x), before)


def test_compiled_anew_it_forgets_what_was_compiled(graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that grows: each width needs a graph, and the limit counts those of one width alone."""
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 1)
    module = net()
    for width in (2, 3, 4):
        module[4] = nn.Linear(4, width)
        compile_in_place(module, "default")
        assert module(torch.randn(5, 3)).shape == (5, width)
    assert len(graphs) == 3


def test_too_many_graphs_are_an_error(graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Changing(nn.Module):
        number = 0

        def forward(self, x: Tensor) -> Tensor:
            return x * self.number

    monkeypatch.setattr(compiled, "MOST_GRAPHS", 3)
    module = Changing()
    compile_in_place(module, "default")
    for module.number in (2, 3, 4):
        module(torch.ones(2))
    module.number = 5
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        module(torch.ones(2))
    other = Changing()
    compile_in_place(other, "default")
    other(torch.ones(2))  # has a limit of its own


def test_a_module_that_is_dropped_takes_its_memory_along(graphs: list[Any]) -> None:
    module = net()
    compile_in_place(module, "default")
    module(torch.randn(4, 3)).sum().backward()
    weight = weakref.ref(module[0].weight)
    del module
    graphs.clear()
    gc.collect()
    assert weight() is None


def test_uncompiled_sees_hooks_and_torch_func(graphs: list[Any]) -> None:
    module, passed = net().eval(), []
    compile_in_place(module, "default")
    module(torch.randn(4, 3))
    module[0].register_forward_hook(lambda *_: passed.append(1))
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def total(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(module, values, (x.unsqueeze(0),)).sum()

    with uncompiled():
        gradients = torch.func.vmap(torch.func.grad(total), in_dims=(None, 0))(parameters, torch.randn(4, 3))
    assert gradients["4.bias"].tolist() == [[1.0, 1.0]] * 4
    assert len(passed) == len(graphs) == 1


@pytest.mark.parametrize(("mode", "same"), [("default", True), ("reduce-overhead", False), ("max-autotune", False)])
def test_an_output_that_a_cuda_graph_would_overwrite_is_copied(mode: str, same: bool, graphs: list[Any]) -> None:
    class Kept(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    module, x = Kept(), torch.randn(3)
    compile_in_place(module, mode)
    out = module(x)
    assert torch.equal(out, x)
    assert (out is x) == same


def test_a_machine_that_cannot_compile_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(compiled, "how", lambda mode: {"backend": backend})
    check.cache_clear()
    with pytest.raises(ValueError, match=r"^compile default: .*\(No working C\+\+ compiler found\); .*g\+\+.*null$"):
        check("default", CPU)


def test_how_is_independent_of_history_and_of_the_compilers_own_random_numbers() -> None:
    for mode in compiled.MODES:
        found = compiled.how(mode)
        assert found["dynamic"] is False
        assert found["options"]["fallback_random"] is True
        assert found["options"].get("triton.cudagraphs", False) == (mode in compiled.CUDA_GRAPHS)
