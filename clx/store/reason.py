"""One sentence on why two runs differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clx.store.diff import ABSENT, Diff, Pair, Row, Run, plain_text
from clx.store.identity import show

LONGEST = 60  # characters of a value in a sentence
MOST = 3  # differences that a sentence names
# What changes numbers, the likeliest first. What is not here (versions of loggers, unused cores) does not.
RANKED = (
    "device",
    "device_name",
    "source",
    "commit",
    "versions.torch",
    "versions.clx",
    "flags",
    "threads",
    "torch",
    "machine.cpu",
    "machine.processor",
    "machine.system",
    "machine.libc",
    "machine.driver",
    "variables",
    "versions.numpy",
    "versions.torchvision",
    "versions.timm",
    "versions.pytorchcv",
    "versions.scipy",
    "versions.pillow",
    "versions.python",
)


def reason(diff: Diff) -> str:
    """What the two runs have in common, where their numbers part, and the likely reason."""
    happened = outcome(diff)
    if diff.deciding:
        return f"Different configurations ({named(diff.deciding, show)}); {happened}."
    stream = {key: pair for key, pair in (diff.stream or {}).items() if ABSENT not in pair}
    if stream:
        return f"Same configuration, another stream ({named(stream)}); {happened}."
    common = "Same configuration" if diff.stream is None else "Same configuration and stream"
    if diff.environment is None:
        return f"{common}; {happened}; what {_who_lacks(diff)} ran on is not known."
    told = both_tell(diff)
    likely = likeliest(diff, told)
    if diff.identical:
        if told:
            return f"{common}; {happened}, although this differs: {named(likely or told)}."
        as_far = ", as far as both tell" if diff.environment or diff.stream != {} else ""
        return f"No difference found: same configuration, environment and numbers{as_far}."
    if likely:
        return f"{common}; {happened}: {named(likely)}."
    if told:
        return f"{common}; {happened}; nothing known that changes numbers differs, only {named(told)}."
    if diff.identical is None or _ends(diff):
        return f"{common}, and the same environment; {happened}."
    return f"{common}, and the same environment, yet {happened}: something did not repeat itself{_remedy(diff)}."


def _remedy(diff: Diff) -> str:
    asked = all(run.config.get("trainer", {}).get("deterministic") is True for run in diff.runs)
    return ", although trainer.deterministic=true" if asked else "; trainer.deterministic=true asks for what does"


def outcome(diff: Diff) -> str:
    """Where the numbers part, in a few words."""
    parting = diff.parting
    if parting is None:
        if diff.cell is not None:
            return _cell(diff)
        if all(run.record is not None for run in diff.runs):
            return "the accuracy matrices are identical, their metrics.csv is not known"
        return "where their numbers part is not known"
    if parting.identical:
        return _cell(diff) if diff.cell is not None else "the numbers are identical, bit for bit"
    if parting.first is not None and parting.second is not None:
        return f"they part at {_place(parting.first, parting.second)}"
    ended, goes_on = ("first", parting.second) if parting.first is None else ("second", parting.first)
    state = diff.runs[0 if ended == "first" else 1].state
    assert goes_on is not None
    return f"the numbers are the same as far as the {ended} run goes ({state}), before step {goes_on['step']}"


def _ends(diff: Diff) -> bool:
    """Whether one run merely goes further than the other."""
    parting = diff.parting
    return parting is not None and (parting.first is None) != (parting.second is None)


def _cell(diff: Diff) -> str:
    assert diff.cell is not None
    where = f"after {diff.cell.after} experiences on test set {diff.cell.test_set + 1}"
    return f"the accuracy matrices part {where} ({' / '.join(apart(*diff.cell.values))})"


def _place(first: Row, second: Row) -> str:
    """As "step 250 (loss/ce 0.5123 / 0.5124)"."""
    if first["step"] != second["step"]:
        return f"step {first['step']} / {second['step']} ({first['name']} / {second['name']})"
    if first["name"] != second["name"]:
        return f"step {first['step']} ({first['name']} / {second['name']})"
    values = apart(_value(first), _value(second))
    return f"step {first['step']} ({first['name']} {' / '.join(values)})"


def _value(row: Row) -> float | str:
    try:
        return float(row["value"])
    except ValueError:
        return row["value"]


def apart(a: Any, b: Any) -> tuple[str, str]:
    """Two numbers with as many digits as show that they differ; other values as they are."""
    short = _number(a), _number(b)
    if a == b or short[0] != short[1] or not all(isinstance(value, int | float) for value in (a, b)):
        return short
    texts = ((f"{a:{form}}", f"{b:{form}}") for form in (",.8f", ",.12f", ",.16f", ".17g"))
    return next((pair for pair in texts if pair[0] != pair[1]), short)


def _number(value: Any) -> str:
    if value is None or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"


def both_tell(diff: Diff) -> dict[str, Pair]:
    """Of what they ran on, that of which both say something: what an older run never wrote down is no difference."""
    first, second = (run.environment or {} for run in diff.runs)
    return {
        key: pair
        for key, pair in (diff.environment or {}).items()
        if ABSENT not in pair or ((top := key.split(".")[0]) in OPEN and top in first and top in second)
    }


OPEN = ("versions", "variables")  # in which a name that is missing says that there was none


def likeliest(diff: Diff, differences: Mapping[str, Pair]) -> dict[str, Pair]:
    """Of the differences in what they ran on, those that may have changed the numbers, the likeliest first."""
    ranked = sorted((rank, key) for key in differences if (rank := _rank(key)) < len(RANKED))
    same_code = "source.clx" not in differences and all(_source(run) is not None for run in diff.runs)
    return {key: differences[key] for _, key in ranked if key != "commit" or not same_code}


def _source(run: Run) -> Any:
    source = (run.environment or {}).get("source")
    return source.get("clx") if isinstance(source, Mapping) else None


def _rank(key: str) -> int:
    return next((n for n, name in enumerate(RANKED) if key == name or key.startswith(f"{name}.")), len(RANKED))


def named(differences: Mapping[str, Pair], text: Callable[[Any], str] = plain_text) -> str:
    """The first differences in a few words: "threads 1 / 2, ... and 3 more"."""
    words = [f"{key} {_cut(text(a))} / {_cut(text(b))}" for key, (a, b) in list(differences.items())[:MOST]]
    more = len(differences) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _who_lacks(diff: Diff) -> str:
    lacking = [name for name, run in zip(("first", "second"), diff.runs, strict=True) if run.environment is None]
    return f"the {lacking[0]} run" if len(lacking) == 1 else "both runs"
