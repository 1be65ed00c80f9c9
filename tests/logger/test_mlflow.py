"""MLflow, read back with its own client."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clx.logger.base import RunFinished, RunStarted, StepDone
from clx.logger.mlflow import MLflow

pytest.importorskip("mlflow")

Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True, scope="module")
def _alone() -> Iterator[None]:
    """Nothing is sent anywhere, and no server of the person who runs the tests is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: making its tables takes a second. Each test has a run folder of its own."""
    return tmp_path_factory.mktemp("output root") / "mlflow"


@pytest.fixture
def make_logger(store: Path, request: pytest.FixtureRequest) -> Callable[..., MLflow]:
    """A logger whose experiment is named as the test."""
    return lambda: MLflow(str(store), None, request.node.name)


@pytest.fixture
def runs(store: Path, request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """runs(experiment=the test's): its runs, oldest first."""

    def runs(experiment: str = request.node.name) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
        found = client.search_runs(
            [client.get_experiment_by_name(experiment).experiment_id], order_by=["attributes.start_time ASC"]
        )
        for run in found:
            run.curves = {
                name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
        return found

    return runs


def test_a_run(
    folder: Path,
    tell: Callable[..., None],
    make_logger: Callable[..., MLflow],
    runs: Callable[..., list[Any]],
    curves: Series,
    summary: dict[str, float],
) -> None:
    tell(make_logger(), folder)
    (run,) = runs()
    assert run.curves == curves | {name: [(4, value)] for name, value in summary.items()}
    assert (run.info.run_name, run.info.status) == ("digits/er seed 3", "FINISHED")
    assert (run.data.tags["clx.folder"], run.data.tags["tags"]) == (str(folder), "trial")
    parameters = run.data.params
    chosen = ("seed", "name", "optimizer.lr", "optimizer.betas", "optimizer.nesterov", "choices.strategy")
    assert [parameters[name] for name in chosen] == ["3", "null", "0.05", "[0.9, 0.99]", "true", "er"]
    assert not [name for name in parameters if "logger" in name]
    artifact = Path(run.info.artifact_uri.removeprefix("file://").replace("%20", " ")) / "matrix.png"
    assert artifact.read_bytes() == (folder / "matrix.png").read_bytes()


def test_where_things_lie(folder: Path, tell: Callable[..., None], store: Path, runs: Callable[..., list[Any]]) -> None:
    """The experiment is the benchmark, and everything is in the store's folder."""
    tell(MLflow(str(store), None, None), folder)
    (run,) = runs("digits")
    assert run.info.artifact_uri.startswith((store / "artifacts").as_uri())
    assert {path.name for path in store.iterdir()} <= {"mlflow.db", "mlflow.lock", "artifacts"}


def test_without_a_folder(
    tell: Callable[..., None], make_logger: Callable[..., MLflow], runs: Callable[..., list[Any]], curves: Series
) -> None:
    tell(make_logger(), None)
    (run,) = runs()
    assert curves.items() <= run.curves.items()
    assert "clx.folder" not in run.data.tags


def test_a_long_value_is_cut(
    tmp_path: Path, make_logger: Callable[..., MLflow], runs: Callable[..., list[Any]]
) -> None:
    """MLflow takes 6000 characters, and 100 parameters at once."""
    config = {"long": "x" * 7000, "many": {str(n): n for n in range(250)}}
    logger = make_logger()
    logger.on(RunStarted("x", 1, config=config, folder=tmp_path))
    logger.on(RunFinished({}, [], 1.0))
    logger.close()
    (run,) = runs()
    assert run.data.params["long"] == "x" * 6000
    assert len(run.data.params) == 251


def test_a_run_that_failed_then_started_anew(
    folder: Path, tell: Callable[..., None], make_logger: Callable[..., MLflow], runs: Callable[..., list[Any]]
) -> None:
    tell(make_logger(), folder, finish=False)
    tell(make_logger(), folder)
    assert [run.info.status for run in runs()] == ["FAILED", "FINISHED"]


def test_a_real_run_and_one_that_goes_on(
    tmp_path: Path,
    train: Callable[..., None],
    make_logger: Callable[..., MLflow],
    runs: Callable[..., list[Any]],
    recorded: Callable[[Path], Series],
) -> None:
    """The second is stopped at step 12, in experience 1; its checkpoint is of step 8."""
    whole, stopped = tmp_path / "whole", tmp_path / "it's stopped"
    train(whole, make_logger())
    with pytest.raises(KeyboardInterrupt):
        train(stopped, make_logger(), stop_at=12)
    run = runs()[-1]
    assert (run.info.status, run.curves["loss/ce"][-1][0]) == ("KILLED", 12)
    train(stopped, make_logger())
    found = runs()
    assert [run.info.status for run in found] == ["FINISHED", "FINISHED"]
    for run, folder in zip(found, (whole, stopped), strict=True):
        own = recorded(folder)
        assert {name: run.curves[name] for name in own} == own


def test_rows_of_one_step_are_told_apart(
    tmp_path: Path, make_logger: Callable[..., MLflow], runs: Callable[..., list[Any]]
) -> None:
    """Step 2 is evaluated twice; the first process told one of them, so the second tells the other alone."""
    first, second = 0.5, 0.75
    for start, stop in ((0, 1), (1, 2)):
        logger = make_logger()
        logger.on(RunStarted("x", 2, first=start, total_step=start, folder=tmp_path))
        for value in (first, second)[:stop]:
            logger.on(StepDone(0, "train", 0, 1, 1, 1, 2, {"ce": value}))
        logger.close()
    (run,) = runs()
    assert run.curves["loss/ce"] == [(2, first), (2, second)]


def test_processes_at_once(tmp_path: Path, runs: Callable[..., list[Any]], store: Path) -> None:
    """Two processes make one store and write to it; none fails, and none prints a line."""
    from mlflow import MlflowClient

    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from clx.logger.base import RunFinished, RunStarted, StepDone
        from clx.logger.mlflow import MLflow
        logger = MLflow(sys.argv[1], None, None)
        logger.on(RunStarted("digits/er", 1, folder=Path(sys.argv[2])))
        for step in range(20):
            logger.on(StepDone(0, "train", 0, 1, step, 20, step, {"ce": step}))
        logger.on(RunFinished({}, [], 1.0))
        logger.close()
    """)
    shared = tmp_path / "shared"
    commands = [[sys.executable, "-c", script, str(shared), str(tmp_path / str(n))] for n in range(2)]
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [(process.returncode, text) for process, text in zip(processes, printed, strict=True)] == [(0, "")] * 2
    client = MlflowClient(f"sqlite:///{shared / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    assert [len(client.get_metric_history(run.info.run_id, "loss/ce")) for run in found] == [20] * 2


def test_an_address_goes_before_the_path(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://theirs")
    assert MLflow(str(store), None, None).tracking_uri == "http://theirs"
    assert MLflow(str(store), "http://mine", None).tracking_uri == "http://mine"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert MLflow(str(store), None, None).tracking_uri is None


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"pip install 'clx\[mlflow\]'"):
        MLflow("x", None, None)
