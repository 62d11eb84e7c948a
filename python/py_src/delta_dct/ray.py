"""Many fine-tuned models to deltas on a Ray cluster; `delta_dct.catalog` describes manifest and ledger.

    import delta_dct.ray

    report = delta_dct.ray.compress_catalog("models.jsonl", "s3://bucket/deltas")
    report["failed"]

Every model is a task of Ray, which places it, and repeats it where its worker or node has died. All nodes need this package,
and see the paths of the manifest. What they fetch from the hub they fetch once a node, and workers map the base into memory, so
that a node holds it once.
"""

from __future__ import annotations

import os
from os import PathLike
from typing import Any

try:
    import ray
except ImportError as missing:
    raise ImportError("delta_dct.ray needs Ray: install delta-dct[ray]") from missing

from . import catalog
from .errors import IoError


def compress_catalog(
    manifest: str | PathLike[str],
    out: str | PathLike[str],
    *,
    cpus: int = 1,
    watcher: catalog.Watcher | None = None,
    **task_options: Any,
) -> dict[str, Any]:
    """Compresses the models of a manifest to `out` with `cpus` processors for each; what the ledger has stays as it is.

    Runs on the cluster that Ray is connected to, or else the one of RAY_ADDRESS or of this machine. `task_options` are those of a
    Ray task, such as `max_retries=10` or `resources={...}`. `watcher` is called with each record, how many there are, and how many
    there will be.

    Gives `done` and `skipped`, how many models were compressed now and before, and `failed`, the records of those that
    failed. Raises IoError (no cluster, too), InvalidArgumentError (the manifest, or `out`).
    """
    entries = catalog.read_manifest(manifest)
    ledger = catalog.Ledger(out)
    _connect()
    task = ray.remote(_run).options(num_cpus=cpus, **task_options)
    running = {task.remote(entry, ledger.url, cpus): entry for entry in ledger.pending(entries)}
    total = len(running)
    records: list[catalog.Record] = []
    while running:
        (ready,), _ = ray.wait(list(running))
        entry = running.pop(ready)
        try:
            record = ray.get(ready)
        except ray.exceptions.RayError as error:
            record = ledger.write(entry, catalog.failure(error))
        records.append(record)
        if watcher:
            watcher(record, len(records), total)
    return catalog.summary(entries, records)


def _connect() -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(address="auto")
    except ConnectionError as error:
        raise IoError(f"there is no Ray cluster: start one, or set RAY_ADDRESS ({error})") from error


def _run(entry: catalog.Entry, out: str, cpus: int) -> catalog.Record:
    os.environ["RAYON_NUM_THREADS"] = str(cpus)
    return catalog.run(entry, out)
