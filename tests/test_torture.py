"""scripts/torture.py: a short one of real runs, and that it would see what it looks for."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clx.store import checkpoint
from clx.store.files import write_json, write_yaml

SCRIPTS = Path(__file__).parent.parent / "scripts"
NAN = float("nan")


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The modules of the script, by their last word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        names = ("outcome", "disk", "run", "damage", "faults", "tables")
        modules = {name: import_module(f"torture_{name}") for name in names}
        yield SimpleNamespace(main=import_module("torture"), **modules)


@pytest.fixture
def run(parts: SimpleNamespace, tmp_path: Path) -> Any:
    """A Run whose folder looks as a killed one's: checkpoints of 10 and of 20 steps, running."""
    with parts.disk.SmallDisk(tmp_path / "disk", mount=False) as disk:
        made = parts.run.Run("er-0", ["strategy=er"], Path("seed=0"), seconds=1.0, disk=disk, aside=tmp_path)
        made.folder.mkdir(parents=True)
        for steps in (10, 20):
            save(made.folder, steps)
        (made.folder / "metrics.csv").write_text("step,name,value\n20,loss/ce,0.5\n")
        write_json(made.folder / "status.json", {"state": "running", "pid": 1, "host": "here"})
        yield made


def save(folder: Path, steps: int, seconds: float = 1.0) -> None:
    counters = {"total_step": steps, "train_seconds": seconds}
    checkpoint.save(folder, {"counters": counters, "parts": {"weight": torch.tensor([1.0, NAN])}, "position": None})


def finish(folder: Path, *, accuracy: float = 0.5, seconds: float = 1.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cost = {"total_seconds": seconds, "samples_per_second": 1 / seconds, "peak_memory_bytes": seconds, "parameters": 3}
    write_json(folder / "result.json", {"metrics": {"average_accuracy": accuracy}, "cost": cost})
    write_json(folder / "status.json", {"state": "finished", "started": seconds})
    write_yaml(folder / "config.yaml", {"seed": 0, "output_root": str(folder), "choices": {}})
    (folder / "metrics.csv").write_text("step,name,value\n20,loss/ce,0.5\n")
    (folder / "matrix.csv").write_text("after,0\n1,0.5\n")
    save(folder, 20, seconds)


def test_a_short_one(tmp_path: Path) -> None:
    """Two strategies, four kills, and after some of them a flipped bit or torn tables."""
    words = ["--kills", "4", "--strategies", "er,icarl", "--faults", "flip_byte,torn_metrics", "--seed", "1"]
    command = [sys.executable, str(SCRIPTS / "torture.py"), *words, "--no-mount", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "counts.json")], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())["strategies"]
    assert [(report["strategy"], report["counts"]["kills"]) for report in counts] == [("er", 2), ("icarl", 2)]
    for report in counts:
        assert report["counts"]["identical"] == report["counts"]["runs"] >= 1
        assert report["counts"]["looks"] >= 3  # each of the three files
        assert sum(report["moments"].values()) == 2
        assert report["problems"] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "counts.json"]
    assert "Kills by moment" in done.stdout


