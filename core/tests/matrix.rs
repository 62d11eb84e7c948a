//! Every method with every dtype and odd shape: what comes back, how far off it is, and what it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use delta_dct::{Dtype, ErrorKind, METHODS, Recipe, TensorView, decode_tensor, encode_tensor};
use pairs::{Tensor, noise, tensor, tensors};

/// A recipe, the most that its result may be off, and what it may take.
struct Row {
    recipe: &'static str,
    /// Relative errors (energy of the error by energy of the delta) on noise in small tensors of every dtype and shape,
    /// on noise in a large one, and on deltas of odd values. Above 1 where a factor makes up for what is dropped.
    errors: [f64; 3],
    /// Bits per weight of the large tensor.
    bpw: f64,
}

const fn row(recipe: &'static str, errors: [f64; 3], bpw: f64) -> Row {
    Row { recipe, errors, bpw }
}

/// At least the default of each method. The bounds are some 1.3 times what was measured.
const ROWS: &[Row] = &[
    row("dct", [1.4, 2.3, 3.4], 0.65),
    row("dct rescale=none", [1.4, 0.91, 3.2], 0.65),
    row("dct rescale=mean-abs", [1.4, 1.7, 2.8], 0.65),
    row("dct block=4", [0.98, 0.9, 0.87], 1.68),
    row("dct block=7 bits=1", [0.72, 0.7, 29.0], 1.36),
    row("dct block=8 bits=2", [0.29, 0.26, 0.46], 1.87),
    row("dct block=8 bits=3", [0.052, 0.048, 0.067], 3.00),
    row("dct block=32 bits=4", [0.021, 0.022, 0.019], 3.41),
    row("dct block=128 bits=5", [0.0016, 0.0072, 0.046], 4.14),
    row("dct block=7 bits=6", [0.00052, 0.00052, 0.00073], 6.33),
    row("dct block=32 bits=7", [0.00026, 0.00026, 0.0019], 6.54),
    row("dct block=32 bits=8", [0.00013, 0.00013, 0.00033], 7.57),
    row(
        "dct block=8 bits=8:0.125,7:0.125,6:0.125,5:0.125,4:0.125,3:0.125,2:0.125,1:0.125",
        [0.061, 0.082, 0.08],
        4.71,
    ),
    row("dct block=8 bits=4:0.34,2:0.33,0:0.33", [0.68, 0.65, 0.6], 2.05),
    row("dct block=128 bits=2:0.1,1:0.9 importance=post128", [0.25, 0.83, 30.0], 1.05),
    row("dct block=16 bits=4 predecessor=true", [0.017, 0.016, 0.058], 3.80),
    row("dct block=16 bits=4:0.5,0:0.5 predecessor=true rescale=mean-abs", [1.2, 1.3, 0.5], 1.97),
    row("dct-jpeg", [15.0, 13.0, 34.0], 0.59),
    row("dct-jpeg block=8 bits=8", [0.00065, 0.00052, 0.026], 7.90),
    row("dct-post", [1.6, 2.3, 3.4], 0.65),
    row("dct-post block=7 importance=post1 bits=3:0.5,1:0.5", [0.32, 0.31, 0.91], 2.33),
    row("dwt", [2.2, 2.5, 3.8], 0.61),
    row("dwt block=4 wavelet=db2 bits=4 details=4", [0.0014, 0.0012, 0.0049], 10.04),
    row("dwt block=7 wavelet=cdf5/3 levels=2 bits=4 details=4", [0.0045, 0.0041, 0.0085], 7.79),
    row("dwt block=32 wavelet=cdf9/7 levels=4 bits=8 details=8", [0.00013, 0.00013, 0.00057], 8.15),
    row("dwt block=128 wavelet=db4 levels=6 bits=4 details=3 keep=ll_lh_hl", [0.77, 0.8, 2.8], 1.51),
    row("dwt block=33 wavelet=sym4 levels=2 bits=8 keep=ll_only", [21.0, 17.0, 24.0], 0.66),
    row("dwt block=8 wavelet=db3 bits=4:0.5,0:0.5 details=2 rescale=none", [0.62, 0.62, 0.55], 1.84),
    row("dwt block=16 wavelet=learned bits=3 details=3", [0.052, 0.046, 0.06], 3.01),
    row("dwt block=8 bits=4:0.5,0:0.5 predecessor=true table=jpeg rescale=mean-abs", [1.9, 1.9, 2.0], 4.38),
    row("bitdelta", [0.82, 0.7, 1800.0], 1.03),
    row("bitdelta rescale=mean-abs", [0.51, 0.46, 1.3], 1.03),
    row("lowrank", [0.82, 7.1, 0.4], 0.31),
    row("lowrank rank=1 bits=1", [46.0, 240.0, 51.0], 0.02),
    row("lowrank rank=64 bits=8 rescale=none", [0.00013, 0.6, 0.00013], 3.31),
    row("factors", [1.7, 3.0, 2.0], 0.3),
    row("factors step=1", [1.3, 1.3, 1.3], 2.3),
    row("factors step=0.1 rank=8", [0.1, 0.1, 1.05], 8.0),
    row("auto", [1.7, 3.0, 2.0], 0.3),
    row("sparse", [23.0, 18.0, 230.0], 0.13),
    row("sparse share=1 bits=8", [0.00013, 0.00013, 0.00013], 7.53),
    row("sparse share=0.001 bits=1", [290.0, 150.0, 180.0], 0.03),
    row("sparse share=0.3 bits=5 rescale=none", [0.4, 0.3, 1.3], 2.08),
    row("dare", [19.0, 12.0, 13.0], 0.36),
    row("dare keep=1 bits=8", [0.00013, 0.00013, 0.00013], 7.52),
    row("dare keep=0.5 seed=18446744073709551615", [2.3, 1.4, 1.5], 1.70),
    row("dare keep=0.001 seed=1", [760.0, 1600.0, 990.0], 0.02),
    row("uniform", [0.0085, 0.0068, 1.3], 4.16),
    row("uniform step=0.01", [0.00013, 0.00013, 1.3], 8.90),
    row("uniform step=3 rescale=unbiased", [1.8, 1.4, 1.3], 0.75),
    row("zero", [1.6, 1.3, 1.3], 0.01),
    row("lossless", [0.0, 0.0, 0.0], 24.0),
    row("lossless rank=3", [0.0, 0.0, 0.0], 24.0),
    row("raw", [0.00013, 0.00013, 0.00013], 27.13),
];

