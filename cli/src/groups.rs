//! Sums over the tensors of a file by what they do in the model, for tables that people read.
//!
//! The group of a tensor follows from its name and its number of dimensions, by the first rule that fits:
//!
//! | group | rule |
//! |---|---|
//! | head | a component of the name is `lm_head`, `score`, `qa_outputs`, `head`, `cls`, or contains `classifier` |
//! | norm & bias | at most one dimension |
//! | embeddings | the name contains `embed`, or a component is `wte`, `wpe` or `shared` |
//! | attention | the name contains `attention` or `attn`, or a component is `q_proj`, `k_proj`, `v_proj`, `o_proj` |
//! | mlp | the name contains `mlp`, `ffn`, `feed_forward`, `dense`, `fc1`, `fc2`, `experts` |
//! | other | everything else |

use delta_dct::TensorSummary;
use serde::Serialize;

use crate::units;

/// Names of the groups, in the order of tables.
const GROUPS: [&str; 6] = ["embeddings", "attention", "mlp", "norm & bias", "head", "other"];

/// Sums over tensors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Group {
    /// What the tensors have in common.
    pub(crate) group: &'static str,
    /// How many they are.
    pub(crate) tensors: usize,
    /// Their elements.
    pub(crate) weights: u64,
    /// Bytes of their records.
    pub(crate) bytes: u64,
    /// `8 bytes / weights`.
    pub(crate) bpw: Option<f64>,
    /// Mean of the relative errors of the tensors that are not exact, weighted by their elements.
    pub(crate) relative_error: Option<f64>,
}

impl Group {
    /// The sums over `tensors`, under the name `group`.
    pub(crate) fn of<'a>(group: &'static str, tensors: impl IntoIterator<Item = &'a TensorSummary>) -> Self {
        let tensors: Vec<&TensorSummary> = tensors.into_iter().collect();
        let (weights, bytes) = (sum(&tensors, |t| t.weights), sum(&tensors, |t| t.bytes));
        Self {
            group,
            tensors: tensors.len(),
            weights,
            bytes,
            bpw: units::bits_per_weight(bytes, weights),
            relative_error: TensorSummary::mean_error(tensors),
        }
    }
}

fn sum(tensors: &[&TensorSummary], of: impl Fn(&TensorSummary) -> u64) -> u64 {
    tensors.iter().map(|tensor| of(tensor)).sum()
}

/// The sums of every group that has tensors.
pub(crate) fn groups(tensors: &[TensorSummary]) -> Vec<Group> {
    let of = |group| Group::of(group, tensors.iter().filter(|t| group_of(&t.name, t.shape.len()) == group));
    GROUPS.into_iter().map(of).filter(|sum| sum.tensors > 0).collect()
}

/// The group of a tensor with this name and number of dimensions.
fn group_of(name: &str, dimensions: usize) -> &'static str {
    let name = name.to_lowercase();
    let is = |words: &[&str]| name.split('.').any(|part| words.contains(&part));
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if is(&["lm_head", "score", "qa_outputs", "head", "cls"]) || has(&["classifier"]) {
        "head"
    } else if dimensions < 2 {
        "norm & bias"
    } else if has(&["embed"]) || is(&["wte", "wpe", "shared"]) {
        "embeddings"
    } else if has(&["attention", "attn"]) || is(&["q_proj", "k_proj", "v_proj", "o_proj"]) {
        "attention"
    } else if has(&["mlp", "ffn", "feed_forward", "dense", "fc1", "fc2", "experts"]) && !has(&["pooler"]) {
        "mlp"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_usual_architectures_fall_into_their_groups() {
        for (name, dimensions, group) in [
            ("bert.embeddings.word_embeddings.weight", 2, "embeddings"),
            ("bert.embeddings.LayerNorm.weight", 1, "norm & bias"),
            ("bert.encoder.layer.3.attention.output.dense.weight", 2, "attention"),
            ("bert.encoder.layer.3.intermediate.dense.weight", 2, "mlp"),
            ("bert.encoder.layer.3.output.dense.weight", 2, "mlp"),
            ("bert.pooler.dense.weight", 2, "other"),
            ("classifier.weight", 2, "head"),
            ("classifier.bias", 1, "head"),
            ("vit.embeddings.patch_embeddings.projection.weight", 4, "embeddings"),
            ("vit.embeddings.cls_token", 3, "embeddings"),
            ("transformer.h.0.attn.c_attn.weight", 2, "attention"),
            ("transformer.wte.weight", 2, "embeddings"),
            ("model.layers.0.self_attn.q_proj.weight", 2, "attention"),
            ("model.layers.0.mlp.down_proj.weight", 2, "mlp"),
            ("model.norm.weight", 1, "norm & bias"),
            ("lm_head.weight", 2, "head"),
            ("encoder.block.0.layer.0.SelfAttention.q.weight", 2, "attention"),
            ("encoder.block.0.layer.1.DenseReluDense.wi.weight", 2, "mlp"),
            ("distilbert.transformer.layer.0.ffn.lin1.weight", 2, "mlp"),
        ] {
            assert_eq!(group_of(name, dimensions), group, "{name}");
        }
    }
}
