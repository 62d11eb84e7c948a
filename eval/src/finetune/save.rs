//! What was trained to a folder that `transformers` reads.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use delta_dct::{CheckpointWriter, Dtype, Error, Layout, OutputFolder, Shard};
use serde_json::Value;

use crate::error::Result;

/// Files of the base that say how inputs are made, and go with the model.
const CARRIED: [&str; 10] = [
    "added_tokens.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// Writes `config`, the tensors and the files of `base` that say how inputs are made.
pub(super) fn write<'a>(
    output: &OutputFolder,
    base: &Path,
    config: &Value,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
) -> Result<()> {
    let tensors: BTreeMap<&str, &Tensor> = tensors.collect();
    let about =
        |(name, tensor): (&&str, &&Tensor)| ((*name).to_owned(), (Dtype::F32, tensor.dims().to_vec()));
    let format = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let shard = Shard { file: "model.safetensors".to_owned(), metadata: format, tensors: None };
    let layout = Layout { shards: vec![shard], index_metadata: None };
    let writer = CheckpointWriter::create(output.path(), &layout, &tensors.iter().map(about).collect())?;
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(name, 0, &bytes)?;
    }
    writer.finish()?;
    output.write("config.json", format!("{config:#}\n").as_bytes())?;
    for name in CARRIED {
        let path = base.join(name);
        if path.is_file() {
            output.write(name, &std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?)?;
        }
    }
    Ok(())
}
