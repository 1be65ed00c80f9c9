"""clx compare against an independent computation with pandas and scipy, its filters, orders, pictures and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from clx.cli import main
from clx.config import compose, plain

SEEDS = range(5)
STRATEGIES = ("finetune", "er", "icarl")
BENCHMARKS = ("split_digits", "split_mnist", "synthetic")


def write(root: Path, words: list[str], matrix: np.ndarray, seconds: float = 1.0) -> Path:
    """A finished run of these words, with that accuracy matrix [N, N] without row 0."""
    config = plain(compose(words))
    name = "-".join(words).replace("/", "_").replace("=", "_")
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "reason": None}))
    rows = [[None] * matrix.shape[1], *([None if np.isnan(v) else float(v) for v in row] for row in matrix)]
    result = {
        "schema": 1,
        "metrics": {},
        "accuracy_matrix": rows,
        "task_aware_accuracy_matrix": rows,
        "cost": {"train_seconds": seconds, "peak_memory_bytes": int(seconds * 2**20)},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def made_up(draw: np.random.Generator, level: float) -> np.ndarray:
    """A lower triangle of accuracies around level."""
    values = np.clip(level + draw.normal(0, 0.05, (3, 3)), 0, 1)
    values[np.triu_indices(3, 1)] = np.nan
    return values


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Runs of three strategies on three benchmarks over five seeds in outputs/, and what a person would note."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    notes = []
    for benchmark in BENCHMARKS:
        for level, strategy in zip((0.2, 0.6, 0.62), STRATEGIES, strict=True):
            for seed in SEEDS:
                if (benchmark, strategy, seed) == ("synthetic", "icarl", 4):
                    continue  # one run is missing
                matrix, seconds = made_up(draw, level), float(draw.uniform(1, 2))
                words = [f"benchmark={benchmark}", f"strategy={strategy}", f"seed={seed}"]
                write(Path("outputs"), words, matrix, seconds)
                average = np.nanmean(matrix[-1])
                lost = np.mean([np.nanmax(matrix[:2, j]) - matrix[2, j] for j in range(2)])
                notes.append((benchmark, strategy, seed, average, lost, seconds))
    columns = ["benchmark", "strategy", "seed", "average_accuracy", "forgetting", "cost/train_seconds"]
    return pd.DataFrame(notes, columns=columns)


def compared(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["compare", "--format", "json", *words]) == 0
    content = json.loads(capsys.readouterr().out)
    assert isinstance(content, dict)
    return content


METRICS = ("average_accuracy", "forgetting", "cost/train_seconds")


def test_means_and_intervals(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    content = compared(capsys, "--metric", ",".join(METRICS))
    assert content["keys"] == ["strategy"]
    assert len(content["groups"]) == 9
    for group in content["groups"]:
        mine = frame[(frame.benchmark == group["benchmark"]) & (frame.strategy == group["strategy"])]
        for metric in METRICS:
            values = mine[metric]
            found = group["metrics"][metric]
            interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert found["mean"] == pytest.approx(values.mean(), abs=1e-9)
            assert found["std"] == pytest.approx(values.std(), abs=1e-9)
            assert found["interval"] == pytest.approx(list(interval), abs=1e-9)
            assert found["n"] == len(values)
    assert "without seeds 4" in _notes(capsys)


def _notes(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["compare"]) == 0
    return capsys.readouterr().err


def test_paired_differences(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    """Every group against the best of its benchmark, over the seeds that both have."""
    content = compared(capsys)
    groups = content["groups"]
    wide = frame.pivot_table(index=["benchmark", "seed"], columns="strategy", values="average_accuracy")
    found = [entry for entry in content["differences"] if entry["metric"] == "average_accuracy"]
    assert len(found) == 6
    for entry in found:
        group, reference = groups[entry["group"]], groups[entry["reference"]]
        benchmark = group["benchmark"]
        mine = wide.loc[benchmark]
        means = frame[frame.benchmark == benchmark].groupby("strategy").average_accuracy.mean()
        assert reference["strategy"] == means.idxmax()
        pairs = mine[[group["strategy"], reference["strategy"]]].dropna()
        tested = stats.ttest_rel(pairs.iloc[:, 0], pairs.iloc[:, 1])
        gaps = (pairs.iloc[:, 0] - pairs.iloc[:, 1]).to_numpy()
        assert entry["seeds"] == pairs.index.tolist()
        assert entry["mean"] == pytest.approx(gaps.mean())
        assert entry["interval"] == pytest.approx(list(tested.confidence_interval(0.95)))
        flipped = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert entry["p"] == pytest.approx(flipped.pvalue)


def test_against_a_group_of_ones_own_choice(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    content = compared(capsys, "--against", "strategy=finetune")
    references = {content["groups"][entry["reference"]]["strategy"] for entry in content["differences"]}
    assert references == {"finetune"}
    assert main(["compare", "--against", "strategy=lwf"]) == 2
    assert "0 groups of" in capsys.readouterr().err


def test_mean_ranks(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    content = compared(capsys)
    (entry,) = [entry for entry in content["ranks"] if entry["metric"] == "average_accuracy"]
    means = frame.groupby(["benchmark", "strategy"]).average_accuracy.mean().unstack()
    expected = means.rank(axis=1, ascending=False).mean()
    found = {s["strategy"]: rank for s, rank in zip(entry["settings"], entry["mean_ranks"], strict=True)}
    assert found == pytest.approx(expected.to_dict())
    assert entry["friedman_p"] == pytest.approx(stats.friedmanchisquare(*means.T.to_numpy()).pvalue)
    q = stats.studentized_range.ppf(0.95, 3, np.inf) / np.sqrt(2)
    assert entry["critical_difference"] == pytest.approx(q * np.sqrt(3 * 4 / (6 * 3)))


def test_where(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    content = compared(capsys, "--where", "strategy=er,icarl", "--where", "benchmark!=synthetic", "--where", "seed=0,1")
    found = {(group["benchmark"], group["strategy"]): group["seeds"] for group in content["groups"]}
    assert found == {(b, s): [0, 1] for b in BENCHMARKS[:2] for s in STRATEGIES[1:]}
    assert compared(capsys, "--where", "optimizer.lr=0.05")["groups"] == compared(capsys)["groups"]
    assert main(["compare", "--where", "optimizer.lr=0.5"]) == 2
    assert "no finished runs with optimizer.lr=0.5" in capsys.readouterr().err


def test_sort(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    means = frame.groupby(["benchmark", "strategy"])[list(METRICS)].mean().reset_index()

    def order(*words: str) -> list[tuple[str, str]]:
        return [(group["benchmark"], group["strategy"]) for group in compared(capsys, *words)["groups"]]

    def expected(by: str, ascending: bool) -> list[tuple[str, str]]:
        placed = means.sort_values(["benchmark", by], ascending=[True, ascending])
        return list(zip(placed.benchmark, placed.strategy, strict=True))

    assert order() == expected("average_accuracy", ascending=False)
    assert order("--metric", "forgetting") == expected("forgetting", ascending=True)  # less is better
    assert order("--sort", "cost/train_seconds:desc") == expected("cost/train_seconds", ascending=False)
    assert order("--sort", "strategy") == expected("strategy", ascending=True)


@pytest.mark.parametrize("kind", ["curves", "matrices", "time", "memory"])
def test_pictures(kind: str, frame: pd.DataFrame) -> None:
    assert main(["compare", "--plot", f"{kind}.png", "--kind", kind]) == 0
    assert Path(f"{kind}.png").read_bytes()[:4] == b"\x89PNG"


def test_latex_marks_the_best(frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--format", "latex", "--metric", "average_accuracy"]) == 0
    best = [line for line in capsys.readouterr().out.splitlines() if "mathbf" in line]
    means = frame.groupby(["benchmark", "strategy"]).average_accuracy.mean().unstack()
    assert [line.split(" & ")[1] for line in best] == means.idxmax(axis=1).tolist()


def test_runs_on_validation_data_are_not_mixed_with_those_on_test_data(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["strategy=er", "trainer.evaluate_on=validation", "benchmark.validation_fraction=0.1"]
    write(Path("outputs"), words, np.ones((3, 3)))
    content = compared(capsys)
    assert len(content["groups"]) == 9
    assert ["validation data" in entry["reason"] for entry in content["left_out"]] == [True]
    content = compared(capsys, "--where", "trainer.evaluate_on=validation")
    assert [group["evaluated_on"] for group in content["groups"]] == ["validation"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "no finished runs in empty"),
        (["nowhere"], "nowhere: there is no such file or folder"),
        (["--metric", "average_acuracy"], "did you mean average_accuracy?"),
        (["--plot", "x.bmp"], "--plot x.bmp: the name must end in .png, .pdf, .svg"),
        (["--kind", "pie"], "invalid choice: 'pie'"),
        (["--by", "buffer.capacty"], "did you mean buffer.capacity?"),
        (["--where", "strategy"], "--where strategy: must be KEY=VALUE"),
        (["--where", "strateg=er"], "did you mean strategy?"),
        (["--sort", "acuracy"], "--sort acuracy: neither a metric nor a key shown"),
        (["--sort", "strategy:up"], "behind the colon stands asc or desc"),
        (["--against", "er"], "--against er: must be KEY=VALUE"),
        (["--output", "no/such/folder"], "no/such/folder: cannot be written"),
        (["--plot", "no/such/folder.png"], "no/such/folder.png: cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    capsys.readouterr()
    assert main(["compare", *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("clx: ")]
    assert len(lines) == 1
    assert said in lines[0]


def test_damaged_and_foreign_runs_are_left_out_and_the_rest_compared(
    frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = sorted(path.parent for path in Path("outputs").rglob("result.json"))
    (runs[0] / "result.json").write_text('{"schema": 1, "accura')
    (runs[1] / "result.json").write_text('{"schema": 7}')
    (runs[2] / "result.json").write_text('{"schema": 1}')
    (runs[3] / "config.yaml").write_text("a: [")
    (runs[4] / "result.json").unlink()
    matrix = json.loads((runs[5] / "result.json").read_text())
    matrix["accuracy_matrix"][1][0] = 7.0
    (runs[5] / "result.json").write_text(json.dumps(matrix))
    content = compared(capsys)
    reasons = {entry["run"]: entry["reason"] for entry in content["left_out"]}
    said = ["not JSON", "schema 7, not 1", "damaged (KeyError", "not YAML", "not finished", "matrix of accuracies"]
    assert [word in reasons[str(run)] for run, word in zip(runs, said, strict=False)] == [True] * 6
    assert len(reasons) == 6
    assert sum(len(group["seeds"]) for group in content["groups"]) == len(frame) - 6
