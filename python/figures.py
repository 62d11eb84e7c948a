"""Prints the figures of README.md: times beside those of the alternative in the same run, peaks of memory, shares of adapters.

    python python/figures.py BASE FINETUNED    # two folders; needs the extras transformers and peft
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

ROUNDS = 5


def cpu_seconds() -> float:
    """Of all threads, and of child processes that have ended."""
    return sum(os.times()[:4])


def best(work) -> tuple[float, float]:
    """Seconds by the clock and by the processors' time, of the fastest of some runs."""
    runs = []
    for _ in range(ROUNDS):
        clock, cpu = perf_counter(), cpu_seconds()
        work()
        runs.append((perf_counter() - clock, cpu_seconds() - cpu))
    return min(run[0] for run in runs), min(run[1] for run in runs)


def show(what: str, seconds: tuple[float, float]) -> None:
    clock, cpu = (f"{1000 * part:8.1f} ms" for part in seconds)
    print(f"{what:40}{clock}{cpu} of CPU")


def import_time() -> tuple[float, float]:
    """What `import delta_dct` adds to a start of the interpreter."""
    start = lambda code: best(lambda: subprocess.run([sys.executable, "-c", code], check=True))  # noqa: E731
    with_import, without = start("import delta_dct"), start("pass")
    return with_import[0] - without[0], with_import[1] - without[1]


def peak_of(load: str, *arguments) -> int:
    """Most bytes that a line adds to the resident memory of a process that has done it before."""
    code = f"""
import ctypes, gc, sys, transformers, delta_dct.transformers
base, other = sys.argv[1:3]
transformers.utils.logging.disable_progress_bar()
def resident(key):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(key)))
{load}
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
model = {load}
print("PEAK", resident("VmHWM") - before)
"""
    run = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return 1024 * int(re.search(r"PEAK (-?\d+)", run.stdout)[1])


def main(base: str, finetuned: str) -> None:
    import delta_dct
    import transformers
    from delta_dct.peft import export_lora
    from delta_dct.transformers import from_pretrained, swap
    from safetensors.torch import load_file

    transformers.utils.logging.disable_progress_bar()

    show("import delta_dct", import_time())
    with TemporaryDirectory() as folder:
        path = f"{folder}/finetuned.ddct"
        report = delta_dct.compress(base, finetuned, path)
        print(f"{'delta':40}{report['output_bytes']:,} bytes, {len(report['tensors'])} tensors")
        show("Delta.open", best(lambda: delta_dct.Delta.open(path)))
        opened = delta_dct.Delta.open(path, base)
        show("verify: all decoded, by the Rust code", best(lambda: delta_dct.verify(opened, opened.base)))
        apply = lambda: delta_dct.apply(base, path, f"{folder}/applied", overwrite=True)  # noqa: E731
        show("apply: all decoded and written", best(apply))
        show("every delta[name], one after another", best(lambda: [opened[name] for name in opened]))

        model = from_pretrained(base, path)
        weights = next(Path(finetuned).glob("*.safetensors"))
        load = lambda: model.load_state_dict(load_file(weights), strict=False)  # noqa: E731
        show("swap", best(lambda: swap(model, path, base)))
        show("load_file, load_state_dict", best(load))

        megabytes = lambda count: f"{count / 1e6:.1f} MB"  # noqa: E731
        print(f"{'weights of the base':40}{megabytes(delta_dct.Checkpoint.open(base).handle.weight_bytes)}")
        peak = peak_of("delta_dct.transformers.from_pretrained(base, other)", base, path)
        print(f"{'peak of from_pretrained':40}{megabytes(peak)}")

        for rank in (4, 16):
            lora = export_lora(base, finetuned, f"{folder}/lora", rank, overwrite=True)
            shares = f"{lora['share']:.1%} of the delta, {lora['linear_share']:.1%} of that of linear layers"
            print(f"{f'LoRA of rank {rank}':40}{lora['bytes']:,} bytes, {shares}")


if __name__ == "__main__":
    main(*sys.argv[1:])
