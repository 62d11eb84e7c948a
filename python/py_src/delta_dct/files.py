"""The level of files: a pair of models to a `.ddct` file, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath
from typing import Any

from . import _delta_dct
from .tensors import Base, Checkpoint, Delta, archive

#: Called with what is being done, and bytes done and in total; `False` in return stops the work.
Progress = Callable[[str, int, int], object]


def compress(
    base: Base,
    finetuned: Base,
    path: str | PathLike[str],
    method: str | None = None,
    *,
    rules: Mapping[str, str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    predecessor: bool = False,
    overwrite: bool = False,
    force_unrelated: bool = False,
    dry_run: bool = False,
    layers: bool = False,
    progress: Progress | None = None,
    **options: object,
) -> dict[str, Any]:
    """Writes `finetuned` as a delta against `base` to the file `path`; gives the report of `delta-dct compress --json`.

    `base` and `finetuned` are folders, files, ids on the Hugging Face hub, or arrays or tensors by name (state dicts). Without a method it is `auto`, whose options
    are one of `quality`, `size`, `ratio`, `bits` and `error`. `options` are those of the method, such as
    `block=32, bits="2:0.5,0:0.5"`; `methods()` lists them. `rules` gives tensors whose name matches a pattern
    (`*.attention.*`) another recipe; the last that matches counts. With `layers`, a second file beside `path`
    (`x.exact.ddct` for `x.ddct`) gives the model bit for bit; the first has the same bytes as without.

    Raises MismatchError (unrelated models), InvalidArgumentError (a recipe that makes no sense), IoError.
    """
    method = method or ("dct" if predecessor else "auto")
    recipe = " ".join([method, *(f"{key}={value}" for key, value in options.items())])
    wishes = {
        "recipe": recipe,
        "rules": list((rules or {}).items()),
        "include": _patterns(include),
        "exclude": _patterns(exclude),
        "predecessor": predecessor,
        "overwrite": overwrite,
        "force_unrelated": force_unrelated,
        "dry_run": dry_run,
        "layers": layers,
    }
    pair = Checkpoint.open(base).handle, Checkpoint.open(finetuned).handle
    report = json.loads(_delta_dct.compress(*pair, fspath(path), wishes, progress))
    sizes = _sizes(report["finetuned_bytes"], report["output_bytes"], report["weights"])
    return {"output": None if dry_run else fspath(path), **sizes, **report}


def apply(
    base: Base,
    path: str | PathLike[str] | Delta,
    out: str | PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes the fine-tuned model of the file `path` to `out`: a folder, or one file if its name ends in `.safetensors`.

    `out` appears whole or not at all. Gives the report of `delta-dct apply --json`. Raises MismatchError (a wrong base),
    CorruptError, IoError.
    """
    checkpoint = Checkpoint.open(base).handle
    report = json.loads(archive(path).apply(checkpoint, fspath(out), overwrite, progress))
    return {"output": fspath(out), **report}


def verify(
    path: str | PathLike[str] | Delta, base: Base | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Checks that the file is whole, and with `base` that it gives the weights that `compress` saw.

    Raises CorruptError, TruncatedError, MismatchError (a wrong base).
    """
    checkpoint = None if base is None else Checkpoint.open(base).handle
    report: dict[str, Any] = json.loads(archive(path).verify(checkpoint, progress))
    return report


def inspect(path: str | PathLike[str] | Delta) -> dict[str, Any]:
    """What a file holds: the fields of `delta-dct inspect --json`, and `files` as a mapping from name to bytes."""
    report = json.loads(archive(path).inspect())
    weights = sum(tensor["weights"] for tensor in report["tensors"])
    return {**_sizes(report["finetuned_bytes"], report["bytes"], weights), "weights": weights, **report}


def methods() -> list[dict[str, str]]:
    """All methods: name, paper, one line of summary, and the plan, whose every `key=value` is an option."""
    return [dict(zip(("name", "paper", "summary", "plan"), row, strict=True)) for row in _delta_dct.methods()]


def _sizes(before: int, after: int, weights: int) -> dict[str, float | None]:
    return {"ratio": before / max(after, 1), "bpw": 8 * after / weights if weights else None}


def _patterns(patterns: Iterable[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)