const DTYPES: [(Dtype, Dtype); 9] = [
    (Dtype::F32, Dtype::F32),
    (Dtype::F16, Dtype::F16),
    (Dtype::BF16, Dtype::BF16),
    (Dtype::F64, Dtype::F64),
    (Dtype::F32, Dtype::BF16),
    (Dtype::BF16, Dtype::F32),
    (Dtype::F32, Dtype::F16),
    (Dtype::F64, Dtype::F16),
    (Dtype::F16, Dtype::F64),
];

const SHAPES: [&[usize]; 15] = [
    &[],
    &[0, 5],
    &[0],
    &[5, 0],
    &[1, 1],
    &[1, 70],
    &[70, 1],
    &[1000],
    &[33, 65],
    &[48, 80],
    &[9, 5, 7],
    &[1, 40, 70],
    &[1, 1, 1, 40],
    &[16, 3, 3, 3],
    &[3, 33, 65],
];

fn view(tensor: &Tensor) -> TensorView<'_> {
    TensorView { dtype: tensor.dtype, shape: &tensor.shape, bytes: &tensor.bytes }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let dtype = tensor.dtype.to_string();
    tensor
        .bytes
        .chunks_exact(reference::size(&dtype))
        .map(|element| reference::value(&dtype, element))
        .collect()
}

/// What `recipe` makes of a pair: the record, and the result.
fn round_trip(recipe: &str, base: &Tensor, finetuned: &Tensor) -> (Vec<u8>, Tensor) {
    let record = encode_tensor("t", view(base), view(finetuned), &recipe.parse().unwrap()).unwrap();
    let mut result = Tensor { bytes: vec![0xaa; finetuned.bytes.len()], ..finetuned.clone() };
    decode_tensor("t", &record, Some(view(base)), &mut result.bytes).unwrap();
    (record, result)
}

/// Energy of the error by energy of the delta; 0 where both are 0.
fn relative_error(base: &Tensor, finetuned: &Tensor, result: &Tensor) -> f64 {
    let (base, finetuned, result) = (values(base), values(finetuned), values(result));
    let energy = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let (error, delta) = (energy(&finetuned, &result), energy(&finetuned, &base));
    if error == 0.0 { 0.0 } else { error / delta }
}

