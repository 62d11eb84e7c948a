"""A fine-tune of a small causal language model, to try methods on pairs that they were not made with.

    python language_pair.py BASE TEXTS OUT [--how full|lora|bf16] [--lr 1e-4] [--steps 200]

BASE is a Hugging Face folder with a tokenizer, TEXTS a file with the path of a text on each line. A tenth of them is held out: OUT.held.safetensors has
their `input_ids` int64 [rows, 256], as `delta-dct eval` takes them. OUT is a bfloat16 model, trained by AdamW on batches of
8 rows: `full` in float32, `lora` with adapters of rank 8 beside all layers but the head, merged at the end, `bf16` with weights rounded to bfloat16 after every step,
as training does that keeps no other copy.
"""

import argparse
import itertools
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH, LENGTH, RANK, SCALE = 8, 256, 8, 2.0


def rows(tokenizer, paths, count):
    """Up to `count` rows of tokens, from the beginnings of texts, with an end after each."""
    ids = []
    for path in paths:
        text = Path(path).read_text(encoding="utf-8", errors="ignore")[:20_000]
        ids += tokenizer(text)["input_ids"] + [tokenizer.eos_token_id or 0]
        if len(ids) > count * LENGTH:
            break
    count = min(count, len(ids) // LENGTH)
    return torch.tensor(ids[: count * LENGTH]).view(count, LENGTH)


def adapt(model):
    """Adapters (layer, A [rank, in], B [out, rank]), which the layers use from now on."""
    model.requires_grad_(False)
    adapters = []
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and "lm_head" not in name:
            a = torch.nn.Parameter(torch.randn(RANK, layer.in_features) / layer.in_features**0.5)
            b = torch.nn.Parameter(torch.zeros(layer.out_features, RANK))
            layer.forward = lambda x, w=layer.weight, a=a, b=b: linear(x, w) + SCALE * linear(linear(x, a), b)
            adapters.append((layer, a, b))
    return adapters


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("texts")
    parser.add_argument("out")
    parser.add_argument("--how", choices=["full", "lora", "bf16"], default="full")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    paths = Path(args.texts).read_text().split("\n")
    paths = [path for path in paths if path]
    tenth = len(paths) // 10
    held_out = rows(tokenizer, paths[:tenth], 240)
    train = rows(tokenizer, paths[tenth:], args.steps * BATCH)

    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).train()
    adapters = adapt(model) if args.how == "lora" else []
    parameters = [p for p in itertools.chain(model.parameters(), *(pair[1:] for pair in adapters)) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    order = torch.randperm(len(train))
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min((step + 1) / 10, 1 - step / args.steps)
        batch = train[order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(train)]]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if args.how == "bf16":
            for parameter in parameters:
                parameter.data = parameter.data.bfloat16().float()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)

    for layer, a, b in adapters:
        layer.weight.data += SCALE * b.data @ a.data
        del layer.forward
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    save_file({"input_ids": held_out}, f"{args.out}.held.safetensors")


if __name__ == "__main__":
    main()
