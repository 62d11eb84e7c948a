"""A fine-tune of a small image classifier, to try methods on architectures that they were not made with.

    python image_pair.py make swin|vit|beit|convnext|resnet IMAGES OUT
    python image_pair.py judge OUT RESULT

IMAGES is a file as `delta-dct eval` takes it: `images` uint8 [n, 32, 32, 3] of 10 classes and `labels` int64 [n]; a fifth of them is held out.
The base, OUT/base, is trained from scratch for 8 epochs, the fine-tuned model, OUT/ft, for 3 more on the same images, grey and with less contrast. `judge`
prints the KL divergence, in nats, and the agreement of the model RESULT with OUT/ft on those held out.
"""

import copy
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageClassification

BATCH = 64
SQUARE = {"image_size": 32, "num_labels": 10}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
#: Model, configuration, and the learning rates of the two trainings.
MODELS = {
    "swin": (
        "Swin",
        dict(patch_size=2, embed_dim=48, depths=[2, 2, 4], num_heads=[3, 6, 12], window_size=4, drop_path_rate=0.0),
        (1e-3, 2e-4),
    ),
    "vit": (
        "ViT",
        dict(patch_size=8, hidden_size=256, num_hidden_layers=12, num_attention_heads=4, intermediate_size=1024)
        | NO_DROPOUT,
        (5e-4, 2e-4),
    ),
    "beit": (
        "Beit",
        dict(patch_size=8, hidden_size=192, num_hidden_layers=6, num_attention_heads=3, intermediate_size=768)
        | dict(use_relative_position_bias=True, drop_path_rate=0.0)
        | NO_DROPOUT,
        (5e-4, 3e-4),
    ),
    "convnext": ("ConvNext", dict(patch_size=2, hidden_sizes=[48, 96, 192, 192], depths=[2, 2, 4, 2]), (1e-3, 3e-4)),
    "resnet": (
        "ResNet",
        dict(embedding_size=32, hidden_sizes=[64, 128, 192, 256], depths=[1, 1, 1, 1], layer_type="basic"),
        (1e-3, 3e-4),
    ),
}


def train(model, pixels, labels, epochs, lr):
    """By AdamW, with warm-up and linear decay, on images that are mirrored and shifted by chance."""
    torch.manual_seed(0)
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
    count, step = epochs * (len(pixels) // BATCH), 0
    for epoch in range(epochs):
        order = torch.randperm(len(pixels))
        for start in range(0, len(pixels) - BATCH + 1, BATCH):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1, (step + 1) / max(1, 0.1 * count)) * max(0.02, 1 - step / count)
            batch = order[start : start + BATCH]
            images = pixels[batch].flip(3) if torch.rand(()) < 0.5 else pixels[batch]
            shift = [int(way) for way in torch.randint(-3, 4, (2,))]
            loss = cross_entropy(model(pixel_values=torch.roll(images, shift, (2, 3))).logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
        print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)
    model.eval()


@torch.no_grad()
def outputs(folder, pixels):
    """Logarithms of probabilities [n, classes]."""
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    return torch.cat([model(pixel_values=some).logits for some in pixels.split(100)]).double().log_softmax(1)


def make(name, images, out):
    data = load_file(images)
    pixels = ((data["images"].float() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).contiguous()
    count = len(pixels) * 4 // 5
    labels = data["labels"][:count]
    kind, config, (lr, lr_tuned) = MODELS[name]
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**SQUARE | config)
    base = getattr(transformers, f"{kind}ForImageClassification")(config)
    train(base, pixels[:count], labels, 8, lr)
    base.save_pretrained(f"{out}/base")
    grey = 0.6 * pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1) + 0.3
    tuned = copy.deepcopy(base)
    train(tuned, grey[:count].contiguous(), labels, 3, lr_tuned)
    tuned.save_pretrained(f"{out}/ft")
    save_file({"pixels": grey[count:].contiguous()}, f"{out}/held.safetensors")


def judge(out, result):
    pixels = load_file(f"{out}/held.safetensors")["pixels"]
    expected, found = outputs(f"{out}/ft", pixels), outputs(result, pixels)
    divergence = (expected.exp() * (expected - found)).sum(1).mean()
    agreement = (expected.argmax(1) == found.argmax(1)).double().mean()
    print(f"KL {divergence:.2e}, agreement {agreement:.1%}")


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("make", "judge"):
        sys.exit(__doc__)
    {"make": make, "judge": judge}[sys.argv[1]](*sys.argv[2:])