#[test]
fn every_method_has_a_row() {
    for method in METHODS {
        assert!(
            ROWS.iter().any(|row| row.recipe == method.name),
            "method {} needs a row in ROWS",
            method.name
        );
    }
}

#[test]
fn noise_of_every_dtype_and_shape_comes_back_within_bounds() {
    for Row { recipe, errors, .. } in ROWS {
        for (base_dtype, dtype) in DTYPES {
            for (seed, shape) in (70..).zip(SHAPES) {
                let what = format!("{recipe}, {base_dtype} to {dtype}, {shape:?}");
                let (base, finetuned) = tensors(base_dtype, dtype, shape, seed);
                let (record, result) = round_trip(recipe, &base, &finetuned);
                let error = relative_error(&base, &finetuned, &result);
                assert!(error <= errors[0], "{what}: a relative error of {error}");
                // At worst the values themselves, the header, and a model and a length for each byte of an element.
                let bytes = finetuned.bytes.len();
                assert!(record.len() <= bytes + 64, "{what}: {} bytes for {bytes}", record.len());
            }
        }
    }
}

#[test]
fn large_tensors_take_no_more_than_they_should() {
    let (base, finetuned) = tensors(Dtype::F32, Dtype::F32, &[256, 384], 90);
    for Row { recipe, errors, bpw } in ROWS {
        let (record, result) = round_trip(recipe, &base, &finetuned);
        let error = relative_error(&base, &finetuned, &result);
        assert!(error <= errors[1], "{recipe}: a relative error of {error}");
        let bits = record.len() as f64 * 8.0 / (256.0 * 384.0);
        assert!(bits <= *bpw, "{recipe}: {bits} bits per weight");
    }
}

#[test]
fn odd_values_come_back_finite_and_within_bounds() {
    for (name, base, finetuned) in specials() {
        for Row { recipe, errors, .. } in ROWS {
            let (_, result) = round_trip(recipe, &base, &finetuned);
            let what = format!("{recipe}, {name} in {}", base.dtype);
            assert!(values(&result).iter().all(|x| x.is_finite()), "{what}: not finite");
            let error = relative_error(&base, &finetuned, &result);
            assert!(error <= errors[2], "{what}: a relative error of {error}");
        }
    }
}

#[test]
fn what_is_not_finite_comes_back_to_the_bit() {
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F64] {
        let (base, finetuned) = tensors(dtype, dtype, &[40, 33], 91);
        let specials = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|x| tensor(dtype, &[1], |_| x).bytes);
        let mut odd_nan = specials[0].clone();
        odd_nan[0] ^= 1;
        for special in specials.iter().chain([&odd_nan]) {
            let with = |tensor: &Tensor, at: usize| {
                let mut tensor = tensor.clone();
                let at = at * special.len();
                tensor.bytes[at..at + special.len()].copy_from_slice(special);
                tensor
            };
            let (odd_base, odd) = (with(&base, 500), with(&finetuned, 500));
            for Row { recipe, .. } in ROWS.iter().filter(|row| row.recipe != "zero") {
                for (base, finetuned) in [(&base, &odd), (&odd_base, &finetuned), (&odd_base, &odd)] {
                    let (_, result) = round_trip(recipe, base, finetuned);
                    assert!(result.bytes == finetuned.bytes, "{recipe}, {dtype}: {special:?}");
                }
            }
        }
    }
}

#[test]
fn no_delta_costs_nothing() {
    for (base_dtype, dtype) in DTYPES {
        let value = |i| f64::from(half::bf16::from_f32(noise(3, i)).to_f32());
        // Numbers that all dtypes have, so that the delta is zero.
        let [base, finetuned] = [base_dtype, dtype].map(|dtype| tensor(dtype, &[48, 80], value));
        for Row { recipe, .. } in ROWS.iter().filter(|row| row.recipe != "raw") {
            let (record, result) = round_trip(recipe, &base, &finetuned);
            assert!(record.len() <= 40, "{recipe}, {base_dtype} to {dtype}: {} bytes", record.len());
            assert_eq!(result.bytes, finetuned.bytes, "{recipe}, {base_dtype} to {dtype}");
        }
    }
}

