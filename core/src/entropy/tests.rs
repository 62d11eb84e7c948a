#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn quick() {
    let mut seed = 1u64;
    for n in [0usize, 1, 7, 8, 100, 4095, 4096, 4097, 100_000] {
        let symbols: Vec<u8> = (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(99);
                ((seed >> 33) as u16 as u8 & (seed >> 50) as u8) & 15
            })
            .collect();
        let model = Model::fit(&histogram(&symbols), 1);
        let mut out = Writer::default();
        model.write(&mut out);
        let head = out.0.len();
        model.encode(&symbols, &mut out.0);
        println!("{n} head {head} total {}", out.0.len());
        let mut r = Reader(&out.0);
        let model = Model::read(&mut r).unwrap();
        let mut back = vec![0; n];
        model.decode(r.0, &mut back).unwrap();
        assert_eq!(symbols, back);
        let ints: Vec<i64> = symbols.iter().map(|&s| (s as i64 - 3).pow(s as u32)).collect();
        let mut out = Writer::default();
        encode_ints(&ints, &mut out);
        let mut r = Reader(&out.0);
        assert_eq!(decode_ints(&mut r, n).unwrap(), ints);
        assert!(r.0.is_empty());
    }
}
