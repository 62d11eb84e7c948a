"""Many fine-tuned models to deltas, resumable: on the machines of an indexed job, and in `delta_dct.ray` on a Ray cluster.

    python -m delta_dct.catalog models.jsonl deltas/                  # here, one after another
    python -m delta_dct.catalog models.jsonl deltas/ --shard 3/16     # the fourth of sixteen jobs
    python -m delta_dct.catalog models.jsonl s3://bucket/deltas --ray

A manifest has a JSON object a line: `base` and `finetuned` (paths, or ids on the hub), if wanted `name`, and the options of
`delta_dct.compress`:

    {"base": "org/base", "finetuned": "org/tuned-a"}
    {"base": "org/base", "finetuned": "runs/b", "name": "team/b", "ratio": 300}

Paths are relative to the manifest. Each model gives `OUT/NAME.ddct`, and `OUT/ledger/NAME.json` as soon as that is written:
what was asked for, and how it ended. What the ledger says is done is not done again. `OUT` is a folder or any URL of fsspec.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

try:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem
except ImportError as missing:
    raise ImportError("delta_dct.catalog needs fsspec: install delta-dct[catalog]") from missing

from .errors import DeltaError, InvalidArgumentError, IoError
from .files import compress
from .tensors import Checkpoint

#: How a model ended: the fields of its file in the ledger.
Record = dict[str, Any]
#: Called with each record as it comes, how many there are, and how many there will be.
Watcher = Callable[[Record, int, int], object]


@dataclass(frozen=True)
class Entry:
    """A line of a manifest: a model to compress."""

    name: str
    base: str
    finetuned: str
    options: dict[str, Any] = field(default_factory=dict)


def read_manifest(path: str | PathLike[str]) -> list[Entry]:
    """The lines of a manifest, sorted by base. Raises IoError, InvalidArgumentError (with the number of the line)."""
    place = Path(fspath(path))
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IoError(f"cannot read the manifest: {error}") from error
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _entry(json.loads(line), place.absolute().parent)
        except ValueError as error:
            raise InvalidArgumentError(f"{place}, line {number}: {error}") from error
        if entry.name in entries:
            raise InvalidArgumentError(f'{place}, line {number}: a second {entry.name}: give it another "name"')
        entries[entry.name] = entry
    return sorted(entries.values(), key=lambda entry: entry.base)


def _entry(line: Any, folder: Path) -> Entry:
    if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in ("base", "finetuned")):
        raise InvalidArgumentError('a line is a JSON object with the strings "base" and "finetuned"')
    options = {key: value for key, value in line.items() if key not in ("name", "base", "finetuned")}
    refused = {"path", "overwrite", "dry_run", "layers", "progress"} & set(options)
    if refused:
        raise InvalidArgumentError(f"{sorted(refused)[0]!r} is not for a manifest to say")
    name = line.get("name", _name(line["finetuned"]))
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or parts[0] in ("/", "ledger") or ".." in parts:
        raise InvalidArgumentError(f'{name!r} is no name for a file under the output: give another "name"')
    return Entry(name, _place(line["base"], folder), _place(line["finetuned"], folder), options)


def _name(finetuned: str) -> str:
    """`org/name` of an id on the hub, the last part of a path."""
    place = PurePosixPath(finetuned.removeprefix("hf://").partition("@")[0])
    return str(place) if len(place.parts) == 2 and place.parts[0] not in ("/", "..") else place.name


def _place(place: str, folder: Path) -> str:
    """A path that is there, from the manifest's folder; everything else is for the hub to find."""
    return str(folder / place) if (folder / place).exists() else place