/// A tensor of very many blocks, almost all of them the same, takes very few bytes.
#[test]
fn one_change_in_a_large_tensor_is_coded() {
    let base = tensor(Dtype::F32, &[1024, 2048], |i| f64::from(noise(4, i)));
    let mut finetuned = base.clone();
    finetuned.bytes[4_000_000..4_000_004].copy_from_slice(&100f32.to_le_bytes());
    for recipe in
        ["dct block=4 bits=2", "dct block=8", "dwt block=4 bits=3 details=3", "sparse", "uniform", "dare"]
    {
        let (record, result) = round_trip(recipe, &base, &finetuned);
        assert!(record.len() < 64_000, "{recipe}: {} bytes", record.len());
        let error = relative_error(&base, &finetuned, &result);
        assert!(error <= 1.01, "{recipe}: a relative error of {error}");
    }
}

/// As a merged LoRA makes them, also where more directions were looked for than there are.
#[test]
fn all_directions_of_a_low_rank_are_kept() {
    for (rank, rows, cols) in [(5, 90, 120), (17, 90, 120), (24, 90, 120), (24, 120, 60), (40, 300, 200)] {
        let weight = |i| f64::from(noise(50, i)) / 16.0;
        let change = |i: usize| -> f64 {
            let one = |k: usize| {
                f64::from(noise(60 + k as u64, i / cols)) * f64::from(noise(160 + k as u64, i % cols))
            };
            (0..rank).map(one).sum::<f64>() / 1024.0
        };
        let base = tensor(Dtype::F32, &[rows, cols], weight);
        let finetuned = tensor(Dtype::F32, &[rows, cols], |i| weight(i) + change(i));
        let (_, result) = round_trip("factors step=0.5 rest=0", &base, &finetuned);
        let error = relative_error(&base, &finetuned, &result);
        // What the step costs: a thirtieth of a number's mean square for each number of the factors.
        let cost = 0.03 * (rank * (rows + cols)) as f64 / (rows * cols) as f64;
        assert!(error < cost, "rank {rank} of {rows} x {cols}: {error}, at most {cost}");
    }
}

/// As those of experts are: each matrix as if it were a tensor, also one that did not change.
#[test]
fn a_stack_is_coded_matrix_by_matrix() {
    let (count, shape) = (5, [40, 48]);
    let len = shape[0] * shape[1];
    let weight = |i| f64::from(noise(80, i)) / 16.0;
    let change = |i: usize| {
        let (matrix, i) = (i / len, i % len);
        let one = |seed: usize, i: usize| f64::from(noise((seed + matrix) as u64, i));
        // Of the strengths 0 to 4.
        matrix as f64 * (one(81, i / shape[1]) * one(91, i % shape[1]) + one(101, i) / 4.0) / 1024.0
    };
    let base = tensor(Dtype::F32, &[count, shape[0], shape[1]], weight);
    let finetuned = tensor(Dtype::F32, &base.shape, |i| weight(i) + change(i));
    let alone = |tensor: &Tensor, i: usize| {
        let bytes = tensor.bytes[4 * len * i..][..4 * len].to_vec();
        Tensor { dtype: tensor.dtype, shape: shape.to_vec(), bytes }
    };
    // The exact coder does not know of matrices.
    for Row { recipe, .. } in ROWS.iter().filter(|row| row.errors[0] > 0.0 && row.recipe != "raw") {
        let (record, result) = round_trip(recipe, &base, &finetuned);
        let (mut bytes, is_mask) = (0, recipe.starts_with("dare"));
        for i in 0..count {
            let (record, expected) = round_trip(recipe, &alone(&base, i), &alone(&finetuned, i));
            bytes += record.len();
            if i == 0 || !is_mask {
                assert!(values(&alone(&result, i)) == values(&expected), "{recipe}: matrix {i}");
            }
        }
        assert!(record.len() <= bytes + 40, "{recipe}: {} bytes, alone {bytes}", record.len());
    }
}

