"""Tensors by name, each read or decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypeAlias

from . import _delta_dct, arrays, places
from .errors import InvalidArgumentError

#: What the values are: NumPy arrays or PyTorch tensors.
Framework = Literal["np", "pt"]


class Tensors(Mapping[str, Any]):
    """Tensors by name, in the order of their names."""

    def __init__(self, handle: _delta_dct.Checkpoint | _delta_dct.Archive, framework: Framework) -> None:
        self.handle: Any = handle
        self.framework = framework
        self._names = dict.fromkeys(handle.names())

    def __getitem__(self, name: str) -> Any:
        """The tensor, in memory of its own. Raises KeyError if there is no such tensor."""
        if name not in self._names:
            raise KeyError(name)
        dtype, shape = self.handle.tensor(name)
        array = arrays.empty(self.framework, name, dtype, shape)
        self.read_into([(name, arrays.memory(array))])
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def tensor(self, name: str) -> tuple[str, list[int]]:
        """Dtype, as safetensors writes it, and shape; nothing is decoded."""
        dtype, shape = self.handle.tensor(name)
        return dtype, shape

    def pairs(self, base: Checkpoint) -> dict[str, str]:
        """The name of the base tensor of the same shape for each tensor that has one."""
        found: dict[str, str] = self.handle.pairs(base.handle)
        return found

    def read_into(self, buffers: list[tuple[str, Any]]) -> None:
        """Fills writable, contiguous buffers of bytes with the tensors of the names beside them, several at a time."""
        self.handle.read_into(buffers)


class Checkpoint(Tensors):
    """The tensors of a checkpoint, on disk or in memory."""

    @classmethod
    def open(cls, place: Base, framework: Framework = "np") -> Checkpoint:
        """Opens a folder, a file, a model on the Hugging Face hub (`org/name`, `org/name@revision`), or a mapping from name
        to array or tensor, such as a state dict: that is copied, and tensors that share their memory are tied."""
        if isinstance(place, Checkpoint):
            return place if place.framework == framework else cls(place.handle, framework)
        if isinstance(place, Mapping):
            tensors = [(name, *arrays.contiguous(name, array)) for name, array in place.items()]
            return cls(_delta_dct.Checkpoint.in_memory(tensors), framework)
        return cls(_delta_dct.Checkpoint(places.checkpoint(place)), framework)

    @property
    def path(self) -> Path:
        """Where it lies on this machine; what is in memory lies nowhere."""
        return Path(self.handle.path)


#: A model: a path, an id on the hub, a checkpoint that is open already, or arrays or tensors by name.
Base: TypeAlias = str | PathLike[str] | Checkpoint | Mapping[str, Any]


class Delta(Tensors):
    """The tensors of the fine-tuned model that a `.ddct` file makes of its base."""

    def __init__(self, handle: _delta_dct.Archive, path: str, base: Checkpoint | None, framework: Framework) -> None:
        super().__init__(handle, framework)
        self.path = path
        self._base = base

    @classmethod
    def open(
        cls,
        place: str | PathLike[str] | Delta,
        base: Base | None = None,
        framework: Framework = "np",
        *,
        layer: str | PathLike[str] | None = None,
    ) -> Delta:
        """Opens a `.ddct` file, here or on the hub (`org/name/file.ddct`); values need `base`.

        The first layer of an enhancement (`x.exact.ddct`) lies beside it, or is `layer`.
        Raises IoError, CorruptError, TruncatedError, UnsupportedError (a newer format), MismatchError (another first layer).
        """
        checkpoint = None if base is None else Checkpoint.open(base)
        if isinstance(place, Delta):
            return cls(place.handle, place.path, checkpoint or place._base, framework)
        path = places.delta(place)
        below = None if layer is None else places.delta(layer)
        return cls(_delta_dct.Archive(path, below), path, checkpoint, framework)

    @property
    def base(self) -> Checkpoint:
        """The base. Raises InvalidArgumentError if the delta was opened without one."""
        if self._base is None:
            raise InvalidArgumentError(f"{self.path} needs its base: give it as base=")
        return self._base

    def read_into(self, buffers: list[tuple[str, Any]]) -> None:
        self.handle.read_into(self.base.handle, buffers)

    def check_base(self) -> None:
        """Reads all of the base that the file depends on. Raises MismatchError if it is another model."""
        self.handle.check_base(self.base.handle)

    def write_files(self, folder: str | PathLike[str]) -> list[str]:
        """Writes the files that travel along (config, tokenizer) into `folder`; gives their names."""
        names: list[str] = self.handle.files()
        for name in names:
            path = Path(fspath(folder), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.handle.file(self.base.handle, name))
        return names


def archive(place: str | PathLike[str] | Delta) -> _delta_dct.Archive:
    """The open file at `place`."""
    handle: _delta_dct.Archive = Delta.open(place).handle
    return handle


def iter_tensors(
    base: Base, delta: str | PathLike[str] | Delta, *, framework: Framework = "pt", changed_only: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yields `(name, tensor)` one by one, as `load_weights` of vLLM and others of its kind take them.

    With `changed_only`, tensors that are those of the base are left out: a patch for a model that has the base loaded.
    Raises MismatchError before the first tensor if the base is another model.
    """
    opened = Delta.open(delta, base, framework)
    opened.check_base()
    unchanged = opened.handle.unchanged() if changed_only else ()
    for name in opened:
        if name not in unchanged:
            yield name, opened[name]
