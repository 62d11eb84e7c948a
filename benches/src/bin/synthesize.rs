//! Writes a base and a fine-tuned model of any size, as Hugging Face folders of several files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use delta_dct::{CheckpointWriter, Dtype, Layout, Result, Shard};
use delta_dct_benches::{Llama, Tensor, hash_name};
use rayon::prelude::*;

/// Bytes of a file at most, where a single tensor is not larger.
const SHARD_BYTES: usize = 2_000_000_000;
/// Weights that are made at a time by each thread.
const PIECE: usize = 1 << 19;

/// Write DIR/base and DIR/finetuned: a Llama-like model and one that differs from it as a fine-tune does.
#[derive(Parser)]
struct Options {
    /// Number of weights, about
    #[arg(long, default_value_t = 2e9)]
    weights: f64,
    /// Type of the weights
    #[arg(long, value_enum, default_value_t = Format::Bf16)]
    dtype: Format,
    /// Rows of the embedding and of the head
    #[arg(long, default_value_t = 32_000)]
    vocabulary: usize,
    /// Another pair for another number
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder, which must not hold a pair already
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Bf16,
    F32,
}

impl Format {
    fn dtype(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
        }
    }

    fn torch_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// Appends `values`, rounded to nearest, ties to even.
    fn write(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|x| {
                let bits = x.to_bits();
                ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).to_le_bytes().into_iter().take(2)
            })),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let start = Instant::now();
    let model = Llama::of(options.weights, options.vocabulary);
    let tensors = model.tensors();
    let layout = layout(&tensors, options.dtype.bytes());
    let create = |name: &str| {
        let folder = options.out.join(name);
        create_folder(&folder, &model.config(options.dtype.torch_name()))?;
        let info =
            |(name, shape): &(String, Vec<usize>)| (name.clone(), (options.dtype.dtype(), shape.clone()));
        CheckpointWriter::create(&folder, &layout, &tensors.iter().map(info).collect())
    };
    let (base, finetuned) = (create("base")?, create("finetuned")?);
    for (name, shape) in &tensors {
        let tensor = Tensor::new(hash_name(options.seed, name), shape);
        fill(&tensor, name, shape, options.dtype, [&base, &finetuned])?;
    }
    base.finish()?;
    finetuned.finish()?;
    let weights: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{model:?}");
    println!(
        "2 x {weights} weights, {} tensors, {} files each; {seconds:.1} s, {:.0} MB/s",
        tensors.len(),
        layout.shards.len(),
        (2 * weights * options.dtype.bytes()) as f64 / 1e6 / seconds,
    );
    Ok(())
}

fn create_folder(folder: &Path, config: &str) -> Result<()> {
    let made =
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(folder.join("config.json"), config));
    made.map_err(|e| delta_dct::Error::io("create", folder, e))
}

/// Files of about [`SHARD_BYTES`], tensors in their order.
fn layout(tensors: &[(String, Vec<usize>)], element: usize) -> Layout {
    let mut files: Vec<Vec<String>> = vec![Vec::new()];
    let (mut bytes, mut total) = (0, 0);
    for (name, shape) in tensors {
        let size = shape.iter().product::<usize>() * element;
        if bytes > 0 && bytes + size > SHARD_BYTES {
            files.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        total += size;
        files.last_mut().into_iter().for_each(|file| file.push(name.clone()));
    }
    let count = files.len();
    let shards = files.into_iter().enumerate().map(|(i, names)| Shard {
        file: format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
        tensors: Some(names),
    });
    let index = serde_json::Map::from_iter([("total_size".to_owned(), total.into())]);
    Layout { shards: shards.collect(), index_metadata: Some(index) }
}

/// Makes all rows of a tensor, some at a time, and writes them to both models.
fn fill(
    tensor: &Tensor,
    name: &str,
    shape: &[usize],
    format: Format,
    writers: [&CheckpointWriter; 2],
) -> Result<()> {
    let rows = shape.first().copied().unwrap_or(1);
    let cols: usize = shape.iter().skip(1).product();
    let step = PIECE.div_ceil(cols.max(1));
    (0..rows.div_ceil(step)).into_par_iter().try_for_each(|piece| {
        let first = piece * step;
        let mut values = [vec![0.0; cols], vec![0.0; cols]];
        let mut bytes = [Vec::new(), Vec::new()];
        for row in first..rows.min(first + step) {
            let [base, finetuned] = &mut values;
            tensor.row(row, base, finetuned);
            values.iter().zip(&mut bytes).for_each(|(values, bytes)| format.write(values, bytes));
        }
        let offset = (first * cols * format.bytes()) as u64;
        writers.iter().zip(&bytes).try_for_each(|(writer, bytes)| writer.write(name, offset, bytes))
    })
}
