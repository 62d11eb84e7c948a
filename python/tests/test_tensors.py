"""Deltas and checkpoints as mappings from name to array."""

import subprocess
import sys

import delta_dct
import numpy
import pytest
from conftest import read_safetensors
from delta_dct import arrays


def test_values_are_those_that_apply_writes(base, delta, restored):
    expected = read_safetensors(restored)
    opened = delta_dct.Delta.open(delta, base=base)
    assert list(opened) == sorted(expected) and len(opened) == len(expected)
    for name, (dtype, shape, content) in expected.items():
        array = opened[name]
        assert opened.tensor(name) == (dtype, shape)
        assert isinstance(array, numpy.ndarray) and array.flags.writeable
        assert (list(array.shape), array.tobytes()) == (shape, content)
    assert "nonsense" not in opened
    with pytest.raises(KeyError):
        opened["nonsense"]


def test_a_checkpoint_reads_what_is_in_it(restored):
    opened = delta_dct.Checkpoint.open(restored)
    for name, (_, _, content) in read_safetensors(restored).items():
        assert opened[name].tobytes() == content


def test_the_iterator_gives_all_or_what_has_changed(base, finetuned, tmp_path):
    path = tmp_path / "x.ddct"
    delta_dct.compress(base, finetuned, path, include="*query.weight", method="zero", rules={"*bias": "zero"})
    everything = dict(delta_dct.iter_tensors(base, path, framework="np"))
    changed = dict(delta_dct.iter_tensors(base, path, framework="np", changed_only=True))
    original = delta_dct.Checkpoint.open(base)
    assert set(changed) < set(everything)
    left_out = set(everything) - set(changed)
    assert any(name.endswith("query.weight") for name in left_out)
    for name in left_out:
        assert everything[name].tobytes() == original[name].tobytes()


def test_several_are_read_at_once_into_memory_of_the_caller(base, delta):
    opened = delta_dct.Delta.open(delta, base)
    into = {name: numpy.zeros(opened.tensor(name)[1], numpy.float32) for name in opened}
    opened.read_into([(name, arrays.memory(array)) for name, array in into.items()])
    for name, array in into.items():
        assert array.tobytes() == opened[name].tobytes()


def test_memory_that_does_not_fit_is_refused(base, delta):
    opened = delta_dct.Delta.open(delta, base)
    name = next(iter(opened))
    bytes_of = opened[name].nbytes
    for length in (bytes_of - 1, bytes_of + 1):
        with pytest.raises(delta_dct.MismatchError, match="not its size") as caught:
            opened.read_into([(name, bytearray(length))])
        assert caught.value.tensor == name
    with pytest.raises(delta_dct.InvalidArgumentError, match="writable"):
        opened.read_into([(name, bytes(bytes_of))])
    with pytest.raises(TypeError):
        opened.read_into([(name, 3)])


def test_files_travel_along(base, finetuned, delta, tmp_path):
    names = delta_dct.Delta.open(delta, base).write_files(tmp_path)
    assert "config.json" in names
    for name in names:
        assert (tmp_path / name).read_bytes() == (finetuned / name).read_bytes()


def test_bf16_needs_a_dtype_that_numpy_lacks(llama, tmp_path):
    path = tmp_path / "llama.ddct"
    delta_dct.compress(llama / "base", llama / "ft", path)
    opened = delta_dct.Delta.open(path, llama / "base")
    name = "lm_head.weight"
    try:
        import ml_dtypes
    except ImportError:
        with pytest.raises(delta_dct.UnsupportedError, match="ml_dtypes"):
            opened[name]
    else:
        assert opened[name].dtype == ml_dtypes.bfloat16


def test_import_is_light():
    code = "import sys, delta_dct; print([m for m in ('numpy', 'torch', 'transformers') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
