"""Model cards of `.ddct` files for the Hugging Face hub."""

import json
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path

from .files import inspect
from .tensors import Delta

_CARD = """\
---
base_model: {base_model}
base_model_relation: {relation}
library_name: delta-dct
tags:
- delta-dct
{more}---

# {title}

A fine-tuned model of {link}, stored as the difference from it: one file of {bytes:,} bytes instead of {before:,}
({ratio:.1f}x smaller, {bpw:.3f} bits per weight).

```python
from delta_dct.transformers import from_pretrained

model = from_pretrained({base_model}, {place})
```

| | |
|---|---|
| file | `{file}`, {bytes:,} bytes |
| fine-tuned model | `{finetuned}`, {before:,} bytes of weights |
| tensors, weights | {tensors:,}, {weights:,} |
| recipe | `{recipe}` |
| written by | {created_by}, format version {format_version} |
{figures}"""


def model_card(
    delta: str | PathLike[str] | Delta,
    base_model: str,
    *,
    repo: str | None = None,
    figures: Mapping[str, object] | None = None,
    license: str | None = None,
    relation: str = "finetune",
) -> str:
    """The README.md of a repository with the file `delta`: what it is, its sizes, and `figures` of quality by name.

    `base_model` and `repo` are ids on the hub; `relation` is what the hub calls the relation of the two.
    """
    opened = Delta.open(delta)
    about = inspect(opened)
    file = Path(fspath(opened.path)).name
    rows = "".join(f"| {name} | {value} |\n" for name, value in (figures or {}).items())
    return _CARD.format(
        base_model=json.dumps(base_model),
        relation=relation,
        more=f"license: {json.dumps(license)}\n" if license else "",
        title=(repo or about["finetuned"]).rpartition("/")[2],
        link=f"[{base_model}](https://huggingface.co/{base_model})",
        place=json.dumps(f"{repo}/{file}" if repo else file),
        file=file,
        before=about["finetuned_bytes"],
        tensors=len(about["tensors"]),
        figures=f"\n| figure | value |\n|---|---|\n{rows}" if rows else "",
        **{key: about[key] for key in ("bytes", "bpw", "created_by", "finetuned", "format_version", "ratio", "recipe", "weights")},
    )
