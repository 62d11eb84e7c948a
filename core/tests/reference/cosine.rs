//! The inverse DCT of a block, and the JPEG table.

use std::f64::consts::PI;

/// The values of a block (`n` x `n`, row-major) from its coefficients, stored column by column.
pub fn inverse(coefficients: &[f32], n: usize) -> Vec<f32> {
    let constant = |zeros: usize| match zeros {
        2 => (1.0 / n as f64) as f32,
        1 => (2f64.sqrt() / n as f64) as f32,
        _ => (2.0 / n as f64) as f32,
    };
    // block[u][v]
    let mut block = vec![vec![0f32; n]; n];
    for (u, row) in block.iter_mut().enumerate() {
        for (v, value) in row.iter_mut().enumerate() {
            *value = coefficients[v * n + u] * constant(usize::from(u == 0) + usize::from(v == 0));
        }
        *row = ii_t(row);
    }
    let columns: Vec<Vec<f32>> =
        (0..n).map(|j| ii_t(&block.iter().map(|row| row[j]).collect::<Vec<_>>())).collect();
    (0..n * n).map(|at| columns[at % n][at / n]).collect()
}

fn cos(numerator: usize, denominator: usize) -> f32 {
    let value = (PI * (numerator % (2 * denominator)) as f64 / denominator as f64).cos();
    if value.abs() < 1e-12 { 0.0 } else { value as f32 }
}

fn sin(numerator: usize, denominator: usize) -> f32 {
    (PI * (numerator % (2 * denominator)) as f64 / denominator as f64).sin() as f32
}

/// Sum of products, from left to right.
fn dot(terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    terms.map(|(a, b)| a * b).reduce(|sum, product| sum + product).unwrap_or(0.0)
}

fn ii(x: &[f32]) -> Vec<f32> {
    let n = x.len();
    let m = |k: usize, i: usize| cos((2 * i + 1) * k, 2 * n);
    let h = n / 2;
    let d: Vec<f32> = (0..h).map(|i| x[i] - x[n - 1 - i]).collect();
    let mut s: Vec<f32> = (0..h).map(|i| x[i] + x[n - 1 - i]).collect();
    if n % 2 == 0 {
        let (even, odd) = (ii(&s), iv(&d));
        return (0..n).map(|k| if k % 2 == 0 { even[k / 2] } else { odd[k / 2] }).collect();
    }
    s.push(x[h]);
    (0..n)
        .map(|k| {
            let list = if k % 2 == 0 { &s } else { &d };
            dot(list.iter().enumerate().map(|(i, &v)| (m(k, i), v)))
        })
        .collect()
}

fn ii_t(y: &[f32]) -> Vec<f32> {
    let n = y.len();
    let h = n / 2;
    let (e, o): (Vec<f32>, Vec<f32>) = if n % 2 == 0 {
        let pick = |first: usize| y.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
        (ii_t(&pick(0)), iv(&pick(1)))
    } else {
        let m = |k: usize, i: usize| cos((2 * i + 1) * k, 2 * n);
        let part = |first: usize, i: usize| dot((first..n).step_by(2).map(|k| (m(k, i), y[k])));
        ((0..=h).map(|i| part(0, i)).collect(), (0..h).map(|i| part(1, i)).collect())
    };
    let mut x = vec![0.0; n];
    for i in 0..h {
        x[i] = e[i] + o[i];
        x[n - 1 - i] = e[i] - o[i];
    }
    if n % 2 == 1 {
        x[h] = e[h];
    }
    x
}

fn iv(x: &[f32]) -> Vec<f32> {
    let n = x.len();
    if n % 2 == 1 {
        return (0..n).map(|j| dot((0..n).map(|i| (cos((2 * j + 1) * (2 * i + 1), 4 * n), x[i])))).collect();
    }
    let h = n / 2;
    let (mut p, mut q) = (vec![0.0; h], vec![0.0; h]);
    for i in 0..h {
        let (c, s) = (cos(2 * i + 1, 4 * n), sin(2 * i + 1, 4 * n));
        let (a, b) = (x[i], x[n - 1 - i]);
        p[i] = c * a + s * b;
        q[i] = if i % 2 == 0 { c * b - s * a } else { s * a - c * b };
    }
    let (p, q) = (ii(&p), ii(&q));
    let mut y = vec![0.0; n];
    y[0] = p[0];
    y[n - 1] = -q[0];
    for m in 1..h {
        y[2 * m] = p[m] + q[h - m];
        y[2 * m - 1] = p[m] - q[h - m];
    }
    y
}

#[rustfmt::skip]
const LUMINANCE: [f32; 64] = [
    16., 11., 10., 16.,  24.,  40.,  51.,  61.,
    12., 12., 14., 19.,  26.,  58.,  60.,  55.,
    14., 13., 16., 24.,  40.,  57.,  69.,  56.,
    14., 17., 22., 29.,  51.,  87.,  80.,  62.,
    18., 22., 37., 56.,  68., 109., 103.,  77.,
    24., 35., 55., 64.,  81., 104., 113.,  92.,
    49., 64., 78., 87., 103., 121., 120., 101.,
    72., 92., 95., 98., 112., 100., 103.,  99.,
];

/// The JPEG table for blocks of `n` x `n`, `(u, v)` at `u * n + v`.
pub fn jpeg_table(n: usize) -> Vec<f32> {
    resize(&LUMINANCE, 8, n).into_iter().map(|x| x.max(1.0)).collect()
}

/// Linear interpolation between pixel centres.
pub fn resize(table: &[f32], from: usize, to: usize) -> Vec<f32> {
    let place = |i: usize| {
        let p = ((i as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
        let a = (p.floor() as usize).min(from - 1);
        (a, (a + 1).min(from - 1), p - a as f32)
    };
    let mut out = Vec::new();
    for u in 0..to {
        for v in 0..to {
            let ((au, bu, wu), (av, bv, wv)) = (place(u), place(v));
            let across = |row: usize| (1.0 - wv) * table[row * from + av] + wv * table[row * from + bv];
            out.push((1.0 - wu) * across(au) + wu * across(bu));
        }
    }
    out
}
