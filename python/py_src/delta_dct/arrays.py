"""Memory for tensors: NumPy arrays and PyTorch tensors from the dtypes of safetensors."""

from typing import Any

from .errors import InvalidArgumentError, UnsupportedError

#: Dtypes of safetensors that NumPy has itself.
_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}

#: Those that the package `ml_dtypes` adds to it; PyTorch calls them the same.
_SMALL_FLOATS = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


def empty(framework: str, name: str, dtype: str, shape: list[int]) -> Any:
    """An uninitialised array of NumPy ("np") or tensor of PyTorch ("pt"). Raises UnsupportedError."""
    if framework == "pt":
        import torch

        return torch.empty(shape, dtype=torch_dtype(name, dtype))
    if framework != "np":
        raise InvalidArgumentError(f'framework {framework!r}: there are "np" (NumPy) and "pt" (PyTorch)')
    import numpy

    return numpy.empty(shape, dtype=_numpy_dtype(name, dtype))


def memory(array: Any) -> Any:
    """The bytes of a contiguous array or tensor as a flat, writable buffer on the same memory."""
    if type(array).__module__ == "numpy":
        return array.reshape(-1).view("uint8")
    import torch

    return array.detach().reshape(-1).view(torch.uint8).numpy()


def contiguous(name: str, array: Any) -> tuple[str, list[int], Any]:
    """Dtype, as safetensors writes it, shape, and bytes of an array or tensor; copied where they do not lie in order."""
    in_numpy, shape = type(array).__module__ == "numpy", list(array.shape)
    own_name = array.dtype.name if in_numpy else str(array.dtype).removeprefix("torch.")
    dtype = next((key for key, known in (_NUMPY | _SMALL_FLOATS).items() if known == own_name), None)
    if dtype is None:
        raise UnsupportedError(f"tensor {name}: safetensors has no dtype {own_name}", name)
    if in_numpy:
        import numpy

        return dtype, shape, memory(numpy.ascontiguousarray(array, array.dtype.newbyteorder("<")))
    return dtype, shape, memory(array.cpu().contiguous())


def torch_dtype(name: str, dtype: str) -> Any:
    """The dtype of PyTorch for tensor `name`."""
    import torch

    found = getattr(torch, _NUMPY.get(dtype) or _SMALL_FLOATS.get(dtype, ""), None)
    if found is None:
        raise UnsupportedError(f"tensor {name}: PyTorch has no dtype {dtype}", name)
    return found


def _numpy_dtype(name: str, dtype: str) -> Any:
    if dtype in _NUMPY:
        return _NUMPY[dtype]
    try:
        import ml_dtypes
    except ImportError:
        hint = 'install ml_dtypes, or open with framework="pt"'
        raise UnsupportedError(f"tensor {name}: NumPy has no dtype {dtype}: {hint}", name) from None
    found = getattr(ml_dtypes, _SMALL_FLOATS.get(dtype, ""), None)
    if found is None:
        raise UnsupportedError(f"tensor {name}: NumPy has no dtype {dtype}", name)
    return found
