//! The shape of a Llama-like model of about a wanted number of weights.

use serde_json::json;

/// Sizes of a decoder with grouped-query attention and a gated MLP, embedding and head not tied.
#[derive(Clone, Copy, Debug)]
pub struct Llama {
    /// Rows of the embedding and of the head.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder layers.
    pub layers: usize,
}

const HEAD_WIDTH: usize = 128;
/// Query heads that share a key and a value head.
const GROUP: usize = 4;
/// Widths of published models keep about this ratio to the number of layers.
const HIDDEN_PER_LAYER: f64 = 100.0;
/// Weights of a layer, in squares of the hidden width.
const LAYER_SQUARES: f64 = 10.5;

impl Llama {
    /// A model of about `weights` weights, near to the proportions of published ones.
    pub fn of(weights: f64, vocabulary: usize) -> Self {
        const UNIT: usize = HEAD_WIDTH * GROUP;
        let hidden = (weights * HIDDEN_PER_LAYER / LAYER_SQUARES).cbrt() as usize;
        let hidden = ((hidden + UNIT / 2) / UNIT).max(1) * UNIT;
        let intermediate = (hidden * 8 / 3).next_multiple_of(256);
        let one = Self { vocabulary, hidden, intermediate, layers: 1 };
        let layer: usize = one.layer(0).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let rest = weights - (2 * vocabulary * hidden) as f64;
        Self { layers: (rest / layer as f64).round().max(1.0) as usize, ..one }
    }

    /// Names and shapes (out x in) of all tensors, in the order in which they are stored.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let words = vec![self.vocabulary, self.hidden];
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), words.clone())];
        tensors.extend((0..self.layers).flat_map(|layer| self.layer(layer)));
        tensors.push(("model.norm.weight".to_owned(), vec![self.hidden]));
        tensors.push(("lm_head.weight".to_owned(), words));
        tensors
    }

    /// The text of a Hugging Face `config.json`; `dtype` in PyTorch's words.
    pub fn config(&self, dtype: &str) -> String {
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden / HEAD_WIDTH,
            "num_key_value_heads": self.hidden / HEAD_WIDTH / GROUP,
            "tie_word_embeddings": false,
            "torch_dtype": dtype,
        });
        format!("{config:#}\n")
    }

    fn layer(&self, layer: usize) -> Vec<(String, Vec<usize>)> {
        let (h, i, kv) = (self.hidden, self.intermediate, self.hidden / GROUP);
        let parts: [(&str, Vec<usize>); 9] = [
            ("input_layernorm", vec![h]),
            ("self_attn.q_proj", vec![h, h]),
            ("self_attn.k_proj", vec![kv, h]),
            ("self_attn.v_proj", vec![kv, h]),
            ("self_attn.o_proj", vec![h, h]),
            ("post_attention_layernorm", vec![h]),
            ("mlp.gate_proj", vec![i, h]),
            ("mlp.up_proj", vec![i, h]),
            ("mlp.down_proj", vec![h, i]),
        ];
        parts.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_weights_is_near_the_wanted_one() {
        for wanted in [5e7, 2e8, 1e9, 2e9, 7e9] {
            let tensors = Llama::of(wanted, 8000).tensors();
            let weights: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert!((weights as f64 / wanted - 1.0).abs() < 0.2, "{weights} of {wanted}");
        }
    }
}
