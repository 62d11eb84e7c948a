"""Makes a pair whose layers learned at different speeds: `python layer_decay.py BASE FINETUNED OUT [--decay 0.65]`.

The fine-tuned model of a pair, with its difference from the base times decay for the last layer but one, decay^2 for the one
before, and so on; embeddings, once more than the first layer. A decay of the learning rate from layer to layer gives such.
"""

import argparse
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("finetuned", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--decay", type=float, default=0.65)
    args = parser.parse_args()
    base, tuned = (load_file(folder / WEIGHTS) for folder in (args.base, args.finetuned))
    layer = {name: re.search(r"\.layers?\.(\d+)\.", name) for name in tuned}
    count = 1 + max(int(found[1]) for found in layer.values() if found)
    shutil.copytree(args.finetuned, args.out, ignore=shutil.ignore_patterns(WEIGHTS))
    for name, weights in tuned.items():
        # A base may lack the prefix of a model with a head.
        before = base.get(name, base.get(name.partition(".")[2]))
        if before is None or before.shape != weights.shape:
            continue
        later = count - 1 - int(layer[name][1]) if layer[name] else count * ("embed" in name)
        difference = (weights.double() - before.double()) * args.decay**later
        tuned[name] = (before.double() + difference).to(weights.dtype)
    save_file(tuned, args.out / WEIGHTS, {"format": "pt"})


if __name__ == "__main__":
    main()
