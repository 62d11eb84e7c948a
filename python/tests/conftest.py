"""Models for the tests: the demo pair of the repository, the pairs beside it, and made ones."""

import json
import os
import struct
from pathlib import Path

import numpy
import pytest

import delta_dct

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def base() -> Path:
    return REPOSITORY / "demo/base"


@pytest.fixture(scope="session")
def finetuned() -> Path:
    return REPOSITORY / "demo/ft"


@pytest.fixture(scope="session")
def delta(base, finetuned, tmp_path_factory) -> Path:
    """The demo pair as a delta."""
    path = tmp_path_factory.mktemp("delta") / "demo.ddct"
    delta_dct.compress(base, finetuned, path)
    return path


@pytest.fixture(scope="session")
def restored(base, delta, tmp_path_factory) -> Path:
    """What the delta of the demo pair gives, as safetensors."""
    path = tmp_path_factory.mktemp("restored") / "model.safetensors"
    delta_dct.apply(base, delta, path)
    return path


@pytest.fixture(scope="session")
def llama() -> Path:
    """A pair of models in bf16."""
    path = SHARED / "pairs/llama-code"
    if not path.exists():
        assert "DELTA_DCT_REQUIRE_SHARED" not in os.environ, f"{path} is not there"
        pytest.skip(f"{path} is not there")
    return path


def write_safetensors(path: Path, arrays: dict[str, numpy.ndarray]) -> None:
    """Arrays of float32 as a safetensors file."""
    header, end = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values()))


def read_safetensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Dtype, shape and bytes of each tensor."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    data = content[8 + length :]
    return {
        name: (about["dtype"], about["shape"], data[slice(*about["data_offsets"])])
        for name, about in header.items()
        if name != "__metadata__"
    }


@pytest.fixture(scope="session")
def large(tmp_path_factory) -> tuple[Path, Path]:
    """A pair whose compression with `lowrank` takes a while."""
    folder = tmp_path_factory.mktemp("large")
    random = numpy.random.default_rng(0)
    weights = {f"layer.{i}.weight": random.standard_normal((1024, 1024), numpy.float32) for i in range(8)}
    write_safetensors(folder / "base.safetensors", weights)
    changed = {k: v + 0.01 * random.standard_normal(v.shape, numpy.float32) for k, v in weights.items()}
    write_safetensors(folder / "finetuned.safetensors", changed)
    return folder / "base.safetensors", folder / "finetuned.safetensors"
