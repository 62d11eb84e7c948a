"""What each part of the default codec is worth: KL without it, at the same bytes, over KL with it.

    python benches/ablation.py [SWEEP]      # sweeps/ablation.toml; needs Python 3.11, matplotlib, cargo and git

Builds the command from a copy of the sources once for each part, with a few lines changed, and lets each of these commands run the
sweep by itself, since their files are not the same format. Prints a table and draws docs/ablation.png. What is built and
what is measured stays in target/ablation: the same command goes on where it stopped.
"""

import hashlib
import json
import os
import subprocess
import sys
from math import exp, log, sqrt
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "target/ablation"
PLOT = ROOT / "docs/ablation.png"

FIT = "core/src/transform/factors/fit.rs"
FACTORS = "core/src/transform/factors/mod.rs"
TRELLIS = "core/src/quantize/trellis.rs"
ROLES = "core/src/method/roles.rs"

#: What is taken away, and how: in each file a text, which is there exactly once, and what takes its place.
VARIANTS = {
    # The gain of least squared error.
    "full projection": [(FIT, "s / (ua * vb)", "s * ua * vb / (size(&a) * size(&b))")],
    # One quantiser, of the same unit. States that are never entered stay infinitely far.
    "trellis": [
        (TRELLIS, "self.0 = (self.0 >> 1) ^ (5 * (self.0 & 1)) ^ (2 * (level & 1) as u8);", "let _ = level;"),
        (TRELLIS, "= [0, 2, 4, 6, 3, 1, 7, 5];", "= [0, 1, 2, 3, 4, 5, 6, 7];"),
        (TRELLIS, "= [4, 6, 0, 2, 7, 5, 3, 1];", "= [0, 1, 2, 3, 4, 5, 6, 7];"),
        (TRELLIS, "const GRID: f32 = 0.6;", "const GRID: f32 = 0.5;"),
    ],
    "price of bits": [(FIT, "const PRICE: f32 = 0.15;", "const PRICE: f32 = 0.0;")],
    "price of bits in the rest": [("core/src/quantize/rest.rs", "const PRICE: f32 = 0.3;", "const PRICE: f32 = 0.0;")],
    "roles": [
        (ROLES, "coarseness: 1.5, tokens: Some(32_000.0)", "coarseness: 1.0, tokens: None"),
        (ROLES, "coarseness: 0.4, tokens: Some(4_096.0)", "coarseness: 1.0, tokens: None"),
        (ROLES, "coarseness: 0.5, tokens: Some(64.0)", "coarseness: 1.0, tokens: None"),
        (ROLES, "coarseness: 0.4, tokens: None", "coarseness: 1.0, tokens: None"),
        (ROLES, "FIRST_LAYER: f32 = 0.8;", "FIRST_LAYER: f32 = 1.0;"),
        (ROLES, "LAST_LAYER: f32 = 1.3;", "LAST_LAYER: f32 = 1.0;"),
        (ROLES, "const VALUE: f32 = 0.75;", "const VALUE: f32 = 1.0;"),
    ],
    "rest": [("core/src/method/mod.rs", "rank=256 rest=2", "rank=256 rest=0")],
    "contexts by values before": [(FACTORS, "self.0 >= from", "self.0 > 0 && from == 0")],
    "error feedback": [(FIT, "trust: (cos2 * cos2) as f32", "trust: 0.0")],
    "drop of weak components": [
        (FIT, "const MIN_COS2: [f64; 2] = [0.15, 0.68];", "const MIN_COS2: [f64; 2] = [0.0, 0.0];")
    ],
    "rows that take no part": [(FIT, "const WEAK: f64 = 1.0 / 1024.0;", "const WEAK: f64 = 0.0;")],
    "second pass for directions": [(FIT, "FIRST_RANK as f64 { 2 } else { 1 }", "FIRST_RANK as f64 { 1 } else { 1 }")],
}

#: The sizes that count are else those whose files are others without the part. Without a rest the search for the step goes other
#: ways even where it finds one that has none.
COUNTS_WHERE = {"rest": "price of bits in the rest"}

#: Bytes and KL of each pair and recipe.
Runs = dict[tuple[str, str], tuple[int, float]]


