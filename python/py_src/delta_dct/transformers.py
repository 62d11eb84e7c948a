"""Models of `transformers` from their base and a delta.

    from delta_dct.transformers import from_pretrained, swap

    model = from_pretrained("base/", "sst2.ddct")
    seconds = swap(model, "other.ddct", base="base/")
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
import transformers
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from . import arrays
from .errors import InvalidArgumentError, MismatchError
from .tensors import Base, Checkpoint, Delta

_AnyDelta = str | PathLike[str] | Delta


class _LazyTensor:
    """A tensor of a delta as `transformers` takes tensors of safetensors files: decoded when it is sliced."""

    def __init__(self, delta: Delta, name: str) -> None:
        self._delta, self._name = delta, name
        self._dtype, self._shape = delta.tensor(name)

    def __getitem__(self, index: Any) -> torch.Tensor:
        tensor: torch.Tensor = self._delta[self._name][index]
        return tensor

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = arrays.torch_dtype(self._name, self._dtype)
        return found

    def is_floating_point(self) -> bool:
        return bool(self.dtype.is_floating_point)

    def get_dtype(self) -> str:
        return self._dtype

    def get_shape(self) -> list[int]:
        return self._shape


def from_pretrained(base: Base, delta: _AnyDelta, auto_class: Any = None, **options: Any) -> Any:
    """The fine-tuned model, ready for use; tensors are decoded one by one into their place.

    `auto_class` is a class of `transformers` such as `AutoModelForCausalLM`; without it, it is the class that the model's
    config names. `options` go to its `from_pretrained`. The config is the one in the delta, else that of the base.

    Raises MismatchError (a wrong base), InvalidArgumentError (no config), CorruptError, IoError.
    """
    opened = Delta.open(delta, base, "pt")
    opened.check_base()
    with files_of(opened) as folder:
        config = options.pop("config", None) or read_config([folder, opened.base.path], **options)
        chosen = _concrete(auto_class, config, **options) if auto_class else class_of(config)
        weights = {name: _LazyTensor(opened, name) for name in opened}
        model = chosen.from_pretrained(None, config=config, state_dict=weights, **options)
        if model.can_generate() and (folder / "generation_config.json").exists():
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model


def swap(model: torch.nn.Module, delta: _AnyDelta, base: Base | None = None) -> float:
    """Turns `model`, another fine-tuned model of the same base, into the one of `delta`; gives the seconds it took.

    Weights are decoded straight into those of the model; on another device or in another dtype they are copied there.
    Base and model are checked before anything is written. Where the call fails or is interrupted after that, the model is
    a mixture: call it again.

    Raises MismatchError (a wrong base, or a model of other tensors), CorruptError, IoError.
    """
    start = perf_counter()
    opened = Delta.open(delta, base, "pt")
    opened.check_base()
    direct: list[tuple[str, torch.Tensor]] = []
    others: list[tuple[str, torch.Tensor]] = []
    for name, tensor in _places(model, opened).items():
        dtype = arrays.torch_dtype(name, opened.tensor(name)[0])
        in_place = tensor.device.type == "cpu" and tensor.dtype == dtype and tensor.is_contiguous()
        (direct if in_place else others).append((name, tensor))
    opened.read_into([(name, arrays.memory(tensor)) for name, tensor in direct])
    for name, tensor in others:
        tensor.copy_(opened[name])
    return perf_counter() - start


@contextmanager
def files_of(model: Delta | Checkpoint) -> Iterator[Path]:
    """A folder with the files that lie beside a model's weights."""
    if isinstance(model, Checkpoint):
        yield model.path
        return
    with TemporaryDirectory() as folder:
        model.write_files(folder)
        yield Path(folder)


def read_config(folders: list[Path], trust_remote_code: bool | None = None, **_: Any) -> Any:
    """The config in the first of the folders that has one. Raises InvalidArgumentError if none has."""
    folder = next((folder for folder in folders if (folder / "config.json").exists()), None)
    if folder is None:
        raise InvalidArgumentError("neither the fine-tuned model nor its base has a config.json: give config=")
    return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def class_of(config: Any) -> Any:
    """The class of transformers that a config names. Raises InvalidArgumentError if it names none."""
    names = config.architectures or []
    found = next((found for name in names if (found := getattr(transformers, name, None))), None)
    if found is None:
        raise InvalidArgumentError(f"the config names no class of transformers ({names}): give auto_class=")
    return found


def _concrete(auto_class: Any, config: Any, trust_remote_code: bool | None = None, **_: Any) -> Any:
    """The class that an Auto class stands for: Auto classes want the name of a model, and take no weights."""
    if not hasattr(auto_class, "from_config"):
        return auto_class
    with torch.device("meta"):
        return type(auto_class.from_config(deepcopy(config), trust_remote_code=trust_remote_code))


def names_in(model: torch.nn.Module, names: Iterable[str]) -> dict[str, str]:
    """What the model calls those of the tensors that it has, by the rules by which transformers loads checkpoints.

    A tensor that becomes a part of a larger one has the name of that.
    """
    weights = model.state_dict()
    if not isinstance(model, transformers.PreTrainedModel):
        return {name: name for name in names if name in weights}
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    found = {}
    for name in names:
        renamed, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, weights)
        if renamed not in weights:
            renamed, _ = rename_source_key(name, [], [], model.base_model_prefix, weights)
        if renamed in weights:
            found[name] = renamed
    return found


def _places(model: torch.nn.Module, delta: Delta) -> dict[str, torch.Tensor]:
    """The tensor of the model for each tensor of the delta that has one; of tied tensors the first."""
    weights = model.state_dict()
    places: dict[str, torch.Tensor] = {}
    filled = set()
    for name, own_name in names_in(model, delta).items():
        tensor, shape = weights[own_name], delta.tensor(name)[1]
        if list(tensor.shape) != shape:
            raise MismatchError(f"tensor {name}: {shape} in the delta, {list(tensor.shape)} in the model", name)
        if _memory(tensor) not in filled:
            places[name] = tensor
        filled.add(_memory(tensor))
    missing = next((name for name, tensor in weights.items() if _memory(tensor) not in filled), None)
    if missing is not None:
        raise MismatchError(f"tensor {missing} of the model is not in {delta.path}", missing)
    return places


def _memory(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What tied tensors have in common."""
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.dtype

