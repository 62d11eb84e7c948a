"""Stores a fine-tuned model as a very small file against its base model, and gives the weights back.

    import delta_dct

    delta_dct.compress("base/", "finetuned/", "finetuned.ddct")
    delta_dct.apply("base/", "finetuned.ddct", "restored/")
    weights = delta_dct.Delta.open("finetuned.ddct", base="base/")   # name -> numpy array, decoded when asked for

Models ready to use are in `delta_dct.transformers`, LoRA adapters in `delta_dct.peft`, model cards in `delta_dct.card`,
exchange with the Hugging Face hub in `delta_dct.hub`.
"""

from ._delta_dct import __version__
from .errors import (
    CorruptError,
    DeltaError,
    Interrupted,
    InvalidArgumentError,
    IoError,
    LimitError,
    MismatchError,
    TruncatedError,
    UnsupportedError,
)
from .files import apply, compress, inspect, methods, verify
from .tensors import Checkpoint, Delta, iter_tensors

__all__ = [
    "Checkpoint",
    "CorruptError",
    "Delta",
    "DeltaError",
    "Interrupted",
    "InvalidArgumentError",
    "IoError",
    "LimitError",
    "MismatchError",
    "TruncatedError",
    "UnsupportedError",
    "__version__",
    "apply",
    "compress",
    "inspect",
    "iter_tensors",
    "methods",
    "verify",
]
