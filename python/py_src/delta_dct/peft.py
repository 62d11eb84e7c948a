"""LoRA adapters of PEFT from a delta or a fine-tuned model.

    from delta_dct.peft import export_lora

    report = export_lora("base/", "sst2.ddct", "adapter/", rank=16)
    print(report["share"])     # what the adapter carries of the delta

The merged model as safetensors is what `delta_dct.apply` writes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, TaskType
from safetensors.torch import save_file

from .errors import IoError, MismatchError
from .files import inspect
from .tensors import Base, Checkpoint, Delta
from .transformers import class_of, files_of, names_in, read_config

#: Ends of the names of classes, and what PEFT calls their task.
_TASKS = {
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
    "ForQuestionAnswering": TaskType.QUESTION_ANS,
    "ForCausalLM": TaskType.CAUSAL_LM,
    "LMHeadModel": TaskType.CAUSAL_LM,
    "ForConditionalGeneration": TaskType.SEQ_2_SEQ_LM,
}
#: Modules that PEFT carries whole in those tasks, whether asked for or not.
_HEADS = ("classifier", "score", "qa_outputs")
_DEFAULT_RANK = 16
#: More directions than asked for, and rounds, that make the leading ones as good as exact.
_OVERSAMPLING, _ROUNDS = 8, 4


@dataclass
class _Adapter:
    """What goes into the adapter, and squared norms of the delta of each tensor and of what is left out of it."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    energy: dict[str, float] = field(default_factory=dict)
    rest: dict[str, float] = field(default_factory=dict)

    def share(self, names: list[str]) -> float:
        """What is carried of these tensors; 1 where they have not changed."""
        energy, rest = sum(self.energy[n] for n in names), sum(self.rest[n] for n in names)
        return 1 - rest / energy if energy else 1.0


