//! Architectures: a Hugging Face `config.json` and weights in, logits out.

mod bert;
mod config;
mod distilbert;
mod gpt2;
mod layers;
mod llama;
mod roberta;
mod swin;
mod t5;
mod vit;

use candle_core::Tensor;
use delta_dct::Error;
use serde_json::Value;

use self::config::Config;
pub(crate) use self::layers::training;
use crate::error::Result;
use crate::weights::{Shapes, Weights};

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

/// A model that can be run.
pub struct Model {
    network: Network,
    task: Task,
}

enum Network {
    Bert(bert::Bert),
    DistilBert(distilbert::DistilBert),
    Gpt2(gpt2::Gpt2),
    Llama(llama::Llama),
    Roberta(roberta::Roberta),
    Swin(swin::Swin),
    T5(t5::T5),
    Vit(vit::Vit),
}

/// Types of models, and what the name of their architecture has to end in.
const KNOWN: [(&str, &str, Task); 9] = [
    ("bert", "ForSequenceClassification", Task::TextClassification),
    ("distilbert", "ForSequenceClassification", Task::TextClassification),
    ("roberta", "ForSequenceClassification", Task::TextClassification),
    ("swin", "ForImageClassification", Task::ImageClassification),
    ("vit", "ForImageClassification", Task::ImageClassification),
    ("gpt2", "LMHeadModel", Task::LanguageModel),
    ("llama", "ForCausalLM", Task::LanguageModel),
    ("qwen2", "ForCausalLM", Task::LanguageModel),
    ("t5", "ForConditionalGeneration", Task::LanguageModel),
];

impl Model {
    /// The architecture that `config` (a `config.json`) names, with `weights`.
    ///
    /// Errors: Unsupported (another architecture), Mismatch (a tensor is missing or of another shape),
    /// InvalidArgument (a field of the config makes no sense).
    pub fn load(config: &Value, weights: &Weights) -> Result<Self> {
        let config = Config(config);
        let (kind, task) = config.kind()?;
        let network = match kind {
            "bert" => Network::Bert(bert::Bert::load(config, weights)?),
            "distilbert" => Network::DistilBert(distilbert::DistilBert::load(config, weights)?),
            "roberta" => Network::Roberta(roberta::Roberta::load(config, weights)?),
            "swin" => Network::Swin(swin::Swin::load(config, weights)?),
            "vit" => Network::Vit(vit::Vit::load(config, weights)?),
            "gpt2" => Network::Gpt2(gpt2::Gpt2::load(config, weights)?),
            "t5" => Network::T5(t5::T5::load(config, weights)?),
            _ => Network::Llama(llama::Llama::load(config, weights)?),
        };
        Ok(Self { network, task })
    }

    /// The names and shapes of all tensors of a model of this `config`. Where the config leaves them open, sizes are
    /// those of `base`. Errors as in [`Model::load`], but Mismatch.
    pub(crate) fn shapes(config: &Value, base: &Weights) -> Result<Shapes> {
        base.shapes_asked(|weights| Self::load(config, weights).map(drop))
    }

    /// What it is for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// [n, labels] of a classifier, [n, len, vocabulary] of a language model.
    ///
    /// Errors: InvalidArgument for a batch that is not for this task.
    pub fn logits(&self, batch: &Batch) -> Result<Tensor> {
        match (&self.network, batch) {
            (Network::Vit(model), Batch::Pixels(pixels)) => model.logits(pixels),
            (Network::Swin(model), Batch::Pixels(pixels)) => model.logits(pixels),
            (Network::T5(model), Batch::Seq2Seq { ids, mask, decoder_ids }) => {
                model.logits(ids, mask.as_ref(), decoder_ids)
            }
            (network, Batch::Tokens { ids, mask, types }) => {
                let (mask, types) = (mask.as_ref(), types.as_ref());
                match network {
                    Network::Bert(model) => model.logits(ids, mask, types),
                    Network::DistilBert(model) => model.logits(ids, mask),
                    Network::Roberta(model) => model.logits(ids, mask, types),
                    Network::Gpt2(model) => model.logits(ids, mask),
                    Network::Llama(model) => model.logits(ids, mask),
                    _ => Err(self.misfit()),
                }
            }
            _ => Err(self.misfit()),
        }
    }

    fn misfit(&self) -> crate::error::Error {
        Error::invalid(format!("this data is not for a model whose task is {:?}", self.task)).into()
    }
}