/// Words that no example had stay as they are, and cost next to nothing.
#[test]
fn rows_without_a_change_stay_and_cost_little() {
    let pairs::Pair { base, finetuned, .. } = pairs::words();
    let (base, finetuned) = (&base["layer.dense.weight"], &finetuned["layer.dense.weight"]);
    let row = base.shape[1] * 4;
    let only_changed = |tensor: &Tensor| {
        let rows = tensor.bytes.chunks(row).enumerate().filter(|(i, _)| pairs::is_in_the_examples(*i));
        let bytes: Vec<u8> = rows.flat_map(|(_, row)| row).copied().collect();
        Tensor { shape: vec![bytes.len() / row, base.shape[1]], bytes, dtype: tensor.dtype }
    };
    for recipe in ["factors step=9", "factors step=2"] {
        let (record, result) = round_trip(recipe, base, finetuned);
        let mut rows = base.bytes.chunks(row).zip(result.bytes.chunks(row)).enumerate();
        assert!(rows.all(|(i, (base, result))| pairs::is_in_the_examples(i) || base == result), "{recipe}");
        let error = relative_error(base, finetuned, &result);
        // The same step: that of few rows is in larger root mean squares. And no rest, as with the larger one.
        let (changed, new) = (only_changed(base), only_changed(finetuned));
        let share = (changed.shape[0] as f64 / base.shape[0] as f64).sqrt();
        let step: f64 = recipe.split('=').nth(1).unwrap().parse().unwrap();
        let (alone, of_alone) = round_trip(&format!("factors step={} rest=0", step * share), &changed, &new);
        let error_alone = relative_error(&changed, &new, &of_alone);
        assert!(error < 1.3 * error_alone, "{recipe}: {error} {error_alone}");
        assert!(record.len() < alone.len() + 40, "{recipe}: {} bytes, {} alone", record.len(), alone.len());
    }
    // They have no rest either.
    let (record, result) = round_trip("factors step=0.5 rank=1", base, finetuned);
    let mut rows = base.bytes.chunks(row).zip(result.bytes.chunks(row)).enumerate();
    assert!(rows.all(|(i, (base, result))| pairs::is_in_the_examples(i) || base == result));
    // The same step of the rest, 2 step^1.6 in root mean squares: a third of the rows are changed.
    let recipe = format!("factors step={} rank=1", 0.5 * 3f64.powf(-0.5 / 1.6));
    let (alone, _) = round_trip(&recipe, &only_changed(base), &only_changed(finetuned));
    assert!(record.len() * 10 < alone.len() * 11, "{} bytes, {} alone", record.len(), alone.len());
}

/// Where most weights are as they were, as in bfloat16 after steps that were too small for them, they stay so; and all
/// weights come back exactly where that takes no more.
#[test]
fn few_changes_touch_no_other_weights() {
    let (rows, cols) = (200, 120);
    let is_changed = |i: usize| noise(70, i) > 0.5;
    let weight = |i| f64::from(noise(71, i)) / 16.0;
    let change = |i| if is_changed(i) { f64::from(noise(72, i)) / 1024.0 } else { 0.0 };
    let pair = |dtype| {
        (tensor(dtype, &[rows, cols], weight), tensor(dtype, &[rows, cols], |i| weight(i) + change(i)))
    };
    let (base, finetuned) = pair(Dtype::F32);
    let (record, result) = round_trip("factors step=0.7", &base, &finetuned);
    let mut words = base.bytes.chunks(4).zip(result.bytes.chunks(4)).enumerate();
    assert!(words.all(|(i, (base, result))| is_changed(i) || base == result));
    // Which weights changed takes 0.9 bits a weight, and by how much, 4 bits for each of those 31 % at an error of 1/190.
    let error = relative_error(&base, &finetuned, &result);
    assert!(error < 1.0 / 150.0, "{error}");
    assert!(record.len() * 8 < rows * cols * 23 / 10, "{} bytes", record.len());

    let (base, finetuned) = pair(Dtype::BF16);
    let (record, result) = round_trip("factors step=0.1", &base, &finetuned);
    assert!(result.bytes == finetuned.bytes);
    assert_eq!(record.len(), round_trip("lossless", &base, &finetuned).0.len());
}

