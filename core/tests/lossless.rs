//! The lossless lane: every dtype bit for bit, small where little has changed, and never larger than without a base.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use delta_dct::{Dtype, ErrorKind, TensorView, decode_tensor, encode_tensor};
use pairs::{Tensor, noise, tensor, tensors, word};

/// More than two pieces.
const LARGE: &[usize] = &[600, 1000];

fn view(tensor: &Tensor) -> TensorView<'_> {
    TensorView { dtype: tensor.dtype, shape: &tensor.shape, bytes: &tensor.bytes }
}

fn encode(recipe: &str, base: &Tensor, finetuned: &Tensor) -> Vec<u8> {
    encode_tensor("t", view(base), view(finetuned), &recipe.parse().unwrap()).unwrap()
}

/// Bytes of the record, after checking that it gives `finetuned`, and that the reference decoder agrees.
fn check(recipe: &str, base: &Tensor, finetuned: &Tensor) -> usize {
    let record = encode(recipe, base, finetuned);
    let mut result = vec![0x55; finetuned.bytes.len()];
    decode_tensor("t", &record, Some(view(base)), &mut result).unwrap();
    assert!(result == finetuned.bytes, "{recipe} of {} to {}", base.dtype, finetuned.dtype);
    // The reference decoder has no elements of less than a byte.
    if base.dtype.bitsize() < 8 {
        return record.len();
    }
    let dtype = base.dtype.to_string();
    let theirs = reference::Tensor { dtype, shape: base.shape.clone(), bytes: base.bytes.clone() };
    assert!(reference::Record::read("t", &record).decode(Some(&theirs)).bytes == result);
    record.len()
}

/// Random bytes, and some of them changed.
fn bytes(dtype: Dtype, elements: usize) -> (Tensor, Tensor) {
    let len = (elements * dtype.bitsize()).div_ceil(8);
    let base =
        Tensor { dtype, shape: vec![elements], bytes: (0..len).map(|i| word(1, i as u64) as u8).collect() };
    let mut finetuned = base.clone();
    for (i, byte) in finetuned.bytes.iter_mut().enumerate() {
        *byte ^= (word(2, i as u64) as u8) >> (word(3, i as u64) % 9).min(7);
    }
    (base, finetuned)
}

#[test]
fn every_dtype_comes_back_bit_for_bit() {
    use Dtype as D;
    let dtypes = [
        D::F64,
        D::F32,
        D::F16,
        D::BF16,
        D::I64,
        D::I32,
        D::I16,
        D::I8,
        D::U64,
        D::U32,
        D::U16,
        D::U8,
        D::BOOL,
        D::F8_E4M3,
        D::F8_E5M2,
        D::F8_E8M0,
        D::F4,
        D::C64,
        D::F8_E4M3FNUZ,
        D::F8_E5M2FNUZ,
    ];
    for dtype in dtypes {
        for elements in [2, 8, 30, 5000] {
            let (base, finetuned) = bytes(dtype, elements);
            check("lossless", &base, &finetuned);
            check("lossless rank=2", &base, &finetuned);
        }
    }
}

#[test]
fn a_base_of_another_dtype_predicts_too() {
    for (from, to) in [(Dtype::F32, Dtype::BF16), (Dtype::BF16, Dtype::F32), (Dtype::F64, Dtype::F16)] {
        let (base, finetuned) = tensors(from, to, &[300, 200], 5);
        let with_base = check("lossless", &base, &finetuned);
        assert!(with_base < encode("raw", &base, &finetuned).len(), "{from} to {to}");
    }
}

#[test]
fn large_tensors_come_back_and_their_bytes_do_not_depend_on_the_threads() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let (base, finetuned) = tensors(dtype, dtype, LARGE, 6);
        check("lossless", &base, &finetuned);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| encode("lossless", &base, &finetuned))
        };
        assert!(on(1) == on(3));
    }
}

#[test]
fn a_few_changed_weights_cost_a_few_bits() {
    let base = tensor(Dtype::BF16, LARGE, |i| f64::from(noise(7, i)) / 16.0);
    for (every, most) in [(50, 0.25), (10_000, 0.007)] {
        let mut finetuned = base.clone();
        finetuned.bytes.chunks_exact_mut(2 * every).for_each(|run| run[0] ^= 1);
        let bits = check("lossless", &base, &finetuned) as f64 * 8.0 / 600_000.0;
        assert!(bits <= most, "every {every}: {bits} bits per weight");
    }
}

#[test]
fn noise_takes_less_than_by_xor_and_zstd() {
    for (dtype, share) in [(Dtype::BF16, 0.8), (Dtype::F16, 0.86), (Dtype::F32, 0.95)] {
        let (base, finetuned) = tensors(dtype, dtype, LARGE, 8);
        let size = dtype.bitsize() / 8;
        let plane = |p: usize| -> Vec<u8> {
            let bytes = base.bytes.iter().zip(&finetuned.bytes).skip(p).step_by(size);
            bytes.map(|(b, f)| b ^ f).collect()
        };
        let xor: usize = (0..size).map(|p| zstd::bulk::compress(&plane(p), 3).unwrap().len()).sum();
        let ours = check("lossless", &base, &finetuned);
        println!("{dtype}: {ours} bytes, {xor} by XOR and zstd, {:.3}", ours as f64 / xor as f64);
        assert!(ours as f64 <= share * xor as f64, "{dtype}: {ours} against {xor}");
    }
}

#[test]
fn a_delta_of_low_rank_is_predicted() {
    let base = tensor(Dtype::F16, &[256, 384], |i| f64::from(noise(9, i)) / 16.0);
    let direction = |i: usize| f64::from(noise(10, i % 384)) * f64::from(noise(11, i / 384)) / 64.0;
    let finetuned = tensor(Dtype::F16, &[256, 384], |i| f64::from(noise(9, i)) / 16.0 + direction(i));
    let plain = check("lossless rank=0", &base, &finetuned);
    for recipe in ["lossless", "lossless rank=1"] {
        let predicted = check(recipe, &base, &finetuned);
        assert!(predicted * 5 < plain * 4, "{recipe}: {predicted} bytes against {plain}");
    }
}

#[test]
fn an_unrelated_base_does_no_harm() {
    for dtype in [Dtype::BF16, Dtype::F32] {
        let base = tensor(dtype, &[100, 300], |i| f64::from(noise(12, i)) * 1000.0);
        let finetuned = tensor(dtype, &[100, 300], |i| f64::from(noise(13, i)) / 100.0);
        assert!(check("lossless", &base, &finetuned) <= encode("raw", &base, &finetuned).len());
    }
}

#[test]
fn another_base_is_refused() {
    let (base, finetuned) = tensors(Dtype::BF16, Dtype::BF16, &[50, 60], 14);
    let record = encode("lossless", &base, &finetuned);
    let mut other = base.clone();
    other.bytes[77] ^= 1;
    let error = decode_tensor("t", &record, Some(view(&other)), &mut vec![0; base.bytes.len()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}
