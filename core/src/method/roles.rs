//! How finely a tensor deserves to be coded, by its place in the model.
//!
//! An error of the first layers goes through all that follow, and into every token; one of the last layers into little.
//! What reads the input is the first of all, and positions are in all vectors. The table that gives the logits of a language
//! model is read as it is, but few of its rows matter at a time. Of a table of tokens an input sees few rows. Both see the
//! fewer of them the more there are. In a layer, the values and the output of attention are few weights that all tokens go
//! through; where it looks matters less. Few tokens go through an expert. And noise harms by how strong it is beside the
//! weights, whatever the delta it comes with.

use std::collections::BTreeMap;

/// Parts of names that make a tensor part of a classification head.
const HEADS: &[&str] = &[
    "classifier",
    "pre_classifier",
    "classification_head",
    "score",
    "qa_outputs",
    "head",
    "heads",
    "logits",
    "logits_proj",
];
/// Modules that are tables of tokens. One inside of a module `embeddings` is that of an encoder.
const TABLES: &[&str] = &[
    "embed_tokens",
    "embed_in",
    "wte",
    "shared",
    "tok_embeddings",
    "token_embedding",
    "word_embedding",
    "word_embeddings",
    EMBEDDINGS,
];
const EMBEDDINGS: &str = "embeddings";
/// Modules outside of layers that make logits. Of `predictions` there is a bias alone.
const OUTPUTS: &[&str] =
    &["lm_head", "embed_out", "output", "decoder", "vocab_projector", "proj_out", "predictions"];
/// Parts of names, and texts in them, of what makes vectors of an image, and of sound.
const PATCHES: &[&str] = &["patch_embed", "patch_embeddings", "patch_embedding", "embedder"];
const SOUND: &[&str] = &["feature_extractor.conv_layers.", "encoder.conv1.", "encoder.conv2."];
/// Modules that are tables of positions.
const POSITIONS: &[&str] = &[
    "position_embeddings",
    "position_embedding",
    "positional_embedding",
    "embed_positions",
    "pos_embed",
    "wpe",
];

/// Modules of an attention that make its values, and its output of them. The last ones may be anything elsewhere.
const VALUES: &[&str] = &[
    "value",
    "value_proj",
    "v_proj",
    "v_lin",
    "v",
    "wv",
    "to_v",
    "o_proj",
    "out_proj",
    "out_lin",
    "o",
    "wo",
    "to_out",
    "output",
    "dense",
    "proj",
    "projection",
    "c_proj",
];
const EXPERTS: &[&str] = &["experts"];

/// A table, or what reads the input.
#[derive(Clone, Copy)]
struct Place {
    coarseness: f32,
    /// For so many tokens, or positions; for another number, times the fourth root of how many times more there are.
    tokens: Option<f32>,
    /// How strong its delta usually is beside those of the layers, each in root mean squares of its weights.
    strength: f32,
}

/// A table that gives logits, and one that does not.
const OUTPUT: Place = Place { coarseness: 0.4, tokens: Some(4_096.0), strength: 1.3 };
const TABLE: Place = Place { coarseness: 1.5, tokens: Some(32_000.0), strength: 0.7 };
const POSITION: Place = Place { coarseness: 0.5, tokens: Some(64.0), strength: 1.0 };
const INPUT: Place = Place { coarseness: 0.4, tokens: None, strength: 0.6 };
/// The first and the last of the layers; those between them in proportion.
pub(super) const FIRST_LAYER: f32 = 0.8;
const LAST_LAYER: f32 = 1.3;
/// What attention passes on, in steps of its layer.
const VALUE: f32 = 0.75;
/// One expert of several, in steps of its layer.
const EXPERT: f32 = 1.8;
/// A delta that is more than `ALIKE` times as strong, or as weak, as usual beside those of the layers has a step by what it is
/// more than that: noise harms by how strong it is beside the weights, while steps count in root mean squares of the delta. Layers
/// that learned more slowly have such, and matrices of small weights.
const ALIKE: f32 = 5.0 / 3.0;
const STRENGTH: f32 = 0.7;

/// What the names of a model tell of its structure.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// The number of the last layer in each stack: `model.layers.` of `model.layers.7.mlp.weight`.
    last: BTreeMap<String, u32>,
    /// Root mean squares of deltas, each in that of its weights, beside those of the layers (their geometric mean).
    strengths: BTreeMap<String, f32>,
    /// Whether a table of tokens gives the logits, too: that of a decoder without head and output, and that of an encoder
    /// which has the bias of an output, but not its matrix.
    tied_decoder: bool,
    tied_encoder: bool,
}

