//! Tests of the whole stage against a second, naive decoder that follows the modules' texts.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::error::ErrorKind;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// `count` symbols of many kinds, each with a name.
fn samples(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut make =
        |symbol: &mut dyn FnMut(&mut Random) -> u8| (0..count).map(|_| symbol(&mut random)).collect();
    let mut counter = 0u8;
    vec![
        ("constant", make(&mut |_| 7)),
        ("one bit", make(&mut |r| (r.next() >> 60) as u8 & 1)),
        ("skewed bit", make(&mut |r| u8::from(r.unit() > 0.95))),
        ("extreme skew", make(&mut |r| 200 * u8::from(r.unit() > 0.9999))),
        ("2 bits", make(&mut |r| (1.5 + r.gaussian() / 0.9).clamp(0.0, 3.0) as u8)),
        (
            "peaked 2 bits",
            make(&mut |r| [0, 3, 1, 2][(r.unit() * 2.06) as usize + usize::from(r.unit() > 0.986)]),
        ),
        ("3 bits", make(&mut |r| (r.gaussian() + 4.0) as u8 & 7)),
        ("4 bits", make(&mut |r| (8.0 + 2.0 * r.gaussian()).clamp(0.0, 15.0) as u8)),
        ("8 bits", make(&mut |r| (128.0 + 30.0 * r.gaussian()).clamp(0.0, 255.0) as u8)),
        ("uniform", make(&mut |r| (r.next() >> 40) as u8)),
        ("uniform 5 bits", make(&mut |r| (r.next() >> 40) as u8 & 31)),
        ("geometric", make(&mut |r| (-5.0 * (1.0 - r.unit()).ln()) as u8)),
        ("two far ends", make(&mut |r| if r.unit() > 0.8 { 0 } else { 255 })),
        ("sparse", make(&mut |r| if r.unit() > 0.3 { 100 } else { (r.next() >> 40) as u8 & 0xf0 })),
        (
            "counter",
            make(&mut |_| {
                counter = counter.wrapping_add(1);
                counter
            }),
        ),
    ]
}

fn stored(model: &Model) -> Vec<u8> {
    let mut out = Writer::default();
    model.write(&mut out);
    out.0
}

fn encoded(model: &Model, symbols: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    model.encode(symbols, &mut out);
    out
}

/// Bits from the lowest one of each byte on.
struct NaiveBits<'a>(&'a [u8], usize);

impl NaiveBits<'_> {
    fn take(&mut self, len: u32) -> u64 {
        (0..len).fold(0, |value, k| {
            let bit = u64::from(self.0[self.1 / 8] >> (self.1 % 8) & 1);
            self.1 += 1;
            value | bit << k
        })
    }

    fn gamma(&mut self) -> u64 {
        let mut n = 0;
        while self.take(1) == 0 {
            n += 1;
        }
        self.take(n) + (1 << n)
    }
}

fn unzigzag(z: u64) -> i128 {
    if z & 1 == 0 { i128::from(z / 2) } else { -i128::from(z / 2) - 1 }
}

fn naive_table(bits: &mut NaiveBits) -> Vec<u64> {
    let (m, rest, last) = (bits.take(4), bits.take(8), bits.take(8));
    let mut f = vec![0; 256];
    let mut c = 8i128;
    let mut skip = 0;
    for s in (0..=last).filter(|&s| s != rest) {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let v = bits.gamma();
        if v == 4 {
            skip = bits.gamma() - 1;
        } else {
            c += unzigzag(if v < 4 { v - 1 } else { v - 2 });
            let k = m.min(c as u64 - 1);
            f[s as usize] = (1 << (c - 1)) + (bits.take(k as u32) << (c as u64 - 1 - k));
        }
    }
    f[rest as usize] = 4096 - f.iter().sum::<u64>();
    f
}

