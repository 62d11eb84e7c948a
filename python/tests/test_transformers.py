"""Models of transformers from a base and a delta."""

import delta_dct
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from delta_dct.transformers import from_pretrained, swap  # noqa: E402


@pytest.fixture(scope="module")
def applied(base, delta, tmp_path_factory):
    """The folder that apply writes."""
    folder = tmp_path_factory.mktemp("applied") / "model"
    delta_dct.apply(base, delta, folder)
    return folder


@pytest.fixture(scope="module")
def llama_delta(llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / "llama.ddct"
    delta_dct.compress(llama / "base", llama / "ft", path)
    return path


def same_weights(model, other) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_is_the_one_that_apply_gives(base, delta, applied):
    expected = transformers.AutoModelForImageClassification.from_pretrained(applied)
    for auto_class in (None, transformers.AutoModelForImageClassification):
        model = from_pretrained(base, delta, auto_class)
        assert type(model) is type(expected) and not model.training
        assert same_weights(model, expected)


def test_bf16_and_options_of_transformers(llama, llama_delta):
    model = from_pretrained(llama / "base", llama_delta, transformers.AutoModelForCausalLM, dtype=torch.bfloat16)
    expected = dict(delta_dct.iter_tensors(llama / "base", llama_delta))
    assert expected["lm_head.weight"].dtype == torch.bfloat16
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name])
    wide = from_pretrained(llama / "base", llama_delta, dtype=torch.float32)
    assert torch.equal(wide.lm_head.weight, expected["lm_head.weight"].float())


def test_a_wrong_base_is_told_before_anything_is_loaded(finetuned, delta):
    with pytest.raises(delta_dct.MismatchError, match="the fine-tuned model itself"):
        from_pretrained(finetuned, delta)


def test_swap_replaces_one_model_by_another_in_place(base, finetuned, delta, applied, tmp_path):
    delta_dct.compress(base, finetuned, tmp_path / "raw.ddct", "raw")
    model = from_pretrained(base, tmp_path / "raw.ddct")
    places = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert swap(model, delta, base) > 0
    assert same_weights(model, transformers.AutoModelForImageClassification.from_pretrained(applied))
    assert places == [tensor.data_ptr() for tensor in model.state_dict().values()]
    swap(model, delta_dct.Delta.open(tmp_path / "raw.ddct", base))
    assert same_weights(model, transformers.AutoModelForImageClassification.from_pretrained(finetuned))


def test_swap_casts_where_the_model_has_another_dtype(base, delta):
    model = from_pretrained(base, delta)
    expected = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model = model.half()
    torch.nn.init.zeros_(model.classifier.weight)
    swap(model, delta, base)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_swap_leaves_a_model_of_other_tensors_alone(base, finetuned, delta):
    model = from_pretrained(base, delta)
    model.classifier = torch.nn.Linear(model.config.hidden_size, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(delta_dct.MismatchError, match="classifier"):
        swap(model, delta, base)
    with pytest.raises(delta_dct.MismatchError):
        swap(model, delta, finetuned)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_state_dicts_are_models_as_well(base, finetuned, tmp_path):
    model = transformers.AutoModelForImageClassification.from_pretrained(finetuned).to(torch.bfloat16)
    model.vit.embeddings.tied = model.classifier.weight
    report = delta_dct.compress(base, model.state_dict(), tmp_path / "x.ddct", "lossless")
    assert {tensor["dtype"] for tensor in report["tensors"]} == {"BF16"}
    assert "tied" in {tensor["relation"] for tensor in report["tensors"]}
    found = delta_dct.Delta.open(tmp_path / "x.ddct", base, "pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
