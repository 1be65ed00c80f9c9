"""What clx report writes: the numbers, what runs differ in, and that nothing from a run becomes part of the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clx.command.report import main
from clx.config import Mistake
from clx.store.compare import group
from clx.store.records import Record, read_all
from clx.store.report import write_report

# Two experiences. Accuracy so far: 0.8, (0.6 + 0.4) / 2 = 0.5. Forgetting: 0.8 - 0.6 = 0.2.
LOWER = [[None, None], [0.8, None], [0.6, 0.4]]
HIGHER = [[None, None], [1.0, None], [0.8, 0.6]]  # 1.0, 0.7; forgetting 0.2
EVIL = "<script>alert(1)</script>"


def result(matrix: list[list[float | None]], seconds: float = 2.0) -> dict[str, Any]:
    cost = {"train_seconds": seconds, "eval_seconds": 1.0, "total_seconds": 3.0, "samples_per_second": 10.0}
    cost |= {"peak_memory_bytes": 3 * 2**20, "parameters": 7, "buffer_bytes": 8}
    return {"schema": 1, "accuracy_matrix": matrix, "task_aware_accuracy_matrix": matrix, "cost": cost}


def config(strategy: str, seed: int, benchmark: str = "split", **leaves: Any) -> dict[str, Any]:
    choices = {"benchmark": benchmark, "strategy": strategy, "model": "mlp", "buffer": "none"}
    trainer = {"epochs": 1} | leaves.pop("trainer", {})
    return {"choices": choices, "seed": seed, "benchmark": {"num_experiences": 2}, "trainer": trainer, **leaves}


def record(strategy: str, seed: int, matrix: list[list[float | None]], **keys: Any) -> Record:
    folder = Path("outputs") / keys.get("benchmark", "split") / strategy / f"seed={seed}"
    return Record(folder, config(strategy, seed, **keys), result(matrix))


def store(folder: Path, strategy: str, seed: int, environment: object = None, **keys: Any) -> Path:
    """A finished run on the disk."""
    folder = folder / f"{len(list(folder.iterdir()))}"
    folder.mkdir()
    written = {"config.yaml": config(strategy, seed, **keys), "result.json": result((LOWER, HIGHER)[seed % 2])}
    written |= {"status.json": {"state": "finished"}, "environment.json": environment}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    return folder


class Page(HTMLParser):
    """The elements of a page and their texts, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.strong: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "strong" in self.open and "td" in self.open:
            self.strong.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(f"{self.open[-1]} {data}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts[0])["groups"]


def written(path: Path, records: list[Record], metrics: list[str] | None = None, **options: Any) -> Page:
    keys, groups = group(records, options.pop("by", None), "average_accuracy")
    arguments = {"left_out": [], "title": "Runs"} | options
    write_report(path, keys, groups, metrics or ["average_accuracy", "forgetting"], **arguments)
    return Page(path.read_text())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_curve_and_matrix_are_means_over_seeds() -> None:
    _, (only,) = group([record("er", 0, LOWER), record("er", 1, HIGHER)], None, "average_accuracy")
    # values 0.1 either side of the mean: std 0.1 sqrt(2), half width = t(1) std / sqrt(2) = 12.7062 * 0.1
    assert [p.mean for p in only.curve()] == pytest.approx([0.9, 0.6])
    assert [p.half_width for p in only.curve()] == pytest.approx([1.27062, 1.27062], abs=1e-5)
    np.testing.assert_allclose(only.mean_matrix(), [[np.nan, np.nan], [0.9, np.nan], [0.7, 0.5]])


def test_curve_of_one_seed_has_no_interval_and_a_gap_stays_one(file: Path) -> None:
    gap = [[None, None], [None, None], [0.6, 0.4]]
    (drawn,) = written(file, [record("er", 0, gap)]).data
    assert drawn["curve"] == [[None, None], [0.5, None]]
    assert drawn["matrix"] == [[None, None], [None, None], [0.6, 0.4]]
    assert drawn["accuracy"] == [0.5, None]


def test_summary(file: Path) -> None:
    records = [record("er", 0, LOWER), record("er", 1, HIGHER), record("lwf", 0, LOWER)]
    page = written(file, records)
    head, er, lwf = page.rows[:3]
    assert head == [
        "group", "benchmark", "strategy", "seeds", "average_accuracy", "95 % interval", "forgetting", "95 % interval",
    ]  # fmt: skip
    # mean of 0.5 and 0.7; std 0.2 / sqrt(2); 0.6 -+ 12.7062 * 0.1
    assert er == [
        "1", "split", "er", "2", "0.6000 ± 0.1414", "[-0.6706, 1.8706]", "0.2000 ± 0.0000", "[0.2000, 0.2000]",
    ]  # fmt: skip
    assert lwf == ["2", "split", "lwf", "1", "0.5000", "-", "0.2000", "-"]
    assert page.strong[0] == "0.6000 ± 0.1414"
    assert "3 runs in 2 groups on 1 benchmark." in page.text
    assert "Without seeds 1: split lwf." in page.text


def test_equally_good_groups_are_all_marked_and_a_group_alone_is_not(file: Path) -> None:
    records = [record("er", 0, LOWER), record("lwf", 0, LOWER), record("er", 0, LOWER, benchmark="permuted")]
    page = written(file, records, ["average_accuracy"])
    assert page.strong == ["0.5000", "0.5000"]


def test_costs_are_in_seconds_and_mebibytes(file: Path) -> None:
    (drawn,) = written(file, [record("er", 0, LOWER), record("er", 1, LOWER)]).data
    assert drawn["time"] == [2.0, 0.0]
    assert drawn["memory"] == [3.0, 0.0]


def test_configuration_says_who_has_what_within_a_benchmark(file: Path) -> None:
    records = [
        record(f"m{n}", 0, LOWER, trainer={"epochs": 2 if n == 2 else 1}, extra={"_target_": f"own.M{n}"})
        for n in range(5)
    ]
    records.append(record("er", 0, LOWER, benchmark="z", trainer={"epochs": 9}, extra={"a": 1}))
    page = written(file, records, by=["strategy"])
    assert ["trainer.epochs", "1", "groups 1-2, 4-5"] in page.rows
    assert ["2", "group 3"] in page.rows
    assert not [row for row in page.rows if "9" in row or row[0].endswith(("_target_", "extra.a"))]
    assert "The runs differ in nothing but the seed." in page.text


def test_configuration_tells_a_missing_key_from_null(file: Path) -> None:
    records = [record("er", 0, LOWER, extra={"seed": None}), record("lwf", 0, LOWER)]
    page = written(file, records)
    assert ["extra.seed", "null", "group 1"] in page.rows
    assert ["(absent)", "group 2"] in page.rows


def test_environment_says_where_runs_differ(tmp_path: Path, file: Path) -> None:
    same = {"device": "cpu", "versions": {"python": "3.11.7", "torch": "2.13.0"}, "seed": 5, "stream": {"classes": [1]}}
    runs = tmp_path / "runs"
    runs.mkdir()
    store(runs, "er", 0, same | {"commit": "abc"})
    store(runs, "er", 1, same | {"commit": None})
    store(runs, "lwf", 0, same | {"commit": "abc"})
    page = written(file, read_all([runs])[0])
    assert "they differ in commit." in page.text
    assert ["commit", "abc", "2 runs, groups 1-2"] in page.rows
    assert ["unknown", "1 run, group 1"] in page.rows
    assert ["versions.torch", "2.13.0"] in page.rows
    assert not [row for row in page.rows if row[0] in ("seed", "stream.classes")]  # each run has its own


@pytest.mark.parametrize("content", ["{", "[]", '"text"', '{"versions": "new"}', None])
def test_an_environment_that_is_no_such_thing_is_absent(tmp_path: Path, file: Path, content: str | None) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    place = store(runs, "er", 0) / "environment.json"
    place.unlink()
    if content is not None:
        place.write_text(content)
    page = written(file, read_all([runs])[0])
    assert ("No run reports what it ran on." in page.text) == (content != '{"versions": "new"}')


def test_notes_on_validation_data_and_mixed_groups(file: Path) -> None:
    trainers = [{"evaluate_on": "validation", "epochs": n} for n in (1, 2)]
    page = written(file, [record("er", n, LOWER, trainer=trainers[n]) for n in (0, 1)], by=["strategy"])
    assert "All of this was measured on validation data." in page.text
    assert "Split er averages runs that differ in trainer.epochs." in page.text


def test_runs_left_out_are_named_with_the_reason(file: Path) -> None:
    page = written(file, [record("er", 0, LOWER)], left_out=[(Path("outputs/x"), "not finished (failed)")])
    assert ["outputs/x", "not finished (failed)"] in page.rows
    assert "on 1 benchmark; 1 run left out." in page.text


def test_nothing_from_a_run_becomes_part_of_the_page(tmp_path: Path, file: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    keys = {"benchmark": EVIL, "extra": {EVIL: EVIL}, "trainer": {"epochs": EVIL}}
    store(runs, EVIL, 0, {"commit": EVIL, "versions": {EVIL: EVIL}}, **keys)
    store(runs, EVIL, 1, {"commit": EVIL, "versions": {EVIL: "1"}}, **keys | {"trainer": {"epochs": EVIL[::-1]}})
    left_out = [(Path("outputs") / '"><img src=x onerror=alert(1)>', f"{EVIL} & reasons")]
    page = written(file, read_all([runs])[0], left_out=left_out, title=EVIL)
    plain = written(tmp_path / "plain.html", [record("er", 0, LOWER)])
    assert len(page.scripts) == len(plain.scripts) == 3
    assert {tag for tag, _ in page.elements} - {tag for tag, _ in plain.elements} <= {"div", "ul", "li"}
    assert page.headings[0] == f"h1 {EVIL}"
    assert page.rows[-1] == ['outputs/"><img src=x onerror=alert(1)>', f"{EVIL} & reasons"]
    assert [row for row in page.rows if row[0] == f"versions.{EVIL}"]
    assert ["trainer.epochs", EVIL[::-1], "group 1"] in page.rows  # the second seed has the better matrix
    assert [EVIL, "group 2"] in page.rows
    assert "<" not in page.scripts[0]
    assert page.data[0]["label"].startswith(EVIL)


def test_a_folder_whose_name_is_no_text(file: Path) -> None:
    page = written(file, [record("er", 0, LOWER)], left_out=[(Path("outputs/\udcff"), "not finished")])
    assert ["outputs/\\udcff", "not finished"] in page.rows


def test_one_file_is_all_it_needs(file: Path) -> None:
    from plotly.offline import get_plotlyjs

    page = written(file, [record("er", 0, LOWER)])
    text = file.read_text()
    assert text.count(get_plotlyjs()) == 1
    assert not re.findall(r"https?://", text.replace(get_plotlyjs(), ""))
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,")), tag
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none';")


def test_structure_for_those_who_do_not_see_it(file: Path) -> None:
    page = written(file, [record("er", 0, LOWER), record("lwf", 0, LOWER)])
    levels = [int(heading[1]) for heading in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    assert ("html", {"lang": "en"}) in page.elements
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        assert (attributes.get("href") or "").removeprefix("#") in ["", "data:,", *ids]


def test_three_hundred_groups_stay_small_and_quick(file: Path) -> None:
    count = 20
    matrix = [[0.123456 if j < max(i, 1) else None for j in range(count)] for i in range(count + 1)]
    records = [
        record(f"s{s}", seed, matrix, trainer={"epochs": e, **{f"key{k}": k for k in range(60)}})
        for s in range(30)
        for e in range(10)
        for seed in range(7)
    ]
    keys, groups = group(records, None, "average_accuracy")
    start = time.perf_counter()
    write_report(file, keys, groups, ["average_accuracy", "forgetting"], [], "Runs")
    assert time.perf_counter() - start < 10  # takes about 1 s
    assert len(groups) == 300
    assert file.stat().st_size < 8e6


def test_without_plotly_the_remedy_is_named(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"needs plotly and jinja2 .*; pip install 'clx\[report\]'"):
        written(file, [record("er", 0, LOWER)])
    store(tmp_path, "er", 0)
    with pytest.raises(Mistake, match=r"pip install 'clx\[report\]'"):
        main([str(tmp_path), "-o", str(file)])
    assert not file.exists()


def test_importing_it_is_cheap() -> None:
    code = "import sys, clx.store.report; assert not {'plotly', 'jinja2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for seed in (0, 1):
        store(runs, "er", seed)
    (store(runs, "lwf", 0) / "result.json").unlink()
    file = tmp_path / "page.html"
    assert main(["-o", str(file), str(runs), "--metric", "learning_accuracy", "--by", "strategy,trainer.epochs"]) == 0
    page = Page(file.read_text())
    assert page.rows[0][2:6] == ["strategy", "trainer.epochs", "seeds", "learning_accuracy"]
    # (0.8 + 0.4) / 2 = 0.6 and (1.0 + 0.6) / 2 = 0.8
    assert page.rows[1][:6] == ["1", "split", "er", "1", "2", "0.7000 ± 0.1414"]
    assert page.headings[0] == f"h1 Runs in {runs}"
    assert "not finished (finished)" in page.text
    assert f"written into {file}" in capsys.readouterr().err


MISTAKES = {
    "metric": (["--metric", "accuracy"], "--metric accuracy: there is no such metric"),
    "by": (["--by", "strateg"], "did you mean strategy"),
    "output": (["-o", "nowhere/report.html"], "nowhere/report.html: cannot be written"),
    "option": (["--title", "x"], "clx report: unrecognized arguments"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_command_mistakes_are_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    store(tmp_path / "runs", "er", 0)
    monkeypatch.chdir(tmp_path)
    arguments, said = MISTAKES[case]
    with pytest.raises(Mistake) as caught:
        main(["runs", *arguments])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