fn naive_rans(f: &[u64], bytes: &[u8], count: usize) -> Vec<u8> {
    let t = bytes.len();
    let lanes = if count < 4096 { 1 } else { 4 };
    let head = if lanes == 1 { t.min(4 - t % 2) } else { 16 };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, &b| 256 * n + u64::from(b));
    let mut states: Vec<u64> =
        if lanes == 1 { vec![number(&bytes[..head])] } else { bytes[..16].chunks(4).map(number).collect() };
    let mut words = bytes[head..].chunks(2).map(number);
    let mut symbols = Vec::new();
    for i in 0..count {
        let x = &mut states[i % lanes];
        let (slot, mut s, mut start) = (*x % 4096, 0, 0);
        while slot >= start + f[s] {
            start += f[s];
            s += 1;
        }
        *x = f[s] * (*x / 4096) + slot - start;
        if *x < 65536 {
            *x = words.next().map_or(*x, |word| 65536 * *x + word);
        }
        symbols.push(s as u8);
    }
    assert!(words.next().is_none());
    assert!(states.iter().all(|&x| x == if lanes == 1 { 255 } else { 65536 }));
    symbols
}

fn naive_decode(model: &[u8], stream: &[u8], count: usize) -> Vec<u8> {
    match model[0] {
        0 => vec![model[1]; count],
        width @ 1..=8 => {
            let mut bits = NaiveBits(stream, 0);
            (0..count).map(|_| bits.take(width.into()) as u8).collect()
        }
        9 => naive_rans(&naive_table(&mut NaiveBits(&model[1..], 0)), stream, count),
        _ => {
            let f = naive_table(&mut NaiveBits(&model[1..], 0));
            let pairs = naive_rans(&f, stream, count.div_ceil(2));
            pairs.iter().flat_map(|p| [p % 16, p / 16]).take(count).collect()
        }
    }
}

const COUNTS: [usize; 13] = [0, 1, 2, 7, 8, 9, 300, 4095, 4096, 4097, 8191, 8193, 100_000];

#[test]
fn every_distribution_comes_back_and_the_naive_decoder_agrees() {
    let mut seen = [false; 4];
    for (name, symbols) in COUNTS.iter().flat_map(|&count| samples(count)) {
        let model = Model::fit(&histogram(&symbols), 1);
        let (head, stream) = (stored(&model), encoded(&model, &symbols));
        let mut input = Reader(&head);
        let model = Model::read(&mut input).unwrap();
        assert!(input.0.is_empty() && stored(&model) == head, "{name}");
        let mut back = vec![99; symbols.len()];
        model.check_plausible(&stream, symbols.len()).unwrap();
        model.decode(&stream, &mut back).unwrap();
        assert!(back == symbols, "{name} {}", symbols.len());
        assert!(naive_decode(&head, &stream, symbols.len()) == symbols, "{name} {}", symbols.len());
        assert!(model.stream_len(symbols.len()).is_none_or(|len| len == stream.len()));
        seen[match model {
            Model::Constant(_) => 0,
            Model::Packed { .. } => 1,
            Model::Rans(_) => 2,
            Model::Pairs(_) => 3,
        }] = true;
    }
    assert_eq!(seen, [true; 4]);
}

#[test]
fn every_symbol_is_counted_in_small_and_large_alphabets() {
    for (alphabet, len) in [1usize, 2, 3, 4, 5, 8, 200].into_iter().flat_map(|a| COUNTS.map(|len| (a, len))) {
        let symbols: Vec<u8> = (0..len).map(|i| (i * i / 3 % alphabet) as u8).collect();
        let mut naive = [0; 256];
        symbols.iter().for_each(|&symbol| naive[usize::from(symbol)] += 1);
        assert_eq!(histogram(&symbols), naive, "{alphabet} {len}");
    }
}

