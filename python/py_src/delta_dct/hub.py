"""Deltas on the Hugging Face hub: a repository with the `.ddct` file and its model card.

    from delta_dct.hub import pull, push

    push("sst2.ddct", "me/minilm-sst2", base_model="sentence-transformers/all-MiniLM-L6-v2")
    pull("me/minilm-sst2", "sst2.ddct")

Everything that takes a delta also takes the id itself. The hub's own settings apply: `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME`.
"""

import shutil
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi

from . import places
from .card import model_card
from .errors import IoError
from .tensors import Delta


def push(
    delta: str | PathLike[str], repo: str, base_model: str, *, private: bool | None = None, **card: Any
) -> str:
    """Puts a `.ddct` file and its model card into the repository `repo`, which is created if it is not there.

    `card` are the options of `delta_dct.card.model_card`, such as `figures={"accuracy": "87.2%"}`. Gives the id under which
    the file is found from now on. Errors of the hub are those of huggingface_hub.
    """
    path = Path(fspath(delta))
    text = model_card(Delta.open(path), base_model, repo=repo, **card)
    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    files: dict[str, Path | bytes] = {path.name: path, "README.md": text.encode()}
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    api.create_commit(repo, additions, commit_message=f"Add {path.name}")
    return f"{repo}/{path.name}"


def pull(place: str, out: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Fetches a delta of the hub (`org/name`, `org/name@revision`, `org/name/file.ddct`) to the file `out`.

    Raises IoError, InvalidArgumentError (several files and no name), CorruptError (what came is no `.ddct` file).
    """
    target = Path(fspath(out))
    if target.exists() and not overwrite:
        raise IoError(f"cannot write {target}: it exists already (overwrite=True replaces it)")
    source = places.delta(place)
    Delta.open(source)
    with TemporaryDirectory(dir=target.absolute().parent) as folder:
        Path(shutil.copy(source, folder)).rename(target)
    return target