def export_lora(
    base: Base,
    finetuned: Base | Delta,
    out: str | PathLike[str],
    rank: int | None = None,
    *,
    base_model: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the leading singular directions of the delta as a PEFT LoRA adapter to the folder `out`.

    `finetuned` is a `.ddct` file or a fine-tuned model. Linear layers get `rank` directions (without it, the rank of the
    file's recipe, or 16). Heads, and modules that the base does not have, go along whole. The rest, such as the changes of
    embeddings, norms and biases, stays behind. `base_model` is what the adapter calls its base: an id on the hub, or else
    the path.

    Gives `rank`, `bytes` (of the weights on disk), `share` (of the squared norm of the delta, over all tensors that the base
    has, what the adapter carries), `linear_share` (the same over the linear layers), `layers` (the share of each).

    Raises MismatchError (a wrong base, or nothing to adapt), InvalidArgumentError (no config), IoError.
    """
    folder = Path(fspath(out))
    if folder.exists() and not overwrite:
        raise IoError(f"cannot write {folder}: it exists already (overwrite=True replaces it)")
    original, tuned = Checkpoint.open(base, "pt"), _open(finetuned, base)
    rank = rank or _rank_of(tuned)
    with files_of(tuned) as files:
        config = read_config([files, original.path])
    with torch.device("meta"):
        model = class_of(config)(config)
    adapter = _adapter(model, original, tuned, rank)
    if not adapter.layers:
        raise MismatchError("no linear layer of the fine-tuned model has a counterpart in the base")
    lora = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=[layer.removesuffix(".weight") for layer in adapter.layers],
        modules_to_save=sorted(adapter.whole) or None,
        task_type=next((task for end, task in _TASKS.items() if type(model).__name__.endswith(end)), None),
        base_model_name_or_path=base_model or str(original.path),
        inference_mode=True,
        fan_in_fan_out=any(_is_transposed(module) for module in model.modules()),
    )
    size = _write(folder, lora, adapter.tensors)
    layers = {layer: adapter.share([layer]) for layer in adapter.layers}
    shares = {"share": adapter.share(list(adapter.energy)), "linear_share": adapter.share(adapter.layers)}
    return {"rank": rank, "bytes": size, **shares, "layers": layers}


def _open(finetuned: Base | Delta, base: Base) -> Delta | Checkpoint:
    if isinstance(finetuned, Delta) or (not isinstance(finetuned, Mapping) and fspath(finetuned).endswith(".ddct")):
        delta = Delta.open(finetuned, base, "pt")
        delta.check_base()
        return delta
    return Checkpoint.open(finetuned, "pt")


def _rank_of(tuned: Delta | Checkpoint) -> int:
    recipe = inspect(tuned)["recipe"] if isinstance(tuned, Delta) else ""
    found = re.search(r"^lowrank .*\brank=(\d+)", recipe)
    return int(found[1]) if found else _DEFAULT_RANK


def _adapter(model: torch.nn.Module, base: Checkpoint, tuned: Delta | Checkpoint, rank: int) -> _Adapter:
    """Goes through the tensors one by one; names in the adapter are those of the model."""
    modules = dict(model.named_modules())
    names = names_in(model, tuned)
    pairs = tuned.pairs(base)
    adapter = _Adapter()
    adapter.whole = {_module(name) for name in names.values() if _module(name) in _HEADS}
    adapter.whole |= {_module(name) for tensor, name in names.items() if tensor not in pairs}
    for tensor, name in names.items():
        value = tuned[tensor]
        if _module(name) in adapter.whole:
            adapter.tensors[f"base_model.model.{name}"] = value
        if tensor not in pairs or not value.is_floating_point():
            continue
        delta = value.float() - base[pairs[tensor]].float()
        left = torch.zeros(()) if _module(name) in adapter.whole else delta
        module = modules[_module(name)]
        if name.endswith(".weight") and _is_linear(module) and _module(name) not in adapter.whole:
            down, up = _factors(_out_by_in(delta, module), rank, value.dtype)
            adapter.layers.append(name)
            adapter.tensors[f"base_model.model.{_module(name)}.lora_A.weight"] = down
            adapter.tensors[f"base_model.model.{_module(name)}.lora_B.weight"] = up
            left = delta - _out_by_in(up.float() @ down.float(), module)
        adapter.energy[name], adapter.rest[name] = _square(delta), _square(left)
    return adapter


def _module(name: str) -> str:
    """The module of a tensor."""
    return name.rpartition(".")[0]


def _factors(delta: torch.Tensor, rank: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank x in) and B (out x rank) whose product B A is the delta (out x in) in its leading directions.

    Where the delta has fewer directions than `rank`, the rest is zeros.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, values, right = torch.svd_lowrank(delta, min(rank + _OVERSAMPLING, *delta.shape), _ROUNDS)
    root = values[:rank].sqrt()
    down, up = torch.zeros(rank, delta.shape[1]), torch.zeros(delta.shape[0], rank)
    down[: len(root)] = (right[:, :rank] * root).T
    up[:, : len(root)] = left[:, :rank] * root
    return down.to(dtype), up.to(dtype)


def _write(folder: Path, lora: LoraConfig, tensors: dict[str, torch.Tensor]) -> int:
    """Writes the adapter whole or not at all; gives the bytes of its weights."""
    with TemporaryDirectory(dir=folder.absolute().parent) as parent:
        finished = Path(parent, "adapter")
        lora.save_pretrained(finished)
        weights = finished / "adapter_model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, {"format": "pt"})
        size = weights.stat().st_size
        if folder.exists():
            rmtree(folder)
        finished.rename(folder)
    return size


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) or _is_transposed(module)


def _is_transposed(module: torch.nn.Module) -> bool:
    """Whether it is the layer of GPT-2, whose weight is in x out."""
    return type(module).__name__ == "Conv1D"


def _out_by_in(weight: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """The weight of a linear layer, or one of that form, as out x in; and back."""
    return weight.T if _is_transposed(module) else weight


def _square(tensor: torch.Tensor) -> float:
    return float(tensor.double().square().sum())
