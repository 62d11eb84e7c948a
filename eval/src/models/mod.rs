//! Architectures: a Hugging Face `config.json` and weights in, logits out.

use candle_core::Tensor;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Sentences (or pairs of them) to classes.
    TextClassification,
    /// Pixels to classes.
    ImageClassification,
    /// Tokens to the next token.
    LanguageModel,
}

/// Inputs of one forward pass.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Tokens of `n` rows of the same length: `ids` u32 [n, len], `mask` u32 [n, len] (1 for tokens, 0 for padding;
    /// absent: all tokens), `types` u32 [n, len] (segments; absent: 0).
    Tokens {
        /// Token ids.
        ids: Tensor,
        /// Which of them are tokens.
        mask: Option<Tensor>,
        /// Segments.
        types: Option<Tensor>,
    },
    /// Pixels f32 [n, channels, height, width], normalised.
    Pixels(Tensor),
    /// An encoder's tokens and mask as above, and the tokens that its decoder is given, u32 [n, len].
    Seq2Seq {
        /// Token ids of the encoder.
        ids: Tensor,
        /// Which of them are tokens.
        mask: Option<Tensor>,
        /// Token ids of the decoder.
        decoder_ids: Tensor,
    },
}