/// The KL that errors of weights make in a transformer for images, where they make 1 in a language model; as measured
/// (docs/measured.md), from 0.02 to 0.5.
const IMAGES: f64 = 1.0 / 3.0;

/// The KL that errors of its weights make in a model of these tensors, where they make 1 in a language model. Of those that
/// read images, convolutional networks are not more forgiving.
pub(crate) fn sensitivity<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let (mut images, mut attention, mut tokens) = (false, false, false);
    for name in names {
        images |= has_part(name, PATCHES);
        attention |= is_value(name);
        tokens |= TABLES.contains(&module(name));
    }
    if images && attention && !tokens { IMAGES } else { 1.0 }
}

impl Roles {
    /// The roles in a model of these tensors, of which each is named once.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>, strengths: &BTreeMap<String, f32>) -> Self {
        let mut last = BTreeMap::new();
        let mut in_layers: Vec<f32> = Vec::new();
        let (mut head, mut output, mut output_bias) = (false, false, false);
        for name in names {
            head |= is_head(name);
            match name.ends_with(".bias") {
                true => output_bias |= is_output(name),
                false => output |= is_output(name),
            }
            if let Some((stack, layer)) = layer(name) {
                let last = last.entry(stack.to_owned()).or_insert(layer);
                *last = layer.max(*last);
                in_layers.extend(strengths.get(name).filter(|strength| strength.is_normal()));
            }
        }
        let mean = in_layers.iter().map(|strength| strength.ln()).sum::<f32>() / in_layers.len() as f32;
        let strengths = strengths.iter().map(|(name, strength)| (name.clone(), strength / mean.exp()));
        Self {
            last,
            // Neither what has no delta in the sample, nor any where no layer has one.
            strengths: strengths.filter(|(_, strength)| strength.is_normal()).collect(),
            tied_decoder: !head && !output,
            tied_encoder: output_bias && !output,
        }
    }

    /// How many times the standard step is right for the matrix `name` of that many rows.
    pub(super) fn coarseness(&self, name: &str, rows: usize) -> f32 {
        if let Some(place) = self.place(name) {
            let by_tokens = place.tokens.map_or(1.0, |tokens| by_number(rows, tokens));
            return place.coarseness * by_tokens * self.by_strength(name, place.strength);
        }
        let Some((stack, layer)) = layer(name) else { return 1.0 };
        let of_layer = match self.last.get(stack) {
            Some(&last) if last > 0 => FIRST_LAYER + (LAST_LAYER - FIRST_LAYER) * layer as f32 / last as f32,
            _ => 1.0,
        };
        let of_part = match (has_part(name, EXPERTS), is_value(name)) {
            (true, _) => EXPERT,
            (_, true) => VALUE,
            _ => 1.0,
        };
        of_part * of_layer * self.by_strength(name, 1.0)
    }

    /// What the step is times for the strength of the delta of `name`, where that is `usual` beside those of the layers.
    fn by_strength(&self, name: &str, usual: f32) -> f32 {
        let strength = self.strengths.get(name).map_or(1.0, |strength| strength / usual);
        let beyond = strength / strength.clamp(1.0 / ALIKE, ALIKE);
        beyond.powf(-STRENGTH).clamp(0.25, 4.0)
    }

    /// The place of `name`, if it is a table or reads the input.
    fn place(&self, name: &str) -> Option<Place> {
        let module = module(name);
        if POSITIONS.contains(&module) {
            return Some(POSITION);
        }
        if TABLES.contains(&module) {
            let is_encoder = module != EMBEDDINGS && has_part(name, &[EMBEDDINGS]);
            let is_tied = if is_encoder { self.tied_encoder } else { self.tied_decoder };
            return Some(if is_tied { OUTPUT } else { TABLE });
        }
        let is_output = is_output(name) || is_head(name);
        is_output.then_some(OUTPUT).or_else(|| is_input(name).then_some(INPUT))
    }
}

/// Whether `name` is part of a classification head, or a table of logits that is called so.
pub(super) fn is_head(name: &str) -> bool {
    has_part(name, HEADS)
}

/// Whether `name` is part of what makes vectors of an image or of sound, all of which have its bias.
pub(super) fn is_input(name: &str) -> bool {
    has_part(name, PATCHES) || SOUND.iter().any(|part| name.contains(part))
}

fn is_output(name: &str) -> bool {
    layer(name).is_none() && OUTPUTS.contains(&module(name))
}

