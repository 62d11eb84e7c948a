"""Model cards."""

from delta_dct.card import model_card


def test_a_card_says_what_the_file_is(delta):
    card = model_card(delta, "org/base", repo="me/tuned", figures={"accuracy": "97.1%"}, license="mit")
    _, head, body = card.split("---\n", 2)
    for line in ('base_model: "org/base"', "base_model_relation: finetune", 'license: "mit"', "- delta-dct"):
        assert line in head.splitlines()
    assert body.startswith("\n# tuned\n")
    assert 'from_pretrained("org/base", "me/tuned/demo.ddct")' in body
    assert f"{delta.stat().st_size:,} bytes" in body
    assert "| accuracy | 97.1% |" in body
    assert "figure" not in model_card(delta, "org/base")
