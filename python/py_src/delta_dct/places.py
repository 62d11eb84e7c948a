"""Where models and deltas are: paths, and ids on the Hugging Face hub."""

import re
from os import PathLike, fspath
from os.path import exists
from typing import Any

from .errors import InvalidArgumentError, IoError

#: `org/name`, `org/name@revision`, `org/name/file`, each with or without `hf://`.
_ID = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?:/([^@]+))?")
#: Files of weights; of a repository with several kinds, the first is taken.
_WEIGHTS = (".safetensors", ".bin")
_OTHER_WEIGHTS = (".bin", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".pt", ".pth", ".ddct", ".tflite")


def checkpoint(place: str | PathLike[str]) -> str:
    """The path of a model on this machine; what lies on the hub is fetched first. Raises IoError."""
    return _local(place, _model)


def delta(place: str | PathLike[str]) -> str:
    """The path of a `.ddct` file on this machine; what lies on the hub is fetched first. Raises IoError."""
    return _local(place, _delta_file)


def _local(place: str | PathLike[str], find: Any) -> str:
    """`place` itself where it exists or is no id; else what `find` makes of the id's parts."""
    path = fspath(place)
    found = None if exists(path) else _ID.fullmatch(path)
    if found is None:
        return path
    return _fetch(path, lambda hub: find(hub, *found.groups()))


def _fetch(place: str, get: Any) -> str:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        hint = "for a model on the hub install delta-dct[hub]"
        raise IoError(f"{place}: there is no such path here; {hint}") from None
    try:
        path: str = get(huggingface_hub)
        return path
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise IoError(f"{place}: there is no such path here, and the hub says: {reason}") from error


def _model(hub: Any, repo: str, revision: str | None, file: str | None) -> str:
    if file is not None:
        return str(hub.hf_hub_download(repo, file, revision=revision))
    if hub.is_offline_mode():
        return str(hub.snapshot_download(repo, revision=revision))
    info = hub.HfApi().model_info(repo, revision=revision)
    names = [file.rfilename for file in info.siblings if "/" not in file.rfilename]
    kind = next((kind for kind in _WEIGHTS if any(name.endswith(kind) for name in names)), None)
    wanted = [name for name in names if not name.endswith(_OTHER_WEIGHTS) or name.endswith(kind or "\0")]
    return str(hub.snapshot_download(repo, revision=info.sha, allow_patterns=wanted))


def _delta_file(hub: Any, repo: str, revision: str | None, file: str | None) -> str:
    if file is None:
        names = [name for name in hub.HfApi().list_repo_files(repo, revision=revision) if name.endswith(".ddct")]
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise InvalidArgumentError(f"{repo} does not have one .ddct file but {found}: name it, as in {repo}/FILE")
        file = names[0]
    return str(hub.hf_hub_download(repo, file, revision=revision))
