"""MLflow: a run in a local store, or on a tracking server."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from filelock import FileLock

from clx.logger.base import RunFinished, RunStarted
from clx.logger.tracker import State, Told, Tracker, as_text, hyper_parameters, run_name

LONGEST_VALUE = 6000  # characters of a parameter that MLflow takes
MOST_PARAMETERS, MOST_METRICS = 100, 1000  # of one request
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
KEY, FOLDER = "clx.key", "clx.folder"  # tags by which a run that goes on is found again


class MLflow(Tracker):
    """Keeps each run as one of MLflow's, with its metrics over the run's steps and matrix.png as an artifact.

    path: folder of the local store that runs share, mlflow.db and artifacts. tracking_uri: a server's address, or
    any that MLflow knows, instead; None = MLFLOW_TRACKING_URI where it is set, else the local store. experiment:
    None = the benchmark's name. Raises ImportError where mlflow is not installed.
    """

    def __init__(self, path: str, tracking_uri: str | None, experiment: str | None) -> None:
        super().__init__(path)
        try:
            from mlflow import MlflowClient  # noqa: PLC0415 - only here when it is asked for
        except ImportError as error:
            raise ImportError("mlflow is not installed; pip install 'clx[mlflow]'") from error
        self._connect = MlflowClient
        self.tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self.experiment = experiment
        self._client: Any = None
        self._run = ""
        self._recorded: Counter[tuple[str, int]] = Counter()  # (metric, step) that an earlier process told

    def _begin(self, event: RunStarted) -> None:
        if self._client is None:
            self._client = self._local_store() if self.tracking_uri is None else self._connect(self.tracking_uri)
        benchmark = event.config.get("choices", {}).get("benchmark") or event.title.split("/")[0]
        experiment = self._experiment(self.experiment or benchmark)
        earlier = self._earlier(experiment) if event.goes_on else None
        self._recorded = Counter()
        if earlier is None:
            self._create(event, experiment)
        else:
            self._run = earlier.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            for name in earlier.data.metrics:
                history = self._client.get_metric_history(self._run, name)
                self._recorded.update((name, point.step) for point in history if point.step > event.total_step)

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        now, points = round(time.time() * 1000), []
        for name, value in values.items():
            if self._recorded[name, self.step]:
                self._recorded[name, self.step] -= 1
            else:
                points.append(Metric(name, value, now, self.step))
        for part in _parts(points, MOST_METRICS):
            self._client.log_batch(self._run, metrics=part)
        picture = self._matrix_picture() if isinstance(event, RunFinished) else None
        if picture is not None:
            self._client.log_artifact(self._run, str(picture))

    def _end(self, state: State) -> None:
        self._client.set_terminated(self._run, STATUS[state])

    def _local_store(self) -> Any:
        """A client of the store in `path`, which is made where there is none."""
        folder = self._place("")
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes that make the tables of one database at once break it.
        with FileLock(folder / "mlflow.lock"), _quiet("mlflow.store.db.utils", "alembic"):
            return self._connect(f"sqlite:///{folder / 'mlflow.db'}")

    def _experiment(self, name: str) -> str:
        """The experiment's id; made where there is none of that name."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        found = self._client.get_experiment_by_name(name)
        if found is None:
            artifacts = None if self.tracking_uri else (self._place("") / "artifacts" / _key(name)).as_uri()
            try:
                return self._client.create_experiment(name, artifact_location=artifacts)
            except MlflowException:
                found = self._client.get_experiment_by_name(name)  # another process was quicker
                if found is None:
                    raise
        return found.experiment_id

    def _earlier(self, experiment: str) -> Any:
        """The last run of the same folder, or None."""
        if self.folder is None:
            return None
        same = f"tags.`{KEY}` = '{_key(str(self.folder.absolute()))}'"
        found = self._client.search_runs([experiment], same, order_by=["attributes.start_time DESC"], max_results=1)
        return found[0] if found else None

    def _create(self, event: RunStarted, experiment: str) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        tags = {"tags": ", ".join(event.config["tags"])} if event.config.get("tags") else {}
        if self.folder is not None:
            folder = str(self.folder.absolute())
            tags |= {FOLDER: folder, KEY: _key(folder)}
        self._run = self._client.create_run(experiment, run_name=run_name(event), tags=tags).info.run_id
        parameters = hyper_parameters(event.config).items()
        for part in _parts([Param(name, as_text(v)[:LONGEST_VALUE]) for name, v in parameters], MOST_PARAMETERS):
            self._client.log_batch(self._run, params=part)


def _key(text: str) -> str:
    """Sixteen characters that stand for a text, whatever is in it."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Warnings and errors alone from those loggers: making the tables is told in pages otherwise."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
