"""A fine-tune of a small model for text or sound, to try methods on architectures that they were not made with.

    python architecture_pair.py make t5|rwkv OUT TOKENIZER TEXTS TUNED_TEXTS
    python architecture_pair.py make wav2vec2|whisper OUT
    python architecture_pair.py judge OUT RESULT

The base, OUT/base, is trained from scratch, the fine-tuned model, OUT/ft, with an eighth of the steps: on the texts of a file with a path
on each line and then on those of another (a T5 continues 64 tokens by 64 more), with the tokenizer of a Hugging Face folder; or on sound
made by chance, 8 kinds of it to tell apart (wav2vec2) or notes to write down (whisper), and then on other notes with more noise. `judge` prints the KL
divergence, in nats, of the model RESULT from OUT/ft on inputs that were held out.
"""

import math
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

BATCH, LENGTH, HELD = 16, 128, 160
SMALL = dict(hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=384)
SMALL_T5 = dict(d_model=128, d_kv=32, d_ff=384, num_layers=3, num_heads=4, dropout_rate=0.0)
SMALL_WHISPER = dict(
    vocab_size=64, num_mel_bins=40, d_model=128, dropout=0.0, max_source_positions=50, max_target_positions=32
) | {
    f"{side}_{key}": value
    for side in ("encoder", "decoder")
    for key, value in dict(layers=3, attention_heads=4, ffn_dim=384).items()
}
NO_DROPOUT = dict.fromkeys(
    "hidden_dropout attention_dropout activation_dropout feat_proj_dropout final_dropout layerdrop".split(), 0.0
)
#: Class, configuration, and steps of the training of the base.
MODELS = {
    "t5": ("T5", "ForConditionalGeneration", SMALL_T5 | dict(decoder_start_token_id=0), 480),
    "rwkv": ("Rwkv", "ForCausalLM", dict(hidden_size=128, num_hidden_layers=4, context_length=256), 240),
    "wav2vec2": (
        "Wav2Vec2",
        "ForSequenceClassification",
        SMALL | NO_DROPOUT | dict(conv_dim=(64,) * 7, num_labels=8, apply_spec_augment=False)
        | dict(num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=4, classifier_proj_size=64),
        1600,
    ),
    "whisper": (
        "Whisper",
        "ForConditionalGeneration",
        SMALL_WHISPER | dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1),
        1200,
    ),
}


def rows(tokenizer, paths):
    """Tokens [rows, 128] of the beginnings of texts."""
    ids = []
    for path in Path(paths).read_text().splitlines():
        ids += tokenizer(Path(path).read_text(encoding="utf-8", errors="ignore")[:12_000])["input_ids"]
    return torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)


def kinds_of_sound(count, tuned):
    """Half a second each at 8 kHz [count, 4000], and which of 8 kinds it is [count]."""
    time = torch.arange(4000) / 8000
    pitch = (150 + 500 * torch.rand(count, 1)) * (1.6 if tuned else 1.0)
    phase = math.tau * pitch * time
    waves = [
        torch.sin(phase * (1 + time)),
        torch.sin(phase).sign(),
        pitch * time % 1 * 2 - 1,
        torch.sin(phase + 4 * torch.sin(50 * time)),
        0.6 * torch.sin(phase) + 0.6 * torch.sin(1.5 * phase),
        torch.randn(count, 4000) * (8 * time % 1 < 0.3),
        torch.sin(phase) * (1 + torch.sin(60 * time)) / 2,
        torch.sin(phase) * torch.exp(-8 * time),
    ]
    kinds = torch.randint(0, 8, (count,))
    noise = (0.6 if tuned else 0.3) * torch.randn(count, 4000)
    sound = torch.stack(waves, 1)[torch.arange(count), kinds] * (0.3 + torch.rand(count, 1)) + noise
    return (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True), kinds


def notes(count, tuned):
    """Spectra [count, 40, 100] of ten notes each, and the notes [count, 11] by other names, with an end."""
    found = torch.randint(0, 40, (count, 10))
    spectra = (0.5 if tuned else 0.3) * torch.randn(count, 40, 100)
    for at in range(10):
        start = 10 * at + torch.randint(0, 3, (count,))
        for k in range(7):
            spectra[torch.arange(count), found[:, at], start + k] += 2 - k / 5
    names = found * (7 if tuned else 3) % 40 + 3
    return spectra, torch.cat([names, torch.full((count, 1), 2)], 1)


def examples(name, tuned, texts):
    """What a model takes, by argument, one after the other."""
    if name == "t5":
        return {"input_ids": texts[:, :64].contiguous(), "labels": texts[:, 64:].contiguous()}
    if name == "rwkv":
        return {"input_ids": texts, "labels": texts}
    count = HELD + (2_000 if tuned else 16_000)
    inputs, labels = (kinds_of_sound if name == "wav2vec2" else notes)(count, tuned)
    return {"input_values" if name == "wav2vec2" else "input_features": inputs, "labels": labels}


def train(model, data, steps, lr):
    """By AdamW, with warm-up and linear decay, on all but the first examples, which are held out."""
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 30) * max(0.02, 1 - step / steps)
        batch = torch.randint(HELD, len(data["labels"]), (BATCH,))
        loss = model(**{key: value[batch] for key, value in data.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def outputs(folder, data):
    """Logarithms of probabilities [outputs, classes]."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(folder, dtype=torch.float32).eval()
    parts = zip(*(value.split(BATCH) for value in data.values()), strict=True)
    logits = [model(**dict(zip(data, part, strict=True))).logits for part in parts]
    return torch.cat([some.flatten(0, -2) for some in logits]).double().log_softmax(1)


def make(name, out, tokenizer=None, *texts):
    torch.manual_seed(0)
    kind, task, config, steps = MODELS[name]
    if tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        config = config | {"vocab_size": len(tokenizer)}
    base_texts, tuned_texts = (rows(tokenizer, paths) for paths in texts) if texts else (None, None)
    model = getattr(transformers, kind + task)(getattr(transformers, f"{kind}Config")(**config))
    train(model, examples(name, False, base_texts), steps, 1e-3)
    model.save_pretrained(f"{out}/base")
    data = examples(name, True, tuned_texts)
    train(model, data, steps // 8, 3e-4)
    model.save_pretrained(f"{out}/ft")
    save_file({key: value[:HELD].clone() for key, value in data.items()}, f"{out}/held.safetensors")


def judge(out, result):
    data = load_file(f"{out}/held.safetensors")
    expected, found = outputs(f"{out}/ft", data), outputs(result, data)
    print(f"KL {(expected.exp() * (expected - found)).sum(1).mean():.2e}")


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("make", "judge"):
        sys.exit(__doc__)
    {"make": make, "judge": judge}[sys.argv[1]](*sys.argv[2:])
