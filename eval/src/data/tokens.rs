//! Texts to tokens: a `tokenizer.json`, or the same made of a vocabulary, and what a tokenizer's config says.

use delta_dct::{Error as DeltaError, Result as DeltaResult};
use serde_json::{Value, json};
use tokenizers::{EncodeInput, Encoding, Tokenizer, TruncationParams};

use super::processor::ReadFile;

/// Fewer tokens than this do not hold a text, as the special tokens of a pair alone are up to four.
const MIN_LENGTH: usize = 8;

/// A tokenizer, and how its tokens are put in batches.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// How rows of different lengths are made equal.
    pub(super) padding: Padding,
    /// The most tokens that it says a model takes.
    pub(super) max_length: Option<usize>,
}

/// How rows of different lengths are made equal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Padding {
    /// The token that fills a row.
    pub(super) id: u32,
    /// Whether it is put before the others.
    pub(super) left: bool,
    /// The segment of that token.
    pub(super) segment: u32,
}

/// The tokens of one example.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Token ids.
    pub(super) ids: Vec<u32>,
    /// Segments; empty where all are 0.
    pub(super) segments: Vec<u32>,
}

impl Tokens {
    /// The tokenizer among the files of a model; `None` if there is none. Errors: `Corrupt` if it cannot be read.
    pub(super) fn open(read: ReadFile<'_>, config: &Value) -> DeltaResult<Option<Self>> {
        let settings = json_file(read, "tokenizer_config.json")?;
        let special = json_file(read, "special_tokens_map.json")?;
        let name = |key: &str, default: &str| {
            let found = [&settings, &special].into_iter().find_map(|file| token_name(&file[key]));
            found.unwrap_or(default).to_owned()
        };
        let wrong = |file: &str, e: &dyn std::fmt::Display| DeltaError::corrupt(format!("{file}: {e}"));
        let (file, bytes) = if let Some(bytes) = read("tokenizer.json")? {
            ("tokenizer.json", bytes)
        } else if let Some(vocab) = read("vocab.txt")? {
            ("vocab.txt", word_pieces(&vocab, &settings, name).to_string().into_bytes())
        } else if let (Some(vocab), Some(merges)) = (read("vocab.json")?, read("merges.txt")?) {
            let vocab: Value = serde_json::from_slice(&vocab).map_err(|e| wrong("vocab.json", &e))?;
            let roberta = config["model_type"].as_str().is_some_and(|kind| kind.contains("roberta"));
            let prefix = settings["add_prefix_space"].as_bool().unwrap_or(false);
            ("vocab.json", byte_pairs(vocab, &merges, roberta, prefix, name).to_string().into_bytes())
        } else {
            return Ok(None);
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| wrong(file, &e))?;
        tokenizer.with_padding(None);
        let pad = token_name(&settings["pad_token"]).or(token_name(&special["pad_token"]));
        let pad = pad.and_then(|token| tokenizer.token_to_id(token));
        let id = pad.or_else(|| u32::try_from(config["pad_token_id"].as_u64()?).ok()).unwrap_or(0);
        let left = settings["padding_side"] == "left";
        let segment = settings["pad_token_type_id"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        // A tokenizer without a limit says so with 1e30.
        let max_length =
            settings["model_max_length"].as_f64().filter(|n| (1.0..1e9).contains(n)).map(|n| n as usize);
        Ok(Some(Self { tokenizer, padding: Padding { id, left, segment }, max_length }))
    }

    /// The tokens of texts or pairs of them, cut off after `max_length`.
    pub(super) fn encode(
        &self,
        texts: &[(String, Option<String>)],
        max_length: usize,
    ) -> DeltaResult<Vec<Row>> {
        if max_length < MIN_LENGTH {
            return Err(DeltaError::invalid(format!(
                "a text needs at least {MIN_LENGTH} tokens, not {max_length}"
            )));
        }
        let mut tokenizer = self.tokenizer.clone();
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(failed)?;
        let input = |(first, second): &(String, Option<String>)| match second {
            Some(second) => EncodeInput::from((first.clone(), second.clone())),
            None => EncodeInput::from(first.clone()),
        };
        let encoded = tokenizer.encode_batch_fast(texts.iter().map(input).collect(), true).map_err(failed)?;
        Ok(encoded.iter().map(Row::of).collect())
    }

    /// The tokens of one running text, all of them.
    pub(super) fn encode_all(&self, text: &str) -> DeltaResult<Vec<u32>> {
        let mut tokenizer = self.tokenizer.clone();
        tokenizer.with_truncation(None).map_err(failed)?;
        Ok(tokenizer.encode_fast(text, true).map_err(failed)?.get_ids().to_vec())
    }
}

impl Row {
    fn of(encoding: &Encoding) -> Self {
        let segments = encoding.get_type_ids();
        let segments =
            if segments.iter().all(|&segment| segment == 0) { Vec::new() } else { segments.to_vec() };
        Self { ids: encoding.get_ids().to_vec(), segments }
    }
}

fn failed(error: tokenizers::Error) -> DeltaError {
    DeltaError::invalid(format!("the tokenizer fails: {error}"))
}

/// A file of JSON; null where it is missing.
pub(super) fn json_file(read: ReadFile<'_>, name: &str) -> DeltaResult<Value> {
    let wrong = |e| DeltaError::corrupt(format!("{name}: {e}"));
    read(name)?.map_or(Ok(Value::Null), |bytes| serde_json::from_slice(&bytes).map_err(wrong))
}

/// A token that is given as text, or as an object with its text.
fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn added(vocab: &Value, token: &str) -> Value {
    json!({"id": vocab[token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

/// BERT's tokenizer, of a `vocab.txt` with a token a line.
fn word_pieces(vocab: &[u8], settings: &Value, name: impl Fn(&str, &str) -> String) -> Value {
    let text = String::from_utf8_lossy(vocab);
    let vocab: Value = text.lines().enumerate().map(|(n, token)| (token.to_owned(), json!(n))).collect();
    let unknown = name("unk_token", "[UNK]");
    let (start, end) = (name("cls_token", "[CLS]"), name("sep_token", "[SEP]"));
    let others = [unknown.clone(), name("pad_token", "[PAD]"), name("mask_token", "[MASK]")];
    let special = others.iter().chain([&start, &end]).filter(|token| vocab[token.as_str()].is_number());
    json!({
        "version": "1.0",
        "added_tokens": special.map(|token| added(&vocab, token)).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings["tokenize_chinese_chars"].as_bool().unwrap_or(true),
            "strip_accents": settings["strip_accents"].as_bool(),
            "lowercase": settings["do_lower_case"].as_bool().unwrap_or(true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": [end, vocab[&end]], "cls": [start, vocab[&start]]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// GPT-2's or RoBERTa's tokenizer, of a `vocab.json` and the lines of a `merges.txt`.
fn byte_pairs(
    vocab: Value,
    merges: &[u8],
    roberta: bool,
    prefix: bool,
    name: impl Fn(&str, &str) -> String,
) -> Value {
    let text = String::from_utf8_lossy(merges);
    let merges: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
    let (start, end) = (name("cls_token", "<s>"), name("sep_token", "</s>"));
    let mut special = vec![name("unk_token", "<|endoftext|>"), name("eos_token", "<|endoftext|>")];
    let mut processor = level.clone();
    if roberta {
        special = vec![start.clone(), name("pad_token", "<pad>"), end.clone(), name("unk_token", "<unk>")];
        special.push(name("mask_token", "<mask>"));
        processor = json!({"type": "RobertaProcessing", "sep": [end, vocab[&end]], "cls": [start, vocab[&start]],
                           "trim_offsets": true, "add_prefix_space": prefix});
    }
    special.dedup();
    let special = special.iter().filter(|token| vocab[token.as_str()].is_number());
    json!({
        "version": "1.0",
        "added_tokens": special.map(|token| added(&vocab, token)).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": false, "vocab": vocab, "merges": merges},
    })
}