def sources(changes: list[tuple[str, str, str]]) -> dict[str, bytes]:
    """All files of the project, with these changes."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")[:-1]
    texts = {name: (ROOT / name).read_bytes() for name in names}
    for name, old, new in changes:
        if texts[name].count(old.encode()) != 1:
            sys.exit(f"{name} does not have this text exactly once: {old}")
        texts[name] = texts[name].replace(old.encode(), new.encode())
    return texts


def build(texts: dict[str, bytes]) -> Path:
    """The command, from these files."""
    for name, text in texts.items():
        path = WORK / "sources" / name
        # What is the same keeps its time, and is not built again.
        if not path.exists() or path.read_bytes() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
    # Built fast rather than for speed.
    quick = {"LTO": "off", "CODEGEN_UNITS": "16", "DEBUG": "0"}
    environment = os.environ | {f"CARGO_PROFILE_RELEASE_{name}": value for name, value in quick.items()}
    environment["CARGO_TARGET_DIR"] = str(WORK / "target")
    command = ["cargo", "build", "--quiet", "--release", "--package", "delta-dct-cli", "--all-features"]
    subprocess.run(command, cwd=WORK / "sources", env=environment, check=True)
    return WORK / "target/release/delta-dct"


def measure(changes: list[tuple[str, str, str]], sweep: Path) -> Runs:
    """The runs of the sweep by a command with these changes."""
    texts = sources(changes)
    known = [texts[name] for name in sorted(texts) if name.startswith(("core/", "eval/"))]
    folder = WORK / "runs" / hashlib.sha256(b"".join(known)).hexdigest()[:16]
    done = folder / f"{hashlib.sha256(sweep.read_bytes()).hexdigest()[:16]}.json"
    if not done.exists():
        command = [build(texts), "sweep", sweep, "-o", folder, "--json", "--quiet"]
        done.write_bytes(subprocess.check_output(command))
    rows = json.loads(done.read_bytes())["rows"]
    return {(row["pair"], row["recipe"]): (row["bytes"], row["kl"]) for row in rows}


def mean(factors: list[float]) -> float:
    """Their geometric mean; 1 where there is none."""
    return exp(sum(map(log, factors)) / max(len(factors), 1))


def mean_of_pairs(factors: dict[str, list[float]]) -> float:
    """That of the pairs' means: each pair counts the same, however many its sizes."""
    return mean([mean(some) for some in factors.values() if some])


def chance(factors: dict[str, list[float]]) -> float:
    """How many times larger or smaller that may be by chance: its standard error, with one spread for all pairs."""
    some = [[log(factor) for factor in of] for of in factors.values() if of]
    squares = sum((x - sum(of) / len(of)) ** 2 for of in some for x in of)
    variance = squares / max(sum(map(len, some)) - len(some), 1)
    return exp(sqrt(variance * sum(1 / len(of) for of in some)) / max(len(some), 1))


def compare(whole: Runs, without: Runs, counts: Runs) -> dict[str, list[float]]:
    """For each pair, how many times the KL is, at the sizes at which the runs of `counts` are not those of the whole."""
    factors = {pair: [] for pair, _ in whole}
    for case, (_, kl) in without.items():
        if counts[case] != whole[case]:
            factors[case[0]].append(kl / whole[case][1])
    return factors


def table(results: dict[str, dict[str, list[float]]], pairs: list[str], count: int) -> str:
    lines = [
        f"| without | {' | '.join(pairs)} | all | by chance | sizes, of {count} |",
        f"|---|{'---:|' * (len(pairs) + 3)}",
    ]
    for part, factors in results.items():
        shown = [f"{mean(some):.2f}" if some else "" for some in factors.values()]
        shown += [f"{mean_of_pairs(factors):.2f}", f"± {chance(factors) - 1:.0%}", str(sum(map(len, factors.values())))]
        lines.append(f"| {part} | {' | '.join(shown)} |")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, list[float]]], pairs: list[str]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.42 * len(results) + 1.6), layout="constrained")
    places = range(len(results))
    means = [mean_of_pairs(factors) for factors in results.values()]
    axes.barh(places, [value - 1 for value in means], left=1, height=0.62, color="#c9cdd6")
    doubts = [chance(factors) for factors in results.values()]
    ends = [
        [value * (1 - 1 / doubt) for value, doubt in zip(means, doubts)],
        [value * (doubt - 1) for value, doubt in zip(means, doubts)],
    ]
    # The few factors beyond lie on the right edge.
    edge = 16
    axes.errorbar(means, places, xerr=ends, fmt="none", ecolor="#373c46", elinewidth=1, capsize=3)
    for pair, mark, colour in zip(pairs, "osD^v", ["#2563eb", "#ea7a00", "#16a34a", "#9f1239", "#7c3aed"]):
        found = [
            (min(mean(factors[pair]), edge), place) for place, factors in zip(places, results.values()) if factors[pair]
        ]
        axes.plot(*zip(*found), mark, color=colour, markersize=6, label=pair, clip_on=False)
    axes.axvline(1, color="#373c46", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(right=min(axes.get_xlim()[1], edge))
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.25, 0.35, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 10, 20, 50) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(places, [f"{part}: {value:.2f}" for part, value in zip(results, means)])
    axes.set_xlabel("KL without it over KL of the whole codec (16 and more: at the edge)")
    axes.grid(axis="x", color="#e5e5e0")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(PLOT, dpi=150)


def main(sweep: str = str(ROOT / "sweeps/ablation.toml")) -> None:
    whole = measure([], Path(sweep))
    runs = {}
    for part, changes in VARIANTS.items():
        runs[part] = measure(changes, Path(sweep))
        print(f"{part} done", file=sys.stderr)
    results = {part: compare(whole, runs[part], runs[COUNTS_WHERE.get(part, part)]) for part in runs}
    results = dict(sorted(results.items(), key=lambda item: -mean_of_pairs(item[1])))
    pairs = list(dict.fromkeys(pair for pair, _ in whole))
    print(table(results, pairs, len(whole)))
    plot(results, pairs)


if __name__ == "__main__":
    main(*sys.argv[1:])