#[test]
fn streams_are_near_their_entropy() {
    for (name, symbols) in [500, 4000, 5000, 100_000].into_iter().flat_map(samples) {
        let counts = histogram(&symbols);
        let n = symbols.len() as f64;
        let entropy: f64 =
            counts.iter().filter(|&&h| h > 0).map(|&h| h as f64 * (n / h as f64).log2()).sum::<f64>() / 8.0;
        let model = Model::fit(&counts, 1);
        let (head, stream) = (stored(&model).len(), encoded(&model, &symbols).len());
        let occurring = counts.iter().filter(|&&h| h > 0).count();
        let table = if occurring <= 4 { 6 + occurring } else { 12 + 3 * occurring / 2 };
        println!("{name}: {head} + {stream} bytes, entropy {entropy:.1}");
        // A 4096th is the least probability, so that a certain symbol still costs 0.00035 bits.
        let bound = 1.01 * entropy + 0.00036 / 8.0 * n + 16.0;
        if let Model::Packed { width } = model {
            assert!(bits::packed_len(symbols.len(), width) as f64 <= bound + table as f64, "{name}");
        } else {
            assert!(stream as f64 <= bound, "{name}: {stream} bytes, entropy {entropy}");
        }
        if let Model::Rans(_) = model {
            assert!(head <= table, "{name}: {head} bytes of table for {occurring} symbols");
        }
    }
}

#[test]
fn one_model_serves_many_streams_of_any_length() {
    for (name, symbols) in samples(30_000) {
        let model = Model::fit(&histogram(&symbols), 5);
        let mut rest = &symbols[..];
        for len in [0, 1, 3, 5_000, 20_001] {
            let (chunk, tail) = rest.split_at(len);
            rest = tail;
            let mut back = vec![0; len];
            model.decode(&encoded(&model, chunk), &mut back).unwrap();
            assert!(back == chunk, "{name}");
        }
    }
}

#[test]
fn cut_lengthened_and_damaged_streams() {
    let mut random = Random(5);
    for (name, symbols) in [60, 700, 5000].into_iter().flat_map(samples) {
        let model = Model::fit(&histogram(&symbols), 1);
        let stream = encoded(&model, &symbols);
        let mut back = vec![0; symbols.len()];
        for len in (0..stream.len()).rev().step_by(1 + stream.len() / 300) {
            let Err(error) = model.decode(&stream[..len], &mut back) else {
                panic!("{name}: {len} of {} bytes passed", stream.len());
            };
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Truncated), "{name} {len}");
        }
        for extra in 1..4 {
            let long = [&stream[..], &[1, 2, 3][..extra]].concat();
            assert!(model.decode(&long, &mut back).is_err(), "{name}");
        }
        for _ in 0..if stream.is_empty() { 0 } else { 100 } {
            let mut damaged = stream.clone();
            damaged[random.next() as usize % stream.len()] ^= 1 << (random.next() % 8);
            let _ = model.decode(&damaged, &mut back);
        }
    }
}

#[test]
fn hostile_models_are_errors_or_work() {
    let mut random = Random(77);
    let mut valid = 0;
    for (_, symbols) in [100, 3000, 50_000].into_iter().flat_map(samples) {
        let head = stored(&Model::fit(&histogram(&symbols), 1));
        for len in 0..head.len() {
            assert!(Model::read(&mut Reader(&head[..len])).is_err());
        }
        for bit in 8..8 * head.len() {
            let mut damaged = head.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged.extend((0..100).map(|_| (random.next() >> 20) as u8));
            let mut input = Reader(&damaged);
            let Ok(model) = Model::read(&mut input) else { continue };
            let (Model::Rans(table) | Model::Pairs(table)) = &model else { continue };
            valid += 1;
            let of = table.frequencies.of;
            assert!(of.iter().sum::<u32>() == 4096 && of.iter().all(|&f| f < 4096));
            let mut back = [0; 9000];
            for len in [10, 9000] {
                let _ = model.decode(input.0, &mut back[..len]);
            }
        }
    }
    assert!(valid > 100, "{valid}");
    assert!(Model::read(&mut Reader(&[11, 0])).is_err_and(|e| e.kind() == ErrorKind::Unsupported));
}

