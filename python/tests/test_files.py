"""Compress, apply, verify, inspect: as the command does them."""

import json
import subprocess
import sys

import delta_dct
import numpy
import pytest


def command(*words) -> str:
    """Standard output of the command, which must succeed."""
    line = [sys.executable, "-m", "delta_dct", *map(str, words)]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ({}, []),
        ({"ratio": 100}, ["--ratio", "100"]),
        ({"method": "dct", "block": 16}, ["--method", "dct", "--block", "16"]),
        (
            {"method": "lowrank", "rank": 4, "rules": {"*key*": "zero"}, "exclude": "*query*"},
            ["--method", "lowrank", "--rank", "4", "--rule", "*key*=zero", "--exclude", "*query*"],
        ),
        ({"predecessor": True}, ["--predecessor"]),
    ],
)
def test_bytes_are_those_of_the_command(base, finetuned, tmp_path, python, words):
    ours, theirs = tmp_path / "ours.ddct", tmp_path / "theirs.ddct"
    report = delta_dct.compress(base, finetuned, ours, **python)
    told = json.loads(command("compress", "-b", base, "-f", finetuned, "-o", theirs, "--json", *words))
    assert ours.read_bytes() == theirs.read_bytes()
    for key in ("output_bytes", "finetuned_bytes", "ratio", "bpw", "weights", "tensors"):
        assert report[key] == told[key]


def test_apply_and_inspect_are_those_of_the_command(base, delta, tmp_path):
    report = delta_dct.apply(base, delta, tmp_path / "ours")
    told = json.loads(command("apply", "-b", base, delta, "-o", tmp_path / "theirs", "--json"))
    for key in ("tensors", "bytes", "files"):
        assert report[key] == told[key]
    for name in report["files"]:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    told = json.loads(command("inspect", delta, "--json"))
    files = {file["name"]: file["bytes"] for file in told["files"]}
    assert {"file": str(delta), **delta_dct.inspect(delta)} == {**told, "files": files}


def test_verify_decodes_where_it_has_the_base(base, finetuned, delta):
    assert not delta_dct.verify(delta)["decoded"]
    assert delta_dct.verify(delta, base)["decoded"]
    with pytest.raises(delta_dct.MismatchError, match="not the one that the file was made with") as caught:
        delta_dct.verify(delta, finetuned)
    assert caught.value.tensor


def test_a_dry_run_writes_nothing(base, finetuned, delta, tmp_path):
    report = delta_dct.compress(base, finetuned, tmp_path / "x.ddct", dry_run=True)
    assert report["output"] is None and report["output_bytes"] == delta.stat().st_size
    assert list(tmp_path.iterdir()) == []


def test_methods_have_their_options(base, finetuned, tmp_path):
    methods = {row["name"]: row for row in delta_dct.methods()}
    assert "rank=" in methods["lowrank"]["plan"]
    for name in methods:
        delta_dct.compress(base, finetuned, tmp_path / f"{name}.ddct", name, dry_run=True)


def test_the_command_is_there(delta):
    assert "delta-dct" in command("--version")
    unknown = subprocess.run([sys.executable, "-m", "delta_dct", "nonsense"], capture_output=True, text=True)
    assert unknown.returncode == 2 and "nonsense" in unknown.stderr
    missing = subprocess.run([sys.executable, "-m", "delta_dct", "inspect", "none.ddct"], capture_output=True)
    assert missing.returncode == 3


def test_models_in_memory_give_what_files_give(base, finetuned, delta, tmp_path):
    arrays = dict(delta_dct.Checkpoint.open(finetuned))
    report = delta_dct.compress(dict(delta_dct.Checkpoint.open(base)), arrays, tmp_path / "x.ddct")
    expected = delta_dct.Delta.open(delta, base)
    found = delta_dct.Delta.open(tmp_path / "x.ddct", base)
    assert report["finetuned_bytes"] == sum(array.nbytes for array in arrays.values())
    assert {name: array.tobytes() for name, array in found.items()} == {name: array.tobytes() for name, array in expected.items()}
    delta_dct.verify(tmp_path / "x.ddct", dict(delta_dct.Checkpoint.open(base)))


def test_arrays_of_any_layout_and_dtype(tmp_path):
    matrix = numpy.arange(6, dtype="float32").reshape(2, 3)
    odd = {"turned": matrix.T, "big": matrix.astype(">f4"), "tied": matrix, "again": matrix, "scalar": numpy.array(7), "none": matrix[:0]}
    report = delta_dct.compress(odd, odd, tmp_path / "x.ddct", "raw")
    assert {tensor["name"]: tensor["relation"] for tensor in report["tensors"]}["tied"] == "tied"
    found = dict(delta_dct.Delta.open(tmp_path / "x.ddct", odd))
    assert all(numpy.array_equal(found[name], array) and found[name].shape == array.shape for name, array in odd.items())
    with pytest.raises(delta_dct.UnsupportedError, match="complex128") as caught:
        delta_dct.compress({"a": matrix.astype(complex)}, odd, tmp_path / "y.ddct")
    assert caught.value.tensor == "a"


def test_layers_give_the_model_bit_for_bit(base, finetuned, tmp_path):
    first, second = tmp_path / "x.ddct", tmp_path / "x.exact.ddct"
    report = delta_dct.compress(base, finetuned, first, layers=True)
    assert (report["output_bytes"], report["enhancement"]["bytes"]) == (first.stat().st_size, second.stat().st_size)
    expected = delta_dct.Checkpoint.open(finetuned)

    def check(delta):
        found = delta_dct.Delta.open(delta, base)
        found.check_base()
        assert all(numpy.array_equal(found[name], expected[name]) for name in expected)

    check(second)
    assert delta_dct.verify(second, base)["decoded"]
    assert delta_dct.inspect(second)["layer"] == {"file": str(first), "bytes": first.stat().st_size}
    delta_dct.apply(base, second, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (finetuned / "model.safetensors").read_bytes()

    moved = first.rename(tmp_path / "moved.ddct")
    with pytest.raises(delta_dct.IoError, match="x.ddct"):
        delta_dct.Delta.open(second)
    check(delta_dct.Delta.open(second, layer=moved))
    with pytest.raises(delta_dct.MismatchError, match="not the first layer"):
        delta_dct.Delta.open(second, layer=second)
