//! How finely a tensor deserves to be coded, by its place in the model.
//!
//! An error of the first layers goes through all that follow, and into every token; one of the last layers into little.
//! What reads the input is the first of all. The table that gives the logits of a language model is read as it is, but few
//! of its rows matter at a time. Of a table of tokens an input sees few rows. Both see the fewer of them the more there are.
//! In a layer, the values and the output of attention are few weights that all tokens go through; where it looks matters
//! less. Few tokens go through an expert.

use std::collections::BTreeMap;

use super::selection::is_head;

/// Tables of tokens: of encoders, and of models that may give logits by the same table.
const ENCODER_TABLES: &[&str] = &["word_embeddings"];
const TABLES: &[&str] = &["embed_tokens", "wte", "shared", "tok_embeddings"];
/// Tables whose products are logits.
const OUTPUTS: &[&str] = &["lm_head", "embed_out"];
/// What makes vectors of an image.
const INPUTS: &[&str] = &["patch_embed", "patch_embeddings", "patch_embedding"];

/// The values of attention and its output, which is two parts in the names of BERT.
const VALUES: &[&str] = &["value", "v_proj", "v_lin", "o_proj", "out_proj", "out_lin"];
const ATTENTION_OUTPUT: &str = "attention.output.dense.";
const EXPERTS: &[&str] = &["experts"];

/// For a table that gives logits, and one that does not, of so many tokens; for one of others, times the fourth root of how many
/// times more it has.
const OUTPUT: (f32, f32) = (0.4, 4_096.0);
const TABLE: (f32, f32) = (1.5, 32_000.0);
const INPUT: f32 = 0.4;
/// The first and the last of the layers; those between them in proportion.
pub(super) const FIRST_LAYER: f32 = 0.8;
const LAST_LAYER: f32 = 1.3;
/// What attention passes on, in steps of its layer.
const VALUE: f32 = 0.75;
/// One expert of several, in steps of its layer.
const EXPERT: f32 = 1.8;

/// What the names of a model tell of its structure.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// The number of the last layer in each stack: `model.layers.` of `model.layers.7.mlp.weight`.
    last: BTreeMap<String, u32>,
    /// Whether a table of tokens gives the logits, too.
    tied: bool,
}

impl Roles {
    /// The roles in a model of these tensors, of which each is named once.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut last = BTreeMap::new();
        let mut tied = true;
        for name in names {
            tied &= !is_head(name) && !has_part(name, OUTPUTS);
            if let Some((stack, layer)) = layer(name) {
                let last = last.entry(stack.to_owned()).or_insert(layer);
                *last = layer.max(*last);
            }
        }
        Self { last, tied }
    }

    /// How many times the standard step is right for the matrix `name` of that many rows.
    pub(super) fn coarseness(&self, name: &str, rows: usize) -> f32 {
        let is_table = has_part(name, TABLES);
        let of_table = match has_part(name, OUTPUTS) || is_table && self.tied {
            true => Some(OUTPUT),
            false => (is_table || has_part(name, ENCODER_TABLES)).then_some(TABLE),
        };
        if let Some((of_table, usual)) = of_table {
            return of_table * by_number(rows, usual);
        }
        if has_part(name, INPUTS) {
            return INPUT;
        }
        let of_layer = match layer(name).and_then(|(stack, layer)| Some((layer, *self.last.get(stack)?))) {
            Some((layer, last)) if last > 0 => {
                FIRST_LAYER + (LAST_LAYER - FIRST_LAYER) * layer as f32 / last as f32
            }
            _ => 1.0,
        };
        let is_value = has_part(name, VALUES) || name.contains(ATTENTION_OUTPUT);
        let of_part = match (has_part(name, EXPERTS), is_value) {
            (true, _) => EXPERT,
            (_, true) => VALUE,
            _ => 1.0,
        };
        of_part * of_layer
    }
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
pub(super) fn has_part(name: &str, parts: &[&str]) -> bool {
    name.split('.').any(|part| parts.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_layers_are_finer_than_the_last() {
        let names =
            ["h.0.attn.weight", "h.1.attn.weight", "h.10.attn.weight", "wte.weight", "lm_head.weight"];
        let roles = Roles::of(names.into_iter());
        let found: Vec<f32> = names.iter().map(|name| roles.coarseness(name, 32_000)).collect();
        assert_eq!(found, [0.8, 0.85, 1.3, TABLE.0, OUTPUT.0 * by_number(32_000, OUTPUT.1)]);
        assert_eq!(roles.coarseness("ln_f.weight", 32_000), 1.0);
    }

    #[test]
    fn what_attention_passes_on_is_finer_than_where_it_looks() {
        let coarseness = |part: &str| {
            let names = [0, 1].map(|layer| format!("encoder.layer.{layer}.{part}.weight"));
            Roles::of(names.iter().map(String::as_str)).coarseness(&names[0], 384)
        };
        for part in ["attention.self.query", "attention.k_proj", "output.dense", "mlp.fc1"] {
            assert_eq!(coarseness(part), FIRST_LAYER, "{part}");
        }
        for part in ["attention.self.value", "self_attn.v_proj", "attention.output.dense", "self_attn.o_proj"]
        {
            assert_eq!(coarseness(part), FIRST_LAYER * VALUE, "{part}");
        }
    }

    #[test]
    fn experts_are_coarser_than_what_all_tokens_go_through() {
        let roles = Roles::default();
        for name in ["model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.7.w1.weight"] {
            assert_eq!(roles.coarseness(name, 96), EXPERT, "{name}");
        }
        assert_eq!(roles.coarseness("model.layers.0.mlp.shared_expert.w1.weight", 96), 1.0);
    }

    #[test]
    fn a_table_that_gives_logits_is_fine() {
        let tied = Roles::of(["model.embed_tokens.weight", "model.layers.0.mlp.weight"].into_iter());
        assert_eq!(tied.coarseness("model.embed_tokens.weight", 4_096), OUTPUT.0);
        assert_eq!(tied.coarseness("model.embed_tokens.weight", 16 * 4_096), 2.0 * OUTPUT.0);
        assert_eq!(tied.coarseness("lm_head.weight", 4_096), OUTPUT.0);
        assert_eq!(tied.coarseness("model.layers.0.mlp.weight", 32_000), 1.0);
        let classifier =
            Roles::of(["bert.embeddings.word_embeddings.weight", "classifier.weight"].into_iter());
        assert_eq!(classifier.coarseness("bert.embeddings.word_embeddings.weight", 32_000), TABLE.0);
        assert_eq!(classifier.coarseness("bert.embeddings.word_embeddings.weight", 2_000), TABLE.0 / 2.0);
    }
}
