"""Errors have a class for each kind, one line of text, and leave nothing behind."""

import builtins

import delta_dct
import pytest


def test_all_are_delta_errors():
    names = ["Corrupt", "Truncated", "Unsupported", "Limit", "Mismatch", "InvalidArgument", "Io"]
    for name in names:
        assert issubclass(getattr(delta_dct, f"{name}Error"), delta_dct.DeltaError)
    assert issubclass(delta_dct.Interrupted, delta_dct.DeltaError)
    assert issubclass(delta_dct.IoError, builtins.OSError)
    assert issubclass(delta_dct.InvalidArgumentError, builtins.ValueError)


def test_io(base, finetuned, delta, tmp_path):
    with pytest.raises(delta_dct.IoError, match="no-such-file"):
        delta_dct.inspect(tmp_path / "no-such-file.ddct")
    with pytest.raises(delta_dct.IoError, match="no-such-base"):
        delta_dct.compress(tmp_path / "no-such-base", finetuned, tmp_path / "x.ddct")
    with pytest.raises(delta_dct.IoError, match="exists already"):
        delta_dct.compress(base, finetuned, delta)


def test_damage(delta, tmp_path):
    content = delta.read_bytes()
    damaged = tmp_path / "damaged.ddct"
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises((delta_dct.TruncatedError, delta_dct.CorruptError), match="damaged.ddct"):
        delta_dct.Delta.open(damaged)
    damaged.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    with pytest.raises(delta_dct.CorruptError, match="damaged.ddct"):
        delta_dct.verify(damaged)


def test_a_newer_format(delta, tmp_path):
    newer = tmp_path / "newer.ddct"
    newer.write_bytes(delta.read_bytes().replace(b'"format_version":"1"', b'"format_version":"9"', 1))
    with pytest.raises(delta_dct.UnsupportedError, match="version 9"):
        delta_dct.Delta.open(newer)


def test_wishes_that_make_no_sense(base, finetuned, delta, tmp_path):
    for wish in ({"method": "nonsense"}, {"nonsense": 3}, {"block": "wide"}, {"rules": {"[": "zero"}}):
        with pytest.raises(delta_dct.InvalidArgumentError):
            delta_dct.compress(base, finetuned, tmp_path / "x.ddct", **wish)
    with pytest.raises(delta_dct.InvalidArgumentError, match="base="):
        next(iter(delta_dct.Delta.open(delta).values()))
    with pytest.raises(delta_dct.InvalidArgumentError, match="nonsense"):
        next(iter(delta_dct.Delta.open(delta, base, "nonsense").values()))
    assert list(tmp_path.iterdir()) == []


def test_models_that_do_not_belong_together(base, large, tmp_path):
    delta_dct.compress(*large, tmp_path / "large.ddct", "zero")
    with pytest.raises(delta_dct.MismatchError) as caught:
        delta_dct.apply(base, tmp_path / "large.ddct", tmp_path / "out")
    assert caught.value.tensor == "layer.0.weight"
    assert not (tmp_path / "out").exists()
    with pytest.raises(delta_dct.MismatchError):
        next(delta_dct.iter_tensors(base, tmp_path / "large.ddct", framework="np"))