def test_a_command_that_fails_by_itself_is_said(tmp_path: Path) -> None:
    words = ["--kills", "1", "--strategies", "nonesuch", "--no-mount", "--folder", str(tmp_path)]
    command = [sys.executable, str(SCRIPTS / "torture.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("torture: nonesuch fails even if nothing happens to it: clx: strategy=nonesuch: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def children(pid: int) -> list[int]:
    return [int(n) for file in Path(f"/proc/{pid}/task").glob("*/children") for n in file.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells of children there")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "torture.py"), "--strategies", "er,si", "--no-mount", "--folder"]
    process = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    victims = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert len(victims) == 2
    assert [pid for pid in victims if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_what_clocks_say_makes_no_difference(parts: SimpleNamespace, tmp_path: Path) -> None:
    finish(tmp_path / "a", seconds=1.0)
    finish(tmp_path / "b", seconds=2.0)
    expected, found = (parts.outcome.outcome(tmp_path / name) for name in "ab")
    assert parts.outcome.differences(expected, found) == []
    assert expected["result.json"]["cost"] == {"parameters": 3}
    assert expected["checkpoint"]["counters"] == {"total_step": 20}


def test_every_other_bit_does(parts: SimpleNamespace) -> None:
    differences = parts.outcome.differences
    last = torch.tensor([1.0]) + torch.finfo(torch.float32).eps
    assert differences({"w": torch.tensor([1.0])}, {"w": last}) == ["/w: another tensor"]
    assert differences({"w": torch.tensor([NAN])}, {"w": torch.tensor([NAN])}) == []
    assert differences({"w": torch.zeros(2)}, {"w": torch.zeros(2, dtype=torch.float64)}) == ["/w: another tensor"]
    assert differences([0.0, NAN], [-0.0, NAN]) == ["/0: -0.0 instead of 0.0"]
    assert differences({"a": 1}, {"a": 1.0}) == ["/a: float instead of int"]
    assert differences({"a": 1}, {"b": 1}) == [": keys ['a', 'b']"]
    assert differences([1], [1, 2]) == [": 2 entries instead of 1"]
    assert differences({"m": "a\nb\n"}, {"m": "a\nc\n"}) == ["/m:2: 'c' instead of 'b'"]
    assert differences({"m": "a\nb\n"}, {"m": "a\n"}) == ["/m: 1 lines instead of 2"]


def torment(parts: SimpleNamespace, folder: Path) -> Any:
    deck = parts.faults.Deck(random.Random(0), ["nothing"])
    made = parts.main.Torment("er", 0, random.Random(0), deck, folder, lambda _: None)
    made._round = lambda _: True
    return made


def test_another_result_is_called_different_and_none_lost(parts: SimpleNamespace, run: Any, tmp_path: Path) -> None:
    torment_er = torment(parts, tmp_path)
    finish(tmp_path / "untouched")
    expected = parts.outcome.outcome(tmp_path / "untouched")
    assert torment_er._end(run, expected) == "lost"
    finish(run.folder, accuracy=0.25)
    assert torment_er._end(run, expected) == "different"
    assert run.problems[1:] == ["er-0: different: /result.json/metrics/average_accuracy: 0.25 instead of 0.5"]
    finish(run.folder)
    assert torment_er._end(run, expected) == "identical"


def test_half_a_file_is_seen(run: Any) -> None:
    run.look()
    assert (run.problems, run.counts["looks"]) == ([], 1)
    (run.folder / "result.json").write_text('{"schema": 1, "metr')
    run.look()
    run.look()
    (problem,) = run.problems
    assert problem.startswith("er-0: half a result.json was to be seen: ")
    (run.folder / "status.json").write_text("")
    run.mine("status.json")  # the script itself did that
    run.look()
    assert len(run.problems) == 1


@pytest.mark.parametrize(
    ("name", "steps"),
    [("cut_checkpoint", 10), ("flip_byte", 10), ("empty_checkpoint", 10), ("delete_checkpoint", 10), ("nothing", 20)],
)
def test_damage_leaves_the_checkpoint_before(name: str, steps: int, parts: SimpleNamespace, run: Any) -> None:
    """It has checkpoints of 10 and of 20 steps. After both are damaged there is none: -1."""
    assert run.steps() == 20
    assert parts.damage.DAMAGES[name](run, random.Random(0))
    assert run.steps() == steps
    if name == "delete_checkpoint":
        assert parts.damage.DAMAGES[name](run, random.Random(0))
        assert not parts.damage.DAMAGES[name](run, random.Random(0))
        assert run.steps() == -1


def test_a_finished_run_is_left_as_it_is(parts: SimpleNamespace, run: Any) -> None:
    assert parts.damage.damage(run, "flip_byte", random.Random(0))
    assert run.steps() == 10
    finish(run.folder)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    for name in parts.damage.DAMAGES:
        assert not parts.damage.damage(run, name, random.Random(0))
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_the_table_by_strategy_counts_each_thing_once(parts: SimpleNamespace, run: Any) -> None:
    run.fault("rival")
    run.pending.append("rival")
    run._through("resumed")
    run.problem("wrong")
    report = parts.main.Report("er")
    report.add(run, "lost")
    line = parts.tables._line(report)
    assert {name: count for name, count in line.items() if count} == dict.fromkeys(
        ("runs", "lost", "rival", "resumed", "problems"), 1
    )
    assert report.faults == {"rival": {"times": 1, "resumed": 1, "problems": 1, "lost": 1}}


def test_damage_to_other_files(parts: SimpleNamespace, run: Any) -> None:
    draw = random.Random(0)
    status = run.folder / "status.json"
    assert parts.damage.reused_pid(run, draw)
    assert json.loads(status.read_text())["pid"] == os.getpid()
    assert parts.damage.other_host(run, draw)
    assert json.loads(status.read_text())["host"] != "here"
    assert parts.damage.torn_metrics(run, draw)
    assert (run.folder / "metrics.csv").read_bytes().startswith(b"step,name,value\n20,loss/ce,0.5\n")
    assert (run.folder / "metrics.csv").stat().st_size > 31
    assert parts.damage.stray_files(run, draw)
    assert run.steps() == 20
    assert parts.damage.cut_status(run, draw)
    assert run.status() == {}
    assert not parts.damage.empty_status(run, draw)  # it cannot be read already
    assert parts.damage.delete_status(run, draw)
    assert not parts.damage.delete_status(run, draw)


def ended(run: Any, log: str, code: int = 0) -> int:
    """What settle() says of a start that wrote this run.log."""
    run._log, run._steps = run._read("run.log"), run.steps()
    (run.folder / "run.log").write_text(log)
    return run.settle(SimpleNamespace(finish=lambda: code))


def test_how_a_start_went_is_told_by_the_log(run: Any) -> None:
    line = "started at experience 1 of 5\n"
    for file in run.checkpoints():
        file.unlink()
    assert ended(run, f"1 {line}") == 0
    assert ended(run, f"1 {line}1 more\n") == 0  # no start of its own
    run.fault("nothing")
    run.pending.append("nothing")
    save(run.folder, 10)
    assert ended(run, f"1 {line}1 more\n2 {line}", code=130) == 130
    assert {name: run.counts[name] for name in ("first", "resumed", "anew")} == {"first": 1, "resumed": 1, "anew": 0}
    assert run.faults == {"nothing": {"times": 1, "resumed": 1}}
    assert run.problems == []
    ended(run, f"3 {line}")
    assert run.counts["anew"] == 1
    assert run.problems == ["er-0 after nothing: it began anew although there was a checkpoint of 10 steps"]


def test_a_checkpoint_that_is_lost_on_the_way_is_told(run: Any) -> None:
    run._steps = 30
    run.settle(SimpleNamespace(finish=lambda: 0))
    assert run.problems == ["er-0: its checkpoint has gone back from 30 to 20 steps"]


def test_every_fault_gets_its_turn(parts: SimpleNamespace) -> None:
    """19 faults, and a kill alone 19 times more."""
    deck = parts.faults.Deck(random.Random(0), None)
    names = {*parts.damage.DAMAGES, *parts.faults.HAPPENINGS}
    drawn = [deck.draw() for _ in range(2 * len(names))]
    assert set(drawn) == names
    assert drawn.count("nothing") == 1 + len(names)
    assert deck.draw() in names
    deck.put_back("rival")
    assert [deck.draw() for _ in range(len(deck.cards))][-1] == "rival"
    known = {name for kind in parts.tables.KINDS.values() for name in kind}
    assert known == names - {"nothing"}  # each has a column


def test_shares(parts: SimpleNamespace) -> None:
    assert parts.main.shares(7, ["a", "b", "c"]) == {"a": 3, "b": 2, "c": 2}
    assert parts.main.shares(1, ["a", "b"]) == {"a": 1}
    assert len(parts.main.shares(200, list(parts.run.EPOCHS))) >= 8
