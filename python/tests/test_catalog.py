"""Many models by a manifest: in shards, on a Ray cluster, and again after a failure."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import delta_dct
import pytest

pytest.importorskip("fsspec")

from delta_dct import catalog  # noqa: E402


@pytest.fixture
def manifest(base, finetuned, tmp_path):
    """Writes a manifest with lines for the demo pair; gives its path."""

    def write(*lines):
        path = tmp_path / "models.jsonl"
        pair = {"base": str(base), "finetuned": str(finetuned)}
        path.write_text("".join(json.dumps(pair | line) + "\n" for line in lines))
        return path

    return write


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_model_that_fails_does_not_stop_the_others_and_done_is_done(manifest, delta, tmp_path):
    out = tmp_path / "out"
    lines = {"name": "good"}, {"name": "bad", "block": "wide"}, {"name": "team/zero", "method": "zero"}
    path = manifest(*lines)
    report = catalog.compress_catalog(path, str(out))
    assert (report["done"], report["skipped"]) == (2, 0)
    (failed,) = report["failed"]
    assert failed["name"] == "bad" and "InvalidArgumentError" in failed["error"]
    assert (out / "good.ddct").read_bytes() == delta.read_bytes()
    assert json.loads((out / "ledger/team/zero.json").read_text())["bytes"] == (out / "team/zero.ddct").stat().st_size
    assert not (out / "bad.ddct").exists()

    before = times(out)
    assert catalog.compress_catalog(path, str(out))["skipped"] == 2
    changed = {name for name, time_of in times(out).items() if time_of != before[name]}
    assert changed == {"bad.json"}


def test_what_has_changed_or_gone_is_made_again(manifest, tmp_path):
    out = tmp_path / "out"
    lines = [{"name": name, "method": "zero"} for name in "abcd"]
    catalog.compress_catalog(manifest(*lines), str(out))
    (out / "a.ddct").unlink()
    (out / "ledger/b.json").write_text("{")
    lines[2]["method"] = "bitdelta"
    pending = catalog.Ledger(str(out)).pending(catalog.read_manifest(manifest(*lines)))
    assert [entry.name for entry in pending] == ["a", "b", "c"]
    assert catalog.compress_catalog(manifest(*lines), str(out))["done"] == 3
    assert delta_dct.inspect(out / "c.ddct")["recipe"].startswith("bitdelta")


def test_shards_are_all_of_it_and_neighbours_share_a_base():
    entries = [catalog.Entry(str(i), "base", "finetuned") for i in range(10)]
    parts = [catalog.part(entries, i, 4) for i in range(4)]
    assert sum(parts, []) == entries
    assert {len(some) for some in parts} == {2, 3}
    with pytest.raises(delta_dct.InvalidArgumentError, match="0/4 to 3/4"):
        catalog.part(entries, 4, 4)


def test_the_command_tells_what_failed(manifest, tmp_path):
    path = manifest({"name": "good", "method": "zero"}, {"name": "bad", "finetuned": str(tmp_path / "nowhere")})

    def command(*words):
        line = [sys.executable, "-m", "delta_dct.catalog", path, tmp_path / "out", *words]
        return subprocess.run(line, capture_output=True, text=True)

    second = command("--shard", "1/2")
    assert second.returncode == 1
    assert second.stdout == "0 done, 0 done before, 1 failed: bad\n" and "nowhere" in second.stderr
    whole = command()
    assert whole.returncode == 1 and whole.stdout == "1 done, 0 done before, 1 failed: bad\n"
    assert command("--shard", "0/2").stdout == "0 done, 1 done before, 0 failed\n"
    assert command("--shard", "2/2").returncode == 2
    path.write_text("{}")
    assert command().returncode == 2
    path.unlink()
    assert command().returncode == 3


def test_any_url_of_fsspec_will_do(manifest, delta):
    import fsspec

    path = manifest({"name": "team/good"})
    assert catalog.compress_catalog(path, "memory://deltas")["done"] == 1
    assert fsspec.filesystem("memory").cat("/deltas/team/good.ddct") == delta.read_bytes()
    assert catalog.compress_catalog(path, "memory://deltas")["skipped"] == 1
    with pytest.raises(delta_dct.IoError, match="nonsense"):
        catalog.compress_catalog(path, "nonsense://deltas")


def test_names_and_places_of_a_manifest(tmp_path):
    (tmp_path / "runs/b").mkdir(parents=True)
    lines = [{"finetuned": "org/tuned@main"}, {"finetuned": "hf://org/other"}, {"finetuned": "runs/b"}, {"finetuned": "/x/y/z"}]
    path = tmp_path / "models.jsonl"
    path.write_text("\n".join(json.dumps({"base": "org/base"} | line) for line in lines) + "\n\n")
    entries = catalog.read_manifest(path)
    assert [entry.name for entry in entries] == ["org/tuned", "org/other", "runs/b", "z"]
    assert [entry.finetuned for entry in entries] == ["org/tuned@main", "hf://org/other", str(tmp_path / "runs/b"), "/x/y/z"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[]", "JSON object"),
        ('{"base": "b"}', '"finetuned"'),
        ('{"base": "b", "finetuned": "f", "name": "../x"}', "is no name"),
        ('{"base": "b", "finetuned": "f", "overwrite": true}', "'overwrite'"),
        ("{", "line 2"),
        ('{"base": "b", "finetuned": "elsewhere/good"}', "a second elsewhere/good"),
    ],
)
def test_a_line_that_makes_no_sense_is_told(tmp_path, line, complaint):
    path = tmp_path / "models.jsonl"
    path.write_text('{"base": "b", "finetuned": "elsewhere/good"}\n' + line)
    with pytest.raises(delta_dct.InvalidArgumentError, match=complaint) as caught:
        catalog.read_manifest(path)
    assert "line 2" in str(caught.value)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes, with a processor each."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


def kill_a_worker(out):
    """Kills a process while it runs a task, once the ledger has a first record."""
    import psutil

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(out.glob("ledger/*.json")):
            for process in psutil.process_iter(["cmdline"]):
                if "ray::_run" in " ".join(process.info["cmdline"] or []):
                    # It must not finish between the look and the kill.
                    process.suspend()
                    if "ray::_run" in " ".join(process.cmdline()):
                        return process.kill()
                    process.resume()
        time.sleep(0.01)
    raise AssertionError("no task ran")


@pytest.mark.parametrize("retries", [3, 0])
def test_ray_finishes_though_a_worker_is_killed(cluster, large, manifest, delta, tmp_path, retries):
    import delta_dct.ray

    out = tmp_path / "out"
    slow = {"base": str(large[0]), "finetuned": str(large[1]), "method": "lowrank"}
    lines = [slow | {"name": f"slow-{i}", "rank": 32 + i} for i in range(4)]
    # Last of all, so that it is not what runs when the worker is killed.
    bad = slow | {"name": "bad", "block": "wide"}
    path = manifest(*lines, {"name": "demo"}, bad)
    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_a_worker, out)
        report = delta_dct.ray.compress_catalog(path, str(out), max_retries=retries)
        killed.result()
    names = [entry.name for entry in catalog.read_manifest(path)]
    records = catalog.Ledger(str(out)).records(names)
    assert report["failed"] == [records[name] for name in names if records[name]["status"] == "failed"]
    lost = [record for record in report["failed"] if "WorkerCrashedError" in record["error"]]
    assert len(lost) == (retries == 0)
    assert report["done"] == 5 - len(lost)

    good = manifest(*lines, {"name": "demo"})
    assert delta_dct.ray.compress_catalog(good, str(out)) == {"done": len(lost), "skipped": 5 - len(lost), "failed": []}
    assert (out / "demo.ddct").read_bytes() == delta.read_bytes()
    for line in lines:
        assert delta_dct.verify(out / f"{line['name']}.ddct", large[0])["decoded"]
    before = times(out)
    assert delta_dct.ray.compress_catalog(good, str(out)) == {"done": 0, "skipped": 5, "failed": []}
    assert times(out) == before