#[test]
fn another_base_and_wrong_lengths_are_mismatches() {
    let (base, finetuned) = tensors(Dtype::F32, Dtype::F32, &[48, 80], 92);
    for Row { recipe, .. } in ROWS.iter().filter(|row| row.recipe != "raw") {
        let (record, result) = round_trip(recipe, &base, &finetuned);
        let refused = |base: Option<TensorView<'_>>, len: usize| {
            let error = decode_tensor("t", &record, base, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{recipe}: {error}");
        };
        let len = result.bytes.len();
        refused(None, len);
        refused(Some(view(&base)), len - 1);
        refused(Some(view(&base)), len + 1);
        refused(Some(view(&base)), 0);
        for at in [0, len / 2, len - 1] {
            let mut other = base.clone();
            other.bytes[at] ^= 1;
            refused(Some(view(&other)), len);
        }
        refused(Some(view(&finetuned)), len);
        refused(Some(TensorView { dtype: Dtype::I32, ..view(&base) }), len);
        let short = TensorView { shape: &[47, 80], bytes: &base.bytes[..47 * 320], dtype: Dtype::F32 };
        refused(Some(short), len);
    }
    let turned = TensorView { shape: &[80, 48], ..view(&base) };
    let error = encode_tensor("t", turned, view(&finetuned), &"dct".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[test]
fn recipes_that_make_no_sense_are_refused() {
    let recipes = [
        "",
        "nothing",
        "dct block=3",
        "dct block=129",
        "dct block=-1",
        "dct bits=9",
        "dct bits=2:0.5",
        "dct bits=2:0.7,1:0.7",
        "dct bits=2:nan",
        "dct bits=",
        "dct bits=2:1,",
        "dct blok=8",
        "dct block",
        "dct importance=post0",
        "dct importance=mid",
        "dct importance=post129",
        "dct rescale=some",
        "dct table=gif",
        "dct details=4",
        "dct seed=1",
        "dct block=8 predecessor=maybe",
        "dwt levels=0",
        "dwt levels=7",
        "dwt block=8 wavelet=db9",
        "dwt keep=hh",
        "dwt details=0",
        "dwt details=9",
        "dwt importance=post4",
        "bitdelta rescale=none",
        "bitdelta bits=2",
        "lowrank rank=0",
        "lowrank rank=1025",
        "lowrank bits=0",
        "lowrank bits=9",
        "sparse share=0",
        "sparse share=1.5",
        "sparse share=nan",
        "sparse bits=0",
        "sparse bits=2:0.5,0:0.5",
        "dare keep=0",
        "dare keep=2",
        "dare keep=-0.1",
        "dare seed=-1",
        "dare seed=18446744073709551616",
        "uniform step=0",
        "uniform step=inf",
        "uniform step=nan",
        "uniform step=-1",
        "zero block=8",
        "raw bits=1",
        "lossless bits=1",
        "lossless rank=-1",
        "lossless rank=1025",
    ];
    for recipe in recipes {
        let Err(error) = recipe.parse::<Recipe>() else { panic!("{recipe:?} was accepted") };
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{recipe:?}: {error}");
    }
}

/// Deltas of odd values, in every dtype.
fn specials() -> Vec<(&'static str, Tensor, Tensor)> {
    let shape = [40, 33];
    let mut list = Vec::new();
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F64] {
        let zero = tensor(dtype, &shape, |_| 0.0);
        let base = tensor(dtype, &shape, |i| f64::from(noise(1, i)) / 16.0);
        let mut add = |name, base: &Tensor, value: &dyn Fn(usize) -> f64| {
            list.push((name, base.clone(), tensor(dtype, &shape, value)));
        };
        let near = |i: usize| f64::from(noise(1, i)) / 16.0;
        add("const", &base, &|i| near(i) + 1.0 / 64.0);
        add("outlier", &zero, &|i| if i == 700 { 1.0 } else { 0.0 });
        add("outlier-noise", &base, &|i| {
            near(i) + if i == 700 { 1000.0 } else { f64::from(noise(2, i)) / 256.0 }
        });
        add("tiny", &zero, &|i| f64::from(noise(2, i)) * 1e-30);
        add("denormal", &zero, &|i| f64::from(noise(2, i)) * 1e-40);
        add("half-denormal", &zero, &|i| f64::from(noise(2, i)) * 1e-7);
        let big = if dtype == Dtype::F16 { 1e4 } else { 1e30 };
        add("huge", &zero, &|i| f64::from(noise(2, i)) * big);
        let max = if dtype == Dtype::F16 { 65504.0 } else { 3.3e38 };
        add("max", &zero, &|i| if i % 3 == 0 { max } else { -max });
        add("max-noise", &zero, &|i| f64::from(noise(2, i)) * max / 4.0);
        add("f64", &zero, &|i| f64::from(noise(2, i)) * if dtype == Dtype::F64 { 1e200 } else { 1.0 });
    }
    list
}
