"""Weights & Biases: a run on its server, or recorded offline to be sent later."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from clx.logger.base import RunFinished, RunStarted
from clx.logger.tracker import State, Told, Tracker, hyper_parameters, run_name

X_AXIS = "total_step"
EXIT_CODE = {"finished": 0, "failed": 1, "killed": 130}
REMEDY = "set logger.wandb.mode=offline and send the run later with `wandb sync`"


class Position(NamedTuple):
    """How far a run has been told: the step, and the rows at that step so far."""

    step: int = -1
    rows: int = 0

    def after(self, step: int) -> Position:
        """Where one more row at that step leads."""
        return Position(step, self.rows + 1 if step == self.step else 1)


class WandB(Tracker):
    """Keeps each run as one of W&B's, its curves over the run's steps.

    A run that goes on continues the same run of W&B. Which one that is, and how far it was told, stands in
    wandb/clx.json of its folder: a digest of the folder's name would be the same on other machines, and in a run
    that starts anew there. path: where W&B's folder `wandb` lies, for this run alone; None = the run's folder.
    mode: None = W&B's own choice, such as WANDB_MODE. Raises ImportError where wandb is not installed, ValueError
    where there is no login and nobody to ask for one, or the server cannot be reached.
    """

    def __init__(
        self,
        path: str | None,
        project: str,
        entity: str | None,
        mode: Literal["online", "offline", "disabled"] | None,
    ) -> None:
        super().__init__(path)
        try:
            import wandb  # noqa: PLC0415 - only here when it is asked for
        except ImportError as error:
            raise ImportError("wandb is not installed; pip install 'clx[wandb]'") from error
        self._wandb = wandb
        self.project, self.entity, self.mode = project, entity, mode
        self._run: Any = None
        self._id = ""
        self._memo = Path()
        self._told = Position()  # by this process and those before it
        self._position = Position()  # of this process
        self._require_login()

    def _begin(self, event: RunStarted) -> None:
        root = self._place("")
        self._memo = root / "wandb" / "clx.json"
        self._memo.parent.mkdir(parents=True, exist_ok=True)
        earlier = self._read_memo() if event.goes_on else None
        self._id, self._told = earlier or (secrets.token_hex(8), Position())
        self._position = Position()
        if self._told.step <= event.total_step:
            self._told = Position()  # what comes is new
        options = self._options(event, root, resume=earlier is not None)
        try:
            self._run = self._wandb.init(**options)
        except self._wandb.Error as error:
            reason = str(error).split("\n", 1)[0]
            raise ValueError(f"mode {self.mode or 'null'}: W&B does not answer ({reason}); {REMEDY}") from error
        self._run.define_metric(X_AXIS, hidden=True)
        self._run.define_metric("*", step_metric=X_AXIS)
        self._write_memo()

    def _record(self, event: Told, values: Mapping[str, float]) -> None:
        if isinstance(event, RunFinished):
            self._run.summary.update(dict(values))
            picture = self._matrix_picture()
            if picture is not None:
                self._run.log({"matrix": self._wandb.Image(str(picture)), X_AXIS: self.step})
        elif values:
            self._position = self._position.after(self.step)
            if self._position > self._told:
                self._run.log({**values, X_AXIS: self.step})
                self._told = self._position
                self._write_memo()

    def _end(self, state: State) -> None:
        self._run.finish(exit_code=EXIT_CODE[state])

    def _options(self, event: RunStarted, root: Path, *, resume: bool) -> dict[str, Any]:
        return {
            "project": self.project,
            "entity": self.entity,
            "mode": self.mode,
            "dir": str(root),
            "id": self._id,
            "resume": "allow" if resume else None,
            "name": run_name(event),
            "tags": list(event.config.get("tags") or ()),
            "config": hyper_parameters(event.config),
            "settings": self._wandb.Settings(console="off"),  # the terminal stays with the moving bar
        }

    def _require_login(self) -> None:
        """Before anything is trained: whoever is not logged in is asked where there is a terminal, else told."""
        if (self.mode or self._wandb.setup().settings.mode) != "online":
            return
        try:
            self._wandb.login(verify=False)
        except self._wandb.Error as error:
            where = "there is no login to W&B, and no terminal to ask for one"
            raise ValueError(f"mode {self.mode or 'null'}: {where}; run `wandb login`, or {REMEDY}") from error

    def _read_memo(self) -> tuple[str, Position] | None:
        try:
            content = json.loads(self._memo.read_text())
            return content["id"], Position(content["step"], content["rows"])
        except (OSError, ValueError, KeyError):
            return None

    def _write_memo(self) -> None:
        spare = self._memo.with_suffix(".new")
        spare.write_text(json.dumps({"id": self._id} | self._told._asdict()))
        spare.replace(self._memo)
