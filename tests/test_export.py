"""`clx export`: files that answer as the strategy does, for batches of any size, and every way in which it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clx import cli
from clx.command.program import Portable, Program, distance
from clx.using import restore

QUICK = ["trainer.epochs=1", "benchmark.samples_per_class=10", "logger=none", "trainer.device=cpu"]
TASKS = ["benchmark.scenario=task_incremental", "model/head=multi_head"]
SMALL = "model.hidden_size=8"
REVERSED = ["benchmark.class_order=[9,8,7,6,5,4,3,2,1,0]", "benchmark.class_ids=original"]
RUNS = {
    "er": ["strategy=er", SMALL, *REVERSED],
    "icarl": ["strategy=icarl", SMALL],
    "ncm": ["strategy=ncm", SMALL],
    "expert_gate": ["strategy=expert_gate", SMALL, "strategy.ae_train_epochs=1", "strategy.top_k=2"],
    "lucir": ["strategy=lucir", "model=resnet18_slim", "model.nf=2"],
    "multi_head": ["strategy=er", SMALL, *TASKS],
    "pnn": ["strategy=finetune", "model=pnn", *TASKS],
    "domains": ["strategy=finetune", SMALL, "benchmark.scenario=domain_incremental", "benchmark.image_size=12",
                "benchmark.channels=3"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.VERBS, "export", "clx.command.export")


def make_run(folder: Path, words: list[str]) -> Path:
    """The folder of the one run that the words start below that folder."""
    assert cli.main([f"output_root={folder}", *QUICK, *words]) == 0
    (config,) = folder.rglob("config.yaml")
    return config.parent


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("er"), RUNS["er"])


def answers(file: Path, *inputs: Tensor) -> Tensor:
    """The scores that an exported file gives, loaded as its users would."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(*inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    assert [entry.shape[0] for entry in session.get_inputs()] == ["batch"] * len(inputs)
    feed = dict(zip(["x", "task_labels"], (tensor.numpy() for tensor in inputs), strict=False))
    return torch.from_numpy(session.run(["scores"], feed)[0])


def check_answers(run: Path, file: Path) -> None:
    """Test samples of all experiences in one batch larger than any threshold (cdist: 25), and one alone."""
    built = restore(run)
    strategy = built.trainer.strategy.eval()
    parts = [samples[torch.arange(9)] for samples in built.benchmark.test]
    raw, t = torch.cat([part.raw for part in parts]), torch.cat([part.t for part in parts])
    x = strategy.eval_transform(raw)
    with torch.no_grad():
        expected = strategy.inference(x, t)
    inputs = (x, t) if built.trainer.known_tasks != {0} else (x,)
    for count in (45, 1):
        given = answers(file, *(tensor[:count] for tensor in inputs))
        torch.testing.assert_close(given, expected[:count], atol=1e-4, rtol=1e-4)
        assert torch.equal(given.argmax(1), expected[:count].argmax(1))