fn is_value(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    VALUES.contains(&module(&name)) && ["attn", "attention"].iter().any(|part| name.contains(part))
}

/// The module that has the tensor `name`: the last part that is neither a number nor what it is there.
fn module(name: &str) -> &str {
    let is_module = |part: &&str| !matches!(*part, "weight" | "bias") && part.parse::<u32>().is_err();
    name.rsplit('.').find(is_module).unwrap_or_default()
}

/// The stack and the number of the layer that `name` is in: what is before the first part that is a number, and that.
fn layer(name: &str) -> Option<(&str, u32)> {
    let mut start = 0;
    for part in name.split('.') {
        if let Ok(layer) = part.parse() {
            return Some((&name[..start], layer));
        }
        start += part.len() + 1;
    }
    None
}

/// What a step is times where there are `n` and not the usual number of rows, or weights, of which each counts the less the
/// more there are: the fourth root of how many times more.
pub(super) fn by_number(n: usize, usual: f32) -> f32 {
    (n as f32 / usual).sqrt().sqrt()
}

/// Whether one of the `parts` is between dots in `name`.
fn has_part(name: &str, parts: &[&str]) -> bool {
    name.split('.').any(|part| parts.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Roles {
        Roles::of(names.iter().copied(), &BTreeMap::new())
    }

    #[test]
    fn first_layers_are_finer_than_the_last() {
        let names =
            ["h.0.attn.weight", "h.1.attn.weight", "h.10.attn.weight", "wte.weight", "lm_head.weight"];
        let roles = of(&names);
        let found: Vec<f32> = names.iter().map(|name| roles.coarseness(name, 32_000)).collect();
        assert_eq!(found, [0.8, 0.85, 1.3, TABLE.coarseness, OUTPUT.coarseness * by_number(32_000, 4_096.0)]);
        assert_eq!(roles.coarseness("ln_f.weight", 32_000), 1.0);
    }

    #[test]
    fn an_unusually_weak_delta_has_a_coarser_step() {
        let by = |beyond: f32| beyond.powf(-STRENGTH);
        let strengths = [
            ("h.0.mlp.weight", 0.5, FIRST_LAYER * by(0.5 * ALIKE)),
            ("h.1.mlp.weight", 2.0, LAST_LAYER * by(2.0 / ALIKE)),
            ("wte.weight", 2.0, OUTPUT.coarseness),
            ("shared.weight", 4.0 * OUTPUT.strength, OUTPUT.coarseness * by(4.0 / ALIKE)),
            ("patch_embed.proj.weight", 1e-6, INPUT.coarseness * 4.0),
            ("embed_in.weight", 0.0, OUTPUT.coarseness),
            ("pooler.weight", 0.01, 1.0),
        ];
        let given = BTreeMap::from(strengths.map(|(name, strength, _)| (name.to_owned(), strength)));
        let roles = Roles::of(strengths.iter().map(|(name, ..)| *name), &given);
        for (name, _, expected) in strengths {
            let found = roles.coarseness(name, 4_096);
            assert!((found / expected - 1.0).abs() < 1e-5, "{name}: {found}, not {expected}");
        }
    }

    #[test]
    fn what_attention_passes_on_is_finer_than_where_it_looks() {
        let coarseness = |part: &str| {
            let names = [0, 1].map(|layer| format!("encoder.layer.{layer}.{part}.weight"));
            of(&names.each_ref().map(String::as_str)).coarseness(&names[0], 384)
        };
        for part in ["attention.self.query", "attention.k_proj", "output.dense", "mlp.fc1"] {
            assert_eq!(coarseness(part), FIRST_LAYER, "{part}");
        }
        for part in [
            "attention.self.value",
            "attention.self.value_proj",
            "attention.output.dense",
            "attention.dense",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "SelfAttention.v",
            "attn.c_proj",
            "attn.Wo",
            "attn1.to_out.0",
        ] {
            assert_eq!(coarseness(part), FIRST_LAYER * VALUE, "{part}");
        }
        for part in ["mlp.c_proj", "mlp.Wo", "feed_forward.value", "mlp.dense", "attention.query_key_value"] {
            assert_eq!(coarseness(part), FIRST_LAYER, "{part}");
        }
    }

    /// Names of transformers' models, of timm's and of OpenCLIP's.
    #[test]
    fn what_all_inputs_go_through_is_fine() {
        let roles = Roles::default();
        for name in [
            "vit.embeddings.patch_embeddings.projection.weight",
            "patch_embed.proj.weight",
            "wav2vec2.feature_extractor.conv_layers.0.conv.weight",
            "model.encoder.conv2.weight",
        ] {
            assert_eq!(roles.coarseness(name, 64), INPUT.coarseness, "{name}");
        }
        for name in [
            "vit.embeddings.position_embeddings",
            "vision_model.embeddings.position_embedding.weight",
            "pos_embed",
            "visual.positional_embedding",
            "model.decoder.embed_positions.weight",
            "transformer.wpe.weight",
        ] {
            for (rows, expected) in [(64, POSITION.coarseness), (1_024, 2.0 * POSITION.coarseness)] {
                assert_eq!(roles.coarseness(name, rows), expected, "{name}");
            }
        }
        assert_eq!(roles.coarseness("model.encoder.layers.0.conv1.weight", 64), 1.0);
    }

    /// Names of transformers' models, and of timm's.
    #[test]
    fn attention_on_images_alone_is_forgiving() {
        let patches = [
            (
                "vit.embeddings.patch_embeddings.projection.weight",
                "vit.encoder.layer.0.attention.attention.value.weight",
            ),
            ("patch_embed.proj.weight", "blocks.0.attn.proj.weight"),
            ("vision_model.embeddings.patch_embedding.weight", "encoder.layers.0.self_attn.v_proj.weight"),
        ];
        let of = |names: &[&str]| sensitivity(names.iter().copied());
        for (name, value) in patches {
            assert_eq!(of(&[name, value]), IMAGES, "{name}");
            assert_eq!(of(&[name, "layers.0.mlp.weight"]), 1.0, "{name} without attention");
            for table in ["text_model.embeddings.token_embedding.weight", "model.embed_tokens.weight"] {
                assert_eq!(of(&[name, value, table]), 1.0, "{name} {table}");
            }
        }
        assert_eq!(of(&[patches[0].1]), 1.0);
        let sound =
            ["encoder.layers.0.attention.v_proj.weight", "feature_extractor.conv_layers.0.conv.weight"];
        assert_eq!(of(&sound), 1.0);
    }

    #[test]
    fn experts_are_coarser_than_what_all_tokens_go_through() {
        let roles = Roles::default();
        for name in ["model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.7.w1.weight"] {
            assert_eq!(roles.coarseness(name, 96), EXPERT, "{name}");
        }
        assert_eq!(roles.coarseness("model.layers.0.mlp.shared_expert.w1.weight", 96), 1.0);
    }

    /// Names of transformers' models, of which a part tells the role of the first.
    #[test]
    fn a_table_that_gives_logits_is_fine() {
        let gives_logits: [&[&str]; 9] = [
            &["model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"],
            &["lm_head.weight", "model.embed_tokens.weight"],
            &["transformer.wte.weight"],
            &["transformer.word_embeddings.weight"],
            &["backbone.embeddings.weight"],
            &["embed_out.weight", "gpt_neox.embed_in.weight"],
            &["head.weight", "rwkv.embeddings.weight"],
            &["bert.embeddings.word_embeddings.weight", "cls.predictions.bias"],
            &["roberta.embeddings.word_embeddings.weight", "lm_head.bias", "lm_head.dense.weight"],
        ];
        let gives_none: [&[&str]; 8] = [
            &["model.embed_tokens.weight", "lm_head.weight"],
            &["model.embed_tokens.weight", "score.weight"],
            &["gpt_neox.embed_in.weight", "embed_out.weight"],
            &["rwkv.embeddings.weight", "head.weight"],
            &["embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"],
            &["bert.embeddings.word_embeddings.weight", "classifier.weight", "classifier.bias"],
            &[
                "bert.embeddings.word_embeddings.weight",
                "cls.predictions.bias",
                "cls.predictions.decoder.weight",
            ],
            &["text_model.embeddings.token_embedding.weight"],
        ];
        let coarseness = |names: &[&str], rows| of(names).coarseness(names[0], rows);
        for names in gives_logits {
            assert_eq!(coarseness(names, 4_096), OUTPUT.coarseness, "{names:?}");
            assert_eq!(coarseness(names, 16 * 4_096), 2.0 * OUTPUT.coarseness, "{names:?}");
        }
        for names in gives_none {
            assert_eq!(coarseness(names, 32_000), TABLE.coarseness, "{names:?}");
            assert_eq!(coarseness(names, 2_000), TABLE.coarseness / 2.0, "{names:?}");
        }
        assert_eq!(coarseness(&["lm_head.dense.weight", "lm_head.bias"], 768), 1.0);
    }
}