def part(entries: list[Entry], index: int, count: int) -> list[Entry]:
    """The part `index` (from 0) of `count`: neighbours, because those share a base."""
    if not 0 <= index < count:
        raise InvalidArgumentError(f"shard {index}/{count}: there are 0/{count} to {count - 1}/{count}")
    return entries[len(entries) * index // count : len(entries) * (index + 1) // count]


class Ledger:
    """What has been done: a small file for each model beside the deltas."""

    def __init__(self, out: str | PathLike[str]) -> None:
        """Opens `out`, a folder or a URL of fsspec. Raises IoError if it cannot be reached."""
        try:
            self.fs, self.root = fsspec.core.url_to_fs(fspath(out))
            self.fs.makedirs(self.root, exist_ok=True)
        except (OSError, ImportError, ValueError) as error:
            raise IoError(f"cannot write to {out}: {error}") from error

    @property
    def url(self) -> str:
        """The output as other processes find it."""
        return str(self.fs.unstrip_protocol(self.root))

    def delta(self, name: str) -> str:
        """Where the delta of a model is, as the filesystem calls it."""
        return f"{self.root}/{name}.ddct"

    def _page(self, name: str) -> str:
        return f"{self.root}/ledger/{name}.json"

    def records(self, names: Iterable[str]) -> dict[str, Record]:
        """What is known of these models. Pages that are not whole count as not written."""
        pages = {self._page(name): name for name in names}
        there = [page for page in self.fs.find(f"{self.root}/ledger") if page in pages]
        found = {}
        for page, content in (self.fs.cat(there, on_error="omit") if there else {}).items():
            try:
                found[pages[page]] = json.loads(content)
            except ValueError:
                continue
        return found

    def write(self, entry: Entry, outcome: Record) -> Record:
        """Puts what came of a model into the ledger; gives the record."""
        record = {**asdict(entry), **outcome}
        page = self._page(entry.name)
        self.fs.makedirs(self.fs._parent(page), exist_ok=True)
        self.fs.pipe_file(page, json.dumps(record, indent=1).encode())
        return record

    def pending(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that are not done, or whose delta is not there, or of which something else is asked for now."""
        entries = list(entries)
        self.fs.invalidate_cache()
        known = self.records(entry.name for entry in entries)
        sizes = {path: about["size"] for path, about in self.fs.find(self.root, detail=True).items()}

        def done(entry: Entry) -> bool:
            record = known.get(entry.name, {})
            asked = all(record.get(key) == value for key, value in asdict(entry).items())
            return asked and record.get("status") == "done" and sizes.get(self.delta(entry.name)) == record["bytes"]

        return [entry for entry in entries if not done(entry)]


def run(entry: Entry, out: str | PathLike[str]) -> Record:
    """Compresses one model to `out`, and writes its record; gives it. A model that fails is a record, too."""
    start = perf_counter()
    ledger = Ledger(out)
    try:
        report = _compress(entry, ledger)
        keys = {"bytes": "output_bytes", "finetuned_bytes": "finetuned_bytes", "ratio": "ratio", "notes": "notes"}
        outcome = {"status": "done", **{key: report[field] for key, field in keys.items()}}
    except Exception as error:
        outcome = failure(error)
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return ledger.write(entry, {**outcome, "seconds": perf_counter() - start, "worker": worker})


def failure(error: Exception) -> Record:
    """What a record says of an error."""
    return {"status": "failed", "error": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=1)
def _base(place: str) -> Checkpoint:
    """The base, open: neighbours in a manifest have the same."""
    return Checkpoint.open(place)


def _compress(entry: Entry, ledger: Ledger) -> dict[str, Any]:
    base = _base(entry.base)
    target = ledger.delta(entry.name)
    ledger.fs.makedirs(ledger.fs._parent(target), exist_ok=True)
    if isinstance(ledger.fs, LocalFileSystem):
        return compress(base, entry.finetuned, target, overwrite=True, **entry.options)
    with TemporaryDirectory() as folder:
        path = f"{folder}/delta.ddct"
        report = compress(base, entry.finetuned, path, **entry.options)
        ledger.fs.put_file(path, target)
    return report


def summary(entries: list[Entry], records: list[Record]) -> dict[str, Any]:
    """`done` and `skipped` (counts), and `failed` (records, in the order of `entries`), given the records of those that were pending."""
    place = {entry.name: i for i, entry in enumerate(entries)}
    failed = sorted((r for r in records if r["status"] != "done"), key=lambda record: place[record["name"]])
    return {"done": len(records) - len(failed), "skipped": len(entries) - len(records), "failed": failed}


def compress_catalog(
    manifest: str | PathLike[str],
    out: str | PathLike[str],
    *,
    shard: tuple[int, int] = (0, 1),
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Compresses the models of a manifest, or the shard (index, count) of them, one after another.

    Gives `done` and `skipped`, how many models were compressed now and before, and `failed`, the records of those that
    failed. Raises IoError, InvalidArgumentError (the manifest, or `out`).
    """
    entries = part(read_manifest(manifest), *shard)
    pending = Ledger(out).pending(entries)
    records: list[Record] = []
    for entry in pending:
        records.append(run(entry, out))
        if watcher:
            watcher(records[-1], len(records), len(pending))
    return summary(entries, records)


def tell(record: Record, count: int, total: int) -> None:
    """A line about a model on standard error."""
    good = record["status"] == "done"
    outcome = f"{record['bytes']:,} bytes, {record['ratio']:.1f}x" if good else record["error"]
    print(f"{count}/{total} {record['name']}: {outcome}", file=sys.stderr, flush=True)


def _shard(text: str) -> tuple[int, int]:
    index, count = map(int, text.split("/"))
    return index, count


def main(arguments: list[str] | None = None) -> int:
    """The command; gives its exit code: 0, or 1 where a model failed, or 2 or 3 where nothing could begin."""
    parser = argparse.ArgumentParser(
        "python -m delta_dct.catalog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", help="a model a line, as JSON")
    parser.add_argument("out", help="folder or URL for the deltas and their ledger")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--shard", type=_shard, default=(0, 1), metavar="I/N", help="just the part I (from 0) of N")
    where.add_argument("--ray", action="store_true", help="on the Ray cluster of this machine, or of RAY_ADDRESS")
    wishes = parser.parse_args(arguments)
    try:
        if wishes.ray:
            from . import ray

            report = ray.compress_catalog(wishes.manifest, wishes.out, watcher=tell)
        else:
            report = compress_catalog(wishes.manifest, wishes.out, shard=wishes.shard, watcher=tell)
    except (DeltaError, ImportError) as error:
        print(f"delta_dct.catalog: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidArgumentError) else 3
    except KeyboardInterrupt:
        print("delta_dct.catalog: interrupted: the same command again goes on from here", file=sys.stderr)
        return 130
    failed = [record["name"] for record in report["failed"]]
    print(f"{report['done']} done, {report['skipped']} done before, {len(failed)} failed" + ": " * bool(failed) + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
