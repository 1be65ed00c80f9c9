"""What the world does to a run: full disks, folders that go away, other processes, data that changes, memory."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from clx.app import execute
from clx.cli import main
from clx.config import compose, plain
from clx.data.synthetic import Synthetic
from clx.logger.base import Event, ExperienceDone
from clx.store import checkpoint, files
from clx.store.run import RunStore, read_status
from clx.strategy.er import ER

QUICK = [
    "benchmark=synthetic",
    "benchmark.data.num_classes=6",
    "benchmark.num_experiences=3",
    "benchmark.samples_per_class=8",
    "benchmark.test_samples_per_class=4",
    "model.hidden_size=8",
    "buffer.capacity=12",
    "trainer.epochs=2",
    "trainer.batch_size=8",
    "trainer.device=cpu",
    "trainer.checkpoint_every=experience",
    "logger=none",
]


def configured(*overrides: str) -> dict[str, Any]:
    return plain(compose([*QUICK, *overrides]))


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    result.pop("cost")
    return result


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("untouched")
    assert execute(configured(), folder) == 0
    return result_of(folder)


@pytest.fixture
def when(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """when(act): act is called once, when the second experience is done."""

    def set_up(act: Callable[[], None]) -> None:
        told = RunStore.on

        def on(self: RunStore, event: Event) -> None:
            told(self, event)
            if isinstance(event, ExperienceDone) and event.experience == 1:
                monkeypatch.setattr(RunStore, "on", told)
                act()

        monkeypatch.setattr(RunStore, "on", on)

    return set_up


def test_a_full_disk(
    tmp_path: Path,
    untouched: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: Callable[..., None],
) -> None:
    """Neither checkpoint nor state can be written: two lines say so; with room again the run goes on."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        when(lambda: patch.setattr(files.os, "fsync", full))
        assert execute(configured(), tmp_path) == 1
    said = capsys.readouterr().err
    assert "failed could not be recorded" in said
    assert "the disk is full ([Errno 28] No space left on device); make room, then the same command goes on" in said
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]  # nothing half-written is left
    assert execute(configured(), tmp_path) == 0
    assert result_of(tmp_path) == untouched
    assert "started at experience 3 of 3" in (tmp_path / "run.log").read_text()


def test_a_folder_that_goes_away(
    tmp_path: Path, untouched: dict[str, Any], capsys: pytest.CaptureFixture[str], when: Callable[..., None]
) -> None:
    """Moved while the run goes on: nothing is written in its place, and put back it goes on."""
    here, there = tmp_path / "here", tmp_path / "there"
    when(lambda: here.rename(there))
    assert execute(configured(), here) == 1
    assert not here.exists()
    assert f"{here} was moved or deleted while its run went on; put it back and resume" in capsys.readouterr().err
    assert read_status(there)["state"] == "interrupted"
    there.rename(here)
    assert execute(configured(), here) == 0
    assert result_of(here) == untouched


