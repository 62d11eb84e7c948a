"""Prints the figures of README.md: times beside those of the alternative in the same run, peaks of memory, shares of adapters.

    cargo build --release -p delta-dct --example load
    python python/figures.py BASE FINETUNED    # two folders; needs the extras transformers and peft
"""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

ROUNDS = 7
LOAD = Path(__file__).parents[1] / "target/release/examples/load"
#: What the program LOAD does, in Python: all tensors, one after another.
LOAD_IN_PYTHON = """
import sys, delta_dct
base = delta_dct.Checkpoint.open(sys.argv[1])
for _ in range(int(sys.argv[3])):
    delta = delta_dct.Delta.open(sys.argv[2], base)
    tensors = [delta[name] for name in delta]
    del tensors
"""


def cpu_seconds() -> float:
    """Of all threads, and of child processes that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


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


def loop_time(*command) -> tuple[float, float]:
    """What a round adds to the time of a command that takes the number of rounds at its end; on one thread."""
    one_thread = os.environ | {"RAYON_NUM_THREADS": "1"}
    rounds = lambda count: best(lambda: subprocess.run([*command, str(count)], check=True, env=one_thread))  # noqa: E731
    few, many = rounds(1), rounds(11)
    return (many[0] - few[0]) / 10, (many[1] - few[1]) / 10


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
        show("every delta[name], one thread", loop_time(sys.executable, "-c", LOAD_IN_PYTHON, base, path))
        show("the same loop in Rust, one thread", loop_time(LOAD, base, path))

        model = from_pretrained(base, path)
        weights = next(Path(finetuned).glob("*.safetensors"))
        load = lambda: model.load_state_dict(load_file(weights), strict=False)  # noqa: E731
        show("swap", best(lambda: swap(model, path, base)))
        show("load_file, load_state_dict", best(load))

        megabytes = lambda count: f"{count / 1e6:.1f} MB"  # noqa: E731
        print(f"{'weights of the base':40}{megabytes(delta_dct.Checkpoint.open(base).handle.weight_bytes)}")
        peak = median(peak_of("delta_dct.transformers.from_pretrained(base, other)", base, path) for _ in range(3))
        print(f"{'peak of from_pretrained':40}{megabytes(peak)}")

        for rank in (4, 16):
            lora = export_lora(base, finetuned, f"{folder}/lora", rank, overwrite=True)
            shares = f"{lora['share']:.1%} of the delta, {lora['linear_share']:.1%} of that of linear layers"
            print(f"{f'LoRA of rank {rank}':40}{lora['bytes']:,} bytes, {shares}")


if __name__ == "__main__":
    main(*sys.argv[1:])
