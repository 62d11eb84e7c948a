"""Prints the figures of README.md: times beside those of the alternative in the same run, and peaks of memory.

    python figures.py BASE FINETUNED    # two folders; needs the extras transformers and peft
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

ROUNDS = 7


def best(work) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


def import_time() -> float:
    """Seconds that `import delta_dct` adds to a start of the interpreter."""
    start = lambda code: best(lambda: subprocess.run([sys.executable, "-c", code], check=True))  # noqa: E731
    return start("import delta_dct") - start("pass")


def peak_of(load: str, *arguments) -> int:
    """Most bytes that a line adds to the resident memory of a process that has imported everything before."""
    code = f"""
import sys, torch, transformers, delta_dct.transformers
def status(key):
    return int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith(key)))
base, other = sys.argv[1:3]
transformers.utils.logging.disable_progress_bar()
torch.nn.Linear(64, 64)(torch.zeros(1, 64))
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
model = {load}
print("PEAK", status("VmHWM") - before)
"""
    run = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return 1024 * int(re.search(r"PEAK (\d+)", run.stdout)[1])


def main(base: str, finetuned: str) -> None:
    import delta_dct
    from delta_dct.peft import export_lora
    from delta_dct.transformers import from_pretrained, swap
    from safetensors.torch import load_file

    milliseconds = lambda seconds: f"{1000 * seconds:.1f} ms"  # noqa: E731
    print("import delta_dct                      ", milliseconds(import_time()))
    with TemporaryDirectory() as folder:
        path = f"{folder}/finetuned.ddct"
        report = delta_dct.compress(base, finetuned, path)
        size = f"{report['output_bytes']:,} bytes, {len(report['tensors'])} tensors"
        print("delta                                 ", size)
        print("Delta.open                            ", milliseconds(best(lambda: delta_dct.Delta.open(path))))
        opened = delta_dct.Delta.open(path, base)
        print("verify (all decoded, in Rust)         ", milliseconds(best(lambda: delta_dct.verify(opened, opened.base))))
        apply = lambda: delta_dct.apply(base, path, f"{folder}/applied", overwrite=True)  # noqa: E731
        print("apply (all decoded and written)       ", milliseconds(best(apply)))
        print("every delta[name], one after another  ", milliseconds(best(lambda: [opened[name] for name in opened])))

        model = from_pretrained(base, path)
        weights = next(Path(finetuned).glob("*.safetensors"))
        load = lambda: model.load_state_dict(load_file(weights), strict=False)  # noqa: E731
        print("swap                                  ", milliseconds(best(lambda: swap(model, path, base))))
        print("load_file, load_state_dict            ", milliseconds(best(load)))

        megabytes = lambda count: f"{count / 1e6:.1f} MB"  # noqa: E731
        print("weights of the base                   ", megabytes(delta_dct.Checkpoint.open(base).handle.weight_bytes))
        peak = peak_of("delta_dct.transformers.from_pretrained(base, other)", base, path)
        print("peak of delta_dct's from_pretrained   ", megabytes(peak))
        peak = peak_of("transformers.AutoModel.from_pretrained(other)", base, finetuned)
        print("peak of transformers' from_pretrained ", megabytes(peak))

        for rank in (4, 16, 64):
            lora = export_lora(base, finetuned, f"{folder}/lora", rank, overwrite=True)
            shares = f"{lora['share']:.1%} of the delta, {lora['linear_share']:.1%} of that of linear layers"
            print(f"LoRA of rank {rank:<25}", f"{lora['bytes']:,} bytes, {shares}")


if __name__ == "__main__":
    main(*sys.argv[1:])