def test_another_folder_in_its_place_is_left_alone(tmp_path: Path, when: Callable[..., None]) -> None:
    here = tmp_path / "here"

    def replace() -> None:
        here.rename(tmp_path / "there")
        here.mkdir()

    when(replace)
    assert execute(configured(), here) == 1
    assert list(here.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main([*QUICK, f"output_root={tmp_path}/outputs"]) == 2
    assert "cannot be written" in capsys.readouterr().err


HOLDER = """
import sys, time
from pathlib import Path
from clx.store.run import RunStore
store = RunStore(Path(sys.argv[1]))
store.claim()
store.status("running")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_rival_says_who_holds_the_folder_and_leaves(
    tmp_path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(configured(), tmp_path) == 2
    assert f"is being run by process {holder.pid} on " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "status.json"]


def test_the_lock_of_a_dead_process_holds_nobody(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert read_status(tmp_path)["state"] == "running"
    holder.kill()
    holder.wait()
    assert read_status(tmp_path)["state"] == "interrupted"
    assert execute(configured(), tmp_path) == 0


@pytest.mark.parametrize("host", [None, "another.example"])
def test_a_number_that_belongs_to_another_process_by_now(
    host: str | None, tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    """status.json names a process that lives (here our parent), but nobody holds the folder: that run has died."""
    holder.kill()
    holder.wait()
    status = json.loads((tmp_path / "status.json").read_text()) | {"pid": os.getppid()}
    (tmp_path / "status.json").write_text(json.dumps(status | ({"host": host} if host else {})))
    assert read_status(tmp_path)["state"] == "interrupted"
    with FileLock(tmp_path / ".lock"):
        assert read_status(tmp_path)["state"] == "running"


def test_data_that_changes_between_start_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One pixel of one image, once the first checkpoint is there."""
    save = checkpoint.save

    def stop(folder: Path, state: dict[str, Any]) -> None:
        save(folder, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            execute(configured(), tmp_path)
    assert execute(configured("benchmark.data.seed=1"), tmp_path / "other") == 0
    written = {path: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()}
    load = Synthetic.load

    def changed(self: Synthetic, root: Path) -> Any:
        train, test = load(self, root)
        x = train.x.clone()
        x.view(-1)[0] += 1
        return train._replace(x=x), test

    with monkeypatch.context() as patch:
        patch.setattr(Synthetic, "load", changed)
        assert execute(configured(), tmp_path) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"clx: benchmark.data: the data has changed since {tmp_path} began with it")
    assert said.endswith("start again with rerun=true")
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoint").iterdir()} == written
    assert execute(configured(), tmp_path) == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore lines"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(ER, "observe", exhausted)
        assert execute(configured(), tmp_path) == 1
    reason = read_status(tmp_path)["reason"]
    assert reason.startswith(f"out of memory ({type(error).__name__}")
    assert "lower trainer.batch_size" in reason
    assert "\n" not in reason
    assert reason in capsys.readouterr().err
    assert execute(configured(), tmp_path) == 0


def test_a_tensor_that_cannot_be_had_is_a_lack_of_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one: 2**60 bytes."""
    monkeypatch.setattr(ER, "observe", lambda *_: torch.empty(2**60, dtype=torch.uint8))
    assert execute(configured(), tmp_path) == 1
    assert read_status(tmp_path)["reason"].startswith("out of memory (")


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_no_checkpoint_of_it(tmp_path: Path) -> None:
    """A learning rate of 1e30: the second step's loss is no number; somebody reads it at the epoch's end only."""
    assert execute(configured("optimizer.lr=1e30", "trainer.checkpoint_every=0.0001s"), tmp_path) == 1
    status = read_status(tmp_path)
    assert status["state"] == "failed"
    assert status["reason"].startswith(
        "FloatingPointError: the loss is not finite in experience 0, phase train, epoch 0"
    )
    state = checkpoint.load(tmp_path)
    weights = state["parts"]["strategy"].values() if state else []
    assert all(bool(torch.isfinite(w).all()) for w in weights if isinstance(w, torch.Tensor) and w.is_floating_point())


def test_skipped_steps_are_counted_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = ER.observe

    def poisoned(self: ER, batch: Any) -> Any:
        objective = observe(self, batch)
        if batch.clock.step == 1:
            return type(objective)({"ce": objective.terms["ce"] * float("nan")}, objective.logits)
        return objective

    monkeypatch.setattr(ER, "observe", poisoned)
    assert execute(configured("trainer.on_nonfinite=skip"), tmp_path) == 0
    assert json.loads((tmp_path / "result.json").read_text())["cost"]["skipped_steps"] == 3
    assert (
        "step skipped, not finite in experience 0, phase train, epoch 0, step 1: ce = nan"
        in (tmp_path / "run.log").read_text()
    )


def test_deterministic_holds_for_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    observe = ER.observe

    def noting(self: ER, batch: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return observe(self, batch)

    monkeypatch.setattr(ER, "observe", noting)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        assert execute(configured("trainer.deterministic=true"), tmp_path / "a") == 0
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert execute(configured(), tmp_path / "b") == 0
    finally:
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    assert seen == [True] * (len(seen) // 2) + [False] * (len(seen) // 2)
    assert result_of(tmp_path / "a") == result_of(tmp_path / "b")


def test_a_run_started_again_from_its_config_alone_gives_the_same(tmp_path: Path, untouched: dict[str, Any]) -> None:
    assert execute(configured(), tmp_path / "first") == 0
    shutil.move(tmp_path / "first" / "config.yaml", tmp_path / "alone.yaml")
    assert main(["--from", str(tmp_path / "alone.yaml"), f"output_root={tmp_path}/again"]) == 0
    (again,) = tmp_path.glob("again/**/seed=0")
    assert result_of(again) == untouched
    assert (again / "metrics.csv").read_text() == (tmp_path / "first" / "metrics.csv").read_text()