#[test]
fn implausible_counts_are_refused_before_anything_is_allocated() {
    for (_, symbols) in samples(5000) {
        let model = Model::fit(&histogram(&symbols), 1);
        let stream = encoded(&model, &symbols);
        if !matches!(model, Model::Constant(_)) {
            assert!(model.check_plausible(&stream, 1 << 40).is_err());
        }
    }
}

fn edge_integers() -> Vec<i64> {
    let powers = (0..63).flat_map(|n| [(1i64 << n) - 1, 1 << n, (1 << n) + 1, 3 << n >> 1]);
    powers.flat_map(|v| [v, -v]).chain([i64::MIN, i64::MAX, i64::MIN + 1, 0, -1]).collect()
}

#[test]
fn integers_come_back_and_the_text_describes_them() {
    let mut random = Random(3);
    let mut lists = vec![vec![], vec![0], vec![-1; 3], vec![1 << 40], edge_integers()];
    for scale in [1.0, 10.0, 1e3, 1e9] {
        for count in [3, 50, 5000] {
            lists.push((0..count).map(|_| (scale * random.gaussian()) as i64).collect());
        }
    }
    for values in lists {
        let mut out = Writer(vec![42]);
        encode_ints(&values, &mut out);
        out.u8(43);
        let mut input = Reader(&out.0[1..]);
        assert_eq!(decode_ints(&mut input, values.len()).unwrap(), values);
        assert_eq!(input.0, [43]);
        assert_eq!(values.is_empty(), out.0.len() == 2);

        let (mut tokens, mut extra) = (Vec::new(), BitWriter::default());
        tokenize(&values, &mut tokens, &mut extra);
        let extra = extra.finish();
        let mut bits = NaiveBits(&extra, 0);
        for (&t, &value) in tokens.iter().zip(&values) {
            let mut u = u64::from(t);
            if t >= 16 {
                let (n, b) = (4 + u32::from(t - 16) / 2, u64::from(t - 16) % 2);
                u = (1 << n) + b * (1 << (n - 1)) + bits.take(n - 1);
            }
            assert_eq!(unzigzag(u), i128::from(value));
        }
        assert_eq!(bits.1.div_ceil(8), extra.len());
    }
}

#[test]
fn small_levels_come_back_and_large_ones_do_not_fit() {
    let levels = [0, 5, -9, i32::MAX, i32::MIN, 1000];
    let (mut tokens, mut extra) = (vec![], BitWriter::default());
    tokenize(&levels, &mut tokens, &mut extra);
    let extra = extra.finish();
    let mut back = [0i32; 6];
    let mut reader = BitReader::new(&extra);
    detokenize(&tokens, &mut reader, &mut back).unwrap();
    assert_eq!(back, levels);
    assert_eq!(reader.used("test").unwrap(), extra.len());
    let mut narrow = [0i16; 6];
    assert!(detokenize(&tokens, &mut BitReader::new(&extra), &mut narrow).is_err());
    assert!(detokenize(&tokens[..5], &mut BitReader::new(&extra), &mut back).is_err());
    assert!(detokenize(&[136; 6], &mut BitReader::new(&[0; 99]), &mut back).is_err());
    assert!(detokenize(&tokens, &mut BitReader::new(&extra[..3]), &mut back).is_err());
}

#[test]
fn cut_and_damaged_lists_of_integers() {
    let mut random = Random(9);
    for scale in [0.5, 4.0, 300.0, 1e12] {
        for count in [2, 30, 600, 6000] {
            let values: Vec<i64> = (0..count).map(|_| (scale * random.gaussian()) as i64).collect();
            let mut out = Writer::default();
            encode_ints(&values, &mut out);
            for len in (0..out.0.len()).step_by(1 + out.0.len() / 500) {
                assert!(decode_ints(&mut Reader(&out.0[..len]), count).is_err(), "{scale} {count} {len}");
            }
            for _ in 0..200 {
                let mut damaged = out.0.clone();
                damaged[random.next() as usize % out.0.len()] ^= 1 << (random.next() % 8);
                let _ = decode_ints(&mut Reader(&damaged), count);
            }
        }
    }
}
