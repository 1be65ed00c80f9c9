"""The forms in which a network computes: what they change, and that they change no more than rounding.

Tolerances: float32 in another order of operations, carried on by a short training: 1e-4 of a weight's size and 1e-5
near zero. bfloat16 has 8 bits of precision, 4e-3 of a number's size: 1e-2 of the length of all weights together.
Most tests compile by a backend that runs torch's own operations in the compiled graphs, which takes no C++ compiler and
gives the same bits.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clx.app import execute, reason
from clx.buffer.herding import Herding
from clx.buffer.reservoir import Reservoir
from clx.cli import main
from clx.config import compose, plain
from clx.folder import run_folder
from clx.loop.checkpoints import resume
from clx.loop.form import Form, compilable
from clx.loop.run import run
from clx.loop.trainer import Trainer
from clx.model.base import Model
from clx.model.dynamic import DynamicModule, as_multitask
from clx.model.frozen import Frozen
from clx.model.head.incremental import IncrementalClassifier
from clx.model.mobilenet_v1 import MobileNetV1
from clx.model.pnn import PNN
from clx.regularizer.base import Regularizer
from clx.regularizer.ewc_online import EWCOnline
from clx.regularizer.lwf import LwF
from clx.runtime import compiled
from clx.store import checkpoint
from clx.store.files import read_json
from clx.store.run import RunStore
from clx.strategy.er import ER
from clx.strategy.finetune import Finetune
from clx.strategy.icarl import ICaRL
from clx.types import Batch, Experience, Objective
from clx.using import load

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
ROUGH = 1e-2
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class ConvNet(Model):
    """Two convolutions, BatchNorm and dropout, for 1x4x4 images."""

    def __init__(self, *grown: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        first = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
        second = [nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*first, *second, *grown, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.25))
        self.feature_dim = 6
        self.classifier = IncrementalClassifier(6)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)


STRATEGIES: dict[str, Callable[[Model], Finetune]] = {
    "finetune": Finetune,
    "er": lambda model: ER(model, Reservoir(6, seed=4, offer="first_epoch"), replay_size=4),
    "lwf": Finetune,
    "ewc": Finetune,
    "icarl": lambda model: ICaRL(model, Herding(6, seed=4, per_class=None)),
}
REGULARIZERS: dict[str, Callable[[], Regularizer]] = {
    "lwf": lambda: LwF(1.0, temperature=2.0),
    "ewc": lambda: EWCOnline(10.0, decay=0.9, labels="exact", seed=0),
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every graph that is compiled, as it comes; no C++ compiler is needed."""
    from torch._dynamo.backends.debugging import aot_eager

    found: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(compiled, "how", lambda mode: {"backend": backend, "dynamic": False})
    compiled.check.cache_clear()
    return found


