"""Speed of torch and transformers on the data of `delta-dct eval`: f32, batches of examples sorted by length.

    python inference.py MODEL DATA [--threads 2] [--batch 32] [--runs 3]

MODEL is a Hugging Face folder, DATA a .tsv file with a header and `sentence<TAB>label` rows, or a .safetensors file with
`images` uint8 [n, height, width, channels] or `input_ids` [n, len]. Prints examples per second of the forward passes,
the best run and all of them, and the processor seconds of the best. Tokens and pixels are made beforehand, as in
`delta-dct eval`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)


def sentences(model, data, batch, max_length):
    """Padded batches of the sentences of a table, the longest first."""
    rows = Path(data).read_text(encoding="utf-8").split("\n")[1:]
    texts = [row.rsplit("\t", 1)[0] for row in rows if row]
    tokenizer = AutoTokenizer.from_pretrained(model)
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: -lengths[i])
    for start in range(0, len(order), batch):
        chosen = [texts[i] for i in order[start : start + batch]]
        yield dict(tokenizer(chosen, truncation=True, max_length=max_length, padding=True, return_tensors="pt"))


def arrays(model, data, batch):
    """Batches of images, normalised as the model's folder says, or of token ids."""
    tensors = load_file(data)
    if "input_ids" in tensors:
        yield from ({"input_ids": ids} for ids in tensors["input_ids"].long().split(batch))
        return
    recipe = json.loads((Path(model) / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(recipe[key]).view(1, -1, 1, 1) for key in ("image_mean", "image_std"))
    for images in tensors["images"].split(batch):
        images = images.unsqueeze(-1) if images.dim() == 3 else images
        pixels = images.permute(0, 3, 1, 2).float() * recipe["rescale_factor"]
        yield {"pixel_values": ((pixels - mean) / std).contiguous()}


def load(folder):
    """The model of a folder, by the end of its architecture's name."""
    name = json.loads((Path(folder) / "config.json").read_text())["architectures"][0]
    for end, cls in (
        ("ForSequenceClassification", AutoModelForSequenceClassification),
        ("ForImageClassification", AutoModelForImageClassification),
        ("", AutoModelForCausalLM),
    ):
        if name.endswith(end):
            return cls.from_pretrained(folder, dtype=torch.float32).eval()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("model")
    args.add_argument("data")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--batch", type=int, default=32)
    args.add_argument("--max-length", type=int, default=128)
    args.add_argument("--runs", type=int, default=3)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    table = args.data.endswith(".tsv")
    batches = list(sentences(args.model, args.data, args.batch, args.max_length) if table else arrays(args.model, args.data, args.batch))
    examples = sum(len(next(iter(batch.values()))) for batch in batches)
    model, runs = load(args.model), []
    with torch.inference_mode():
        model(**batches[0])
        for _ in range(args.runs):
            wall, processor = time.perf_counter(), time.process_time()
            for batch in batches:
                model(**batch)
            runs.append((time.perf_counter() - wall, time.process_time() - processor))
    best = min(runs)
    speeds = ", ".join(f"{examples / wall:.0f}" for wall, _ in runs)
    print(f"torch {torch.__version__}, {args.threads} threads: {examples} examples, {examples / best[0]:.0f} examples/s ({speeds}), {best[1]:.1f} processor s")


if __name__ == "__main__":
    main()
