"""LoRA adapters that PEFT loads."""

import delta_dct
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from delta_dct.peft import export_lora  # noqa: E402


def load(folder):
    return transformers.AutoModelForImageClassification.from_pretrained(folder)


def carried(before, after, finetuned, names) -> float:
    """The share of the squared norm of the delta of some tensors that a model has."""
    distance = lambda a, b: sum(float((a[name] - b[name]).square().sum()) for name in names)  # noqa: E731
    return 1 - distance(after, finetuned) / distance(before, finetuned)


@pytest.mark.parametrize("rank", [2, 16])
def test_peft_loads_the_share_that_is_told(base, finetuned, tmp_path, rank):
    report = export_lora(base, finetuned, tmp_path / "adapter", rank, base_model="org/base")
    assert report["bytes"] == (tmp_path / "adapter/adapter_model.safetensors").stat().st_size
    assert peft.PeftConfig.from_pretrained(tmp_path / "adapter").base_model_name_or_path == "org/base"
    before = {name: tensor.clone() for name, tensor in load(base).state_dict().items()}
    merged = peft.PeftModel.from_pretrained(load(base), tmp_path / "adapter").merge_and_unload().state_dict()
    expected = load(finetuned).state_dict()
    share = carried(before, merged, expected, report["layers"])
    assert 0 < report["share"] < 1
    assert share == pytest.approx(report["linear_share"], abs=1e-3)
    assert carried(before, merged, expected, expected) == pytest.approx(report["share"], abs=1e-3)


def test_more_rank_carries_more_and_the_recipe_says_how_much(base, finetuned, tmp_path):
    low = export_lora(base, finetuned, tmp_path / "low", 2)
    high = export_lora(base, finetuned, tmp_path / "high", 32)
    assert low["share"] < high["share"]
    delta_dct.compress(base, finetuned, tmp_path / "x.ddct", "lowrank", rank=4)
    from_delta = export_lora(base, tmp_path / "x.ddct", tmp_path / "delta")
    assert from_delta["rank"] == 4
    # The delta has no more directions than that, but for the rounding of its vectors.
    assert from_delta["linear_share"] > 0.999


def test_what_is_there_stays_unless_told(base, finetuned, tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(delta_dct.IoError, match="exists already"):
        export_lora(base, finetuned, tmp_path / "adapter", 2)
    export_lora(base, finetuned, tmp_path / "adapter", 2, overwrite=True)
    assert (tmp_path / "adapter/adapter_config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_of_models_in_memory_or_of_an_open_delta(base, finetuned, delta, tmp_path):
    from_file = export_lora(base, finetuned, tmp_path / "file", 2)
    assert export_lora(base, dict(delta_dct.Checkpoint.open(finetuned)), tmp_path / "memory", 2) == from_file
    opened = delta_dct.Delta.open(delta, base)
    assert export_lora(base, opened, tmp_path / "open", 2) == export_lora(base, delta, tmp_path / "delta", 2)