@pytest.fixture
def train(make_model: Any, make_benchmark: Any) -> Callable[..., Trainer]:
    """train(strategy, model="mlp", **options): the trainer after 3 experiences of 2 classes; 16 samples in batches of
    6, so that each epoch ends with a batch of 4."""

    def finished(strategy: str, model: str = "mlp", **options: Any) -> Trainer:
        network = make_model(drop_rate=0.5) if model == "mlp" else ConvNet()
        trainer = Trainer(
            STRATEGIES[strategy](network),
            SGD,
            epochs=2,
            batch_size=6,
            device="cpu",
            seed=3,
            regularizers={strategy: REGULARIZERS[strategy]()} if strategy in REGULARIZERS else {},
            **options,
        )
        benchmark = make_benchmark()
        trainer.train(benchmark.train, benchmark.test)
        return trainer

    return finished


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return dict(trainer.strategy.state_dict())


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of all weights and statistics together, as a part of their length."""
    pairs = [(f.double().flatten(), expected[name].double().flatten()) for name, f in found.items()]
    ours, theirs = (torch.cat(flat) for flat in zip(*pairs, strict=True))
    return float((ours - theirs).norm() / theirs.norm())


def teachers(trainer: Trainer) -> list[Frozen]:
    return [m for root in (trainer.strategy, trainer.regularizers) for m in root.modules() if isinstance(m, Frozen)]


# --------------------------------------------------------------------------------------------------------- compiled


@pytest.mark.parametrize(("strategy", "model"), [("er", "mlp"), ("lwf", "mlp"), ("ewc", "conv"), ("icarl", "conv")])
def test_compiled_is_as_uncompiled(strategy: str, model: str, train: Callable[..., Trainer], graphs: list[Any]) -> None:
    """Same names, weights, buffers and accuracies, dropout and teachers included; EWC takes its gradients of single
    samples uncompiled. The backbone has a graph for steps and one for evaluation, whatever the head does."""
    expected = train(strategy, model)
    assert not graphs
    found = train(strategy, model, compile="default")
    assert list(weights(found)) == list(weights(expected))
    torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=0)
    assert found.matrix is not None
    assert expected.matrix is not None
    np.testing.assert_array_equal(found.matrix.plain, expected.matrix.plain)
    num_teachers = 2 if strategy in ("lwf", "icarl") else 0  # of the second and the third experience
    # With the trial of the compiler. torch computes convolutions of up to 15 images another way: evaluation has both.
    assert len(graphs) - (1 + 2 + num_teachers) in ((0, 1) if model == "conv" else (0,))
    assert found.strategy.model.body._compiled_call_impl is not None
    for teacher in teachers(found):
        assert teacher.model.body._compiled_call_impl is not None
    assert len(teachers(found)) == num_teachers / 2


class Growing(DynamicModule):
    """A part of the backbone that has one more layer after each experience."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()

    def adaptation(self, experience: Experience) -> None:
        torch.manual_seed(experience.index)
        self.layers.append(nn.Conv2d(6, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_a_backbone_that_grows_is_compiled_anew(make_benchmark: Any, graphs: list[Any]) -> None:
    results = []
    for mode in (None, "default"):
        strategy = Finetune(ConvNet(Growing()))
        trainer = Trainer(strategy, SGD, epochs=1, batch_size=8, device="cpu", compile=mode)
        trainer.train(make_benchmark().train)
        results.append(weights(trainer))
        assert len(strategy.model.body[6].layers) == 3
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    convolutions = [sum(node.target is torch.conv2d for node in graph.graph.nodes) for graph in graphs[1:]]
    assert convolutions == [3, 4, 5]


@needs_compiler
def test_the_mode_with_cuda_graphs(train: Callable[..., Trainer]) -> None:
    """By torch's own compiler, which leaves the graphs out where there is no GPU."""
    expected, found = train("finetune"), train("finetune", compile="reduce-overhead")
    assert list(weights(found)) == list(weights(expected))
    torch.testing.assert_close(weights(found), weights(expected), **CLOSE)


def start(trainer: Trainer, benchmark: Any, folder: Path, stopping: Callable[[], bool] = lambda: False) -> None:
    store, saved = RunStore(folder), checkpoint.load(folder)
    if saved is not None:
        resume(benchmark, trainer, saved)
    store.begin({"seed": 3}, {}, saved and saved["written"])
    try:
        config = {"trainer": {"eval_every": 0, "checkpoint_every": "experience"}}
        store.finish(run(benchmark, trainer, store, title="tiny", config=config, stopping=stopping))
    finally:
        store.close()


@needs_compiler
def test_it_goes_on_bit_for_bit(tmp_path: Path, make_benchmark: Any) -> None:
    """Stopped in the second experience, where the next batch is the small one at the end of an epoch: the process that
    goes on meets the sizes of batches in another order. Compiled by torch's own compiler, as uncompiled but for
    rounding."""
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked == 6 + 2 + 2  # after each of 6 steps, their phase and their experience; after 2 more steps

    def make(mode: str | None = "default") -> Trainer:
        strategy = STRATEGIES["er"](ConvNet())  # which seeds the generator that dropout draws from
        return Trainer(strategy, SGD, epochs=2, batch_size=6, device="cpu", seed=3, compile=mode)

    expected = make(None)
    start(expected, make_benchmark(), tmp_path / "uncompiled")
    whole = make()
    start(whole, make_benchmark(), tmp_path / "whole")
    torch.testing.assert_close(weights(whole), weights(expected), **CLOSE)
    first = make()
    with pytest.raises(KeyboardInterrupt):
        start(first, make_benchmark(), tmp_path / "parts", stopping)
    assert (first.finished, first.total_step) == (1, 8)
    second = make()
    start(second, make_benchmark(), tmp_path / "parts")
    torch.testing.assert_close(weights(second), weights(whole), rtol=0, atol=0)


def test_what_is_compiled() -> None:
    """Neither heads, nor what depends on task labels."""
    assert list(compilable(ConvNet())) == ["body"]
    assert list(compilable(MobileNetV1())) == ["lat_features", "end_features"]
    torch.manual_seed(0)
    assert list(compilable(as_multitask(nn.Sequential(nn.Linear(4, 3)), "0"))) == ["model"]
    assert not compilable(PNN(input_size=16))


def test_a_model_with_nothing_to_compile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^compile default: PNN has nothing to compile, .* or set null$"):
        Trainer(Finetune(PNN(input_size=16)), compile="default")


def test_a_mode_that_there_is_not() -> None:
    with pytest.raises(
        ValueError, match=r"^compile 'fast' is not one of None, default, reduce-overhead, max-autotune$"
    ):
        Form(compile="fast")


# ---------------------------------------------------------------------------------------------------- channels last


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_channels_last_is_as_channels_first(strategy: str, train: Callable[..., Trainer]) -> None:
    """Of 4-d weights and what comes out of them, in teachers too; names and values stay."""
    expected, found = train(strategy, "conv"), train(strategy, "conv", channels_last=True)
    assert list(weights(found)) == list(weights(expected))
    torch.testing.assert_close(weights(found), weights(expected), **CLOSE)
    models = [found.strategy.model, *(teacher.model for teacher in teachers(found))]
    assert len(models) == 1 + (strategy in ("lwf", "icarl"))
    for model in models:
        assert model.body[3].weight.stride() == (36, 1, 12, 4)  # [6, 4, 3, 3], the 4 channels innermost
        assert model.body[:5](torch.randn(2, 1, 4, 4)).stride() == (96, 1, 24, 6)  # [2, 6, 4, 4]


def test_a_perceptron_has_no_channels(train: Callable[..., Trainer]) -> None:
    expected, found = train("er", "mlp"), train("er", "mlp", channels_last=True)
    torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=0)
    assert found.form.describe(found.strategy.model)["channels_last_weights"] == 0


# --------------------------------------------------------------------------------------------------------- bfloat16


@pytest.mark.parametrize("model", ["mlp", "conv"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bfloat16_is_as_float32(strategy: str, model: str, train: Callable[..., Trainer]) -> None:
    """Weights, statistics and teachers stay float32; the steps compute in bfloat16, so that they differ a little."""
    expected, found = weights(train(strategy, model)), weights(train(strategy, model, precision="bfloat16"))
    assert list(found) == list(expected)
    assert {w.dtype for w in found.values()} <= {torch.float32, torch.int64, torch.bool}
    assert distance(found, expected) < ROUGH
    assert not torch.equal(found["model.classifier.classifier.weight"], expected["model.classifier.classifier.weight"])


def test_bfloat16_is_for_the_steps_alone(make_model: Any, make_benchmark: Any) -> None:
    """Evaluation and embeddings are float32, bit for bit those of the same weights in a float32 trainer."""
    seen: list[torch.dtype] = []

    class Looking(Finetune):
        def observe(self, batch: Batch) -> Objective:
            objective = super().observe(batch)
            assert objective.logits is not None
            seen.append(objective.logits.dtype)
            return objective

        def inference(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
            scores = super().inference(x, task_labels)
            seen.append(scores.dtype)
            return scores

    benchmark = make_benchmark(num_experiences=1)
    trainer = Trainer(Looking(make_model()), SGD, batch_size=48, device="cpu", precision="bfloat16")
    trainer.train(benchmark.train, benchmark.test)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert trainer.strategy.embed(benchmark.test[0]).dtype == torch.float32


def test_bfloat16_compiled(train: Callable[..., Trainer], graphs: list[Any]) -> None:
    """Autocast holds inside what is compiled; backward passes of fused operations may round once less."""
    expected, found = (train("finetune", "conv", precision="bfloat16", compile=mode) for mode in (None, "default"))
    assert graphs
    assert distance(weights(found), weights(expected)) < ROUGH


# ------------------------------------------------------------------------------------------------- the command's run

WORDS = [
    "benchmark=synthetic",
    "benchmark.data.shape=[1,8,8]",
    "benchmark.data.num_classes=4",
    "benchmark.num_experiences=2",
    "benchmark.data.train_per_class=8",
    "benchmark.data.test_per_class=4",
    "model=resnet",
    "model.blocks=[1]",
    "model.widths=[4]",
    "trainer.epochs=1",
    "trainer.device=cpu",
    "logger=none",
]


def test_a_run_records_its_form(tmp_path: Path, graphs: list[Any]) -> None:
    """In environment.json, and in the name of its folder; what it learned is loaded uncompiled."""
    form = ["trainer.compile=default", "trainer.channels_last=true"]
    assert run_folder(plain(compose(form))).parent.name == "trainer.channels_last=true,trainer.compile=default"
    config = plain(compose([*WORDS, *form]))
    assert execute(config, tmp_path) == 0
    assert read_json(tmp_path / "environment.json")["computation"] == {
        "precision": "float32",
        "compile": "default",
        "compiled_parts": ["body"],
        "channels_last": True,
        "channels_last_weights": 3,
    }
    assert len(graphs) > 1
    assert load(tmp_path).model.body._compiled_call_impl is None


def test_a_mistaken_mode_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainer.compile=defualt"]) == 2
    assert capsys.readouterr().err == (
        "clx: trainer.compile=defualt: must be one of null, default, reduce-overhead, max-autotune; "
        "did you mean default?\n"
    )


def test_without_a_compiler_nothing_begins(tmp_path: Path) -> None:
    """In a process of its own: torch remembers the compiler that it found. No data is read, nothing is trained."""
    code = f"from clx.cli import main; raise SystemExit(main({[*WORDS, 'trainer.compile=default']}))"
    none = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | none,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert re.fullmatch(
        r"clx: trainer\.compile default: torch cannot compile for cpu here \(.*no-such-compiler.*\); "
        r"install a C\+\+ compiler \(g\+\+\), or set null\n",
        done.stderr,
    )
    assert not list(tmp_path.rglob("metrics.csv"))


def test_several_runs_at_once_are_neither(capsys: pytest.CaptureFixture[str], graphs: list[Any]) -> None:
    for word in ("trainer.compile=default", "trainer.channels_last=true"):
        assert main([*WORDS, "trainer.ensemble=[0,1]", word]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"clx: trainer.ensemble=[0,1]: {word} ")
        assert said.count("\n") == 1


def test_what_the_compiler_died_of_has_a_remedy() -> None:
    error = torch._dynamo.exc.InternalTorchDynamoError("it fell over\nat some place")
    assert reason(error) == "torch could not compile the model (it fell over); trainer.compile=null runs it as it is"