FILES = {"torch": "model.pt2", "onnx": "model.onnx"}
LONG = {("lucir", "onnx"), ("pnn", "onnx"), ("domains", "onnx")}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, id=f"{name}-{kind}", marks=[pytest.mark.slow] if (name, kind) in LONG else [])
        for name in RUNS
        for kind in FILES
    ],
)
def test_the_file_answers_as_the_strategy_does(
    name: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path, RUNS[name])
    capfd.readouterr()
    assert cli.main(["export", str(run), "--format", kind]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 1
    assert f"{run / FILES[kind]}: " in said.out
    assert float(said.out.split()[-1]) < 1e-4
    assert json.loads((run / f"{FILES[kind]}.json").read_text())["format"] == kind
    check_answers(run, run / FILES[kind])


def test_a_label_of_no_task_gives_no_number(tmp_path: Path) -> None:
    run = make_run(tmp_path, RUNS["multi_head"])
    assert cli.main(["export", str(run), "--format", "torch", "--output", str(tmp_path / "heads")]) == 0
    described = json.loads((tmp_path / "heads.json").read_text())
    assert described["inputs"][1] == {
        "name": "task_labels", "dtype": "int64", "shape": ["batch"], "values": [0, 1, 2, 3, 4],
    }  # fmt: skip
    scores = torch.export.load(tmp_path / "heads").module()(torch.zeros(2, 1, 8, 8), torch.tensor([1, 7]))
    # task 1 has classes 2 and 3; the others are masked with -1000
    assert [column for column in range(10) if scores[0, column] > -1000] == [2, 3]
    assert scores[1].isnan().all()


def test_the_description_says_what_the_columns_and_the_pixels_are(er: Path, tmp_path: Path) -> None:
    assert cli.main(["export", str(er), "--format", "torch", "--output", str(tmp_path / "m.pt2")]) == 0
    described = json.loads((tmp_path / "m.pt2.json").read_text())
    assert described["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert described["outputs"] == [{"name": "scores", "dtype": "float32", "shape": ["batch", 10]}]
    # class_order 9, 8, ..., 0: column c is class 9 - c, which class_ids=original calls by its own number
    assert described["classes"] == [
        {"column": column, "ids": [9 - column], "classes_of_data_set": [9 - column]} for column in range(10)
    ]
    benchmark = restore(er).benchmark
    image = benchmark.load()[1].x[:1]
    recipe = described["preprocessing"]
    assert recipe["from"] == {"dtype": "uint8", "shape": ["batch", 1, 8, 8]}
    assert recipe["steps"] == ["(x / 255 - mean) / std for each channel"]
    assert recipe["mean"] == pytest.approx([0.3054], abs=1e-6)
    by_hand = (image.numpy() / 255 - recipe["mean"][0]) / recipe["std"][0]
    assert np.allclose(by_hand, benchmark.transform.eval(image).numpy(), atol=1e-5)


def test_the_description_of_domains_that_share_columns_and_of_padded_copies(tmp_path: Path) -> None:
    run = make_run(tmp_path, RUNS["domains"])
    assert cli.main(["export", str(run), "--format", "torch"]) == 0
    described = json.loads((run / "model.pt2.json").read_text())
    # 5 domains of 2 classes: column 0 is 0, 2, 4, 6, 8 of the data set
    assert described["classes"] == [
        {"column": 0, "ids": [0], "classes_of_data_set": [0, 2, 4, 6, 8]},
        {"column": 1, "ids": [1], "classes_of_data_set": [1, 3, 5, 7, 9]},
    ]
    assert described["inputs"][0]["shape"] == ["batch", 3, 12, 12]
    assert described["preprocessing"]["steps"] == [
        "pad with 0: 2 left, 2 right, 2 above, 2 below",
        "(x / 255 - mean) / std for each channel",
        "copy the channel 3 times",
    ]


def test_nothing_but_what_answers_is_in_the_file(tmp_path: Path) -> None:
    run = make_run(tmp_path, RUNS["icarl"])  # it has a teacher, a classifier, and answers by means of features
    assert cli.main(["export", str(run), "--format", "torch"]) == 0
    names = set(torch.export.load(run / "model.pt2").state_dict)
    assert names == {"strategy.means", "strategy.model.body.1.weight", "strategy.model.body.1.bias"}


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "--format", "tflite"], "--format: invalid choice: 'tflite'"),
        (["RUN"], "required: --format"),
        (["--format", "onnx"], "required: run"),
        (["RUN", "RUN", "--format", "onnx"], "give one run, not 2"),
        (["RUN", "trainer.device=cpu", "--format", "onnx"], "give one run, not 2"),
        (["nowhere", "--format", "torch"], "nowhere: no run there"),
        (["RUN", "--format", "torch", "--output", "no/model.pt2"], "--output no/model.pt2: there is no folder no"),
        (["RUN", "--format", "torch", "--output", "."], "--output .: that is a folder; name a file"),
    ],
    ids=["format", "no_format", "no_run", "two_runs", "other_key", "nowhere", "no_folder", "folder"],
)
def test_mistakes_are_one_line_and_2(
    words: list[str], said: str, er: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", *(str(er) if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_a_mistake(
    er: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clx.command.export.write_atomic", full)
    assert cli.main(["export", str(er), "--format", "torch", "--output", str(tmp_path / "m.pt2")]) == 2
    assert "m.pt2: [Errno 28] No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_onnx_without_its_packages_says_how_to_get_them(
    missing: str, er: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["export", str(er), "--format", "onnx"]) == 2
    assert "pip install 'clx[onnx]'" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a person's own strategy whose answers depend on how bright the batch is."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "own_bright.py").write_text(
        "from clx.strategy.finetune import Finetune\n"
        "class Bright(Finetune):\n"
        "    def inference(self, x, task_labels=None):\n"
        "        scores = self.model(x, task_labels)\n"
        "        return scores if x.mean().item() > 0 else -scores\n"
    )
    monkeypatch.syspath_prepend(str(code))
    words = ["strategy=finetune", "strategy._target_=own_bright.Bright", "trusted_packages=[own_bright]", SMALL]
    return make_run(tmp_path / "runs", words)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_what_is_no_tensor_program_is_refused_with_the_reason(kind: str, own: Path, capfd: Any) -> None:
    capfd.readouterr()
    assert cli.main(["export", str(own), "--format", kind, "trusted_packages=[own_bright]"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert f"{own} cannot be exported as {kind} (" in said.err
    assert not list(own.glob("model.*"))


def test_code_that_is_not_trusted_is_not_run(own: Path, capsys: Any) -> None:
    assert cli.main(["export", str(own), "--format", "torch"]) == 2
    assert "add trusted_packages=[own_bright]" in capsys.readouterr().err


def test_a_file_that_answers_differently_is_not_written(
    er: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    forward = Program.forward
    monkeypatch.setattr(Program, "forward", lambda self, x: forward(self, x) + 0.01)
    assert cli.main(["export", str(er), "--format", "torch", "--output", str(tmp_path / "m.pt2")]) == 1
    assert "its answers would differ from the strategy's by 1.0e-02" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- arithmetic ------------------------------------------------------------------------------------------------


def test_distance_is_relative_for_large_scores_and_takes_equal_infinities_for_equal() -> None:
    inf, nan = torch.inf, torch.nan
    assert distance(torch.tensor([0.75, -inf]), torch.tensor([0.5, -inf])) == 0.25
    assert distance(torch.tensor([-1010.0, 0.5]), torch.tensor([-1000.0, 0.5])) == pytest.approx(10 / 1000)
    for wrong, expected in ((1.0, -inf), (nan, 1.0), (1.0, nan)):
        assert not distance(torch.tensor([wrong, 1.0]), torch.tensor([expected, 1.0])) <= 1e-4


def test_spelled_out_operators_give_what_torch_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 3, generator=generator), torch.randn(4, 3, generator=generator)
    low = torch.tensor([[-torch.inf, -1000.0, -1001.0], [-torch.inf, -torch.inf, -torch.inf]])
    expected = torch.cdist(x, y), torch.logsumexp(low, 1), torch.logsumexp(x, 0, keepdim=True)
    with Portable():
        given = torch.cdist(x, y), torch.logsumexp(low, 1), torch.logsumexp(x, 0, keepdim=True)
    for mine, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert given[1].tolist() == [pytest.approx(-1000 + np.log(1 + np.exp(-1)), abs=1e-3), -torch.inf]
