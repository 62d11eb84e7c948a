//! Random changes to valid bytes, the same on every run.
#![allow(unreachable_pub)]

use crate::pairs::word;
use crate::reference::{Body, Link, Record, put_varint};

/// A stream of random numbers.
pub struct Random {
    seed: u64,
    next: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    pub fn word(&mut self) -> u64 {
        self.next += 1;
        word(self.seed, self.next)
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n.max(1) as u64) as usize
    }
}

/// One to three changes; some bytes may come from `other`.
pub fn bytes(valid: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = valid.to_vec();
    for _ in 0..1 + random.below(3) {
        change(&mut out, other, random);
    }
    out
}

fn change(out: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const BYTES: [u8; 10] = [0, 1, 2, 3, 8, 9, 10, 0x7f, 0x80, 0xff];
    const FLOATS: [f32; 8] = [0.0, -0.0, -1.0, 1e38, 1e-45, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let at = random.below(out.len());
    let len = 1 + random.below(8);
    let end = (at + len).min(out.len());
    match random.below(9) {
        0 | 1 if !out.is_empty() => out[at] ^= 1 << random.below(8),
        2 if !out.is_empty() => out[at] = BYTES[random.below(BYTES.len())],
        3 if !out.is_empty() => out[at] = random.word() as u8,
        4 => drop(out.drain(at..end)),
        5 => drop(out.splice(at..at, (0..len).map(|_| random.word() as u8))),
        6 => {
            let mut huge = Vec::new();
            put_varint(&mut huge, random.word() >> random.below(64));
            out.splice(at..end.min(at + 1), huge);
        }
        7 => {
            let float = FLOATS[random.below(FLOATS.len())].to_le_bytes();
            out.splice(at..end.min(at + 4), float);
        }
        _ => {
            let from = random.below(other.len());
            let to = (from + random.below(40)).min(other.len());
            out.splice(at..end, other[from..to].iter().copied());
        }
    }
}

/// A record with one field or part changed, and put together again so that all lengths are right.
pub fn record(valid: &[u8], random: &mut Random) -> Vec<u8> {
    let mut record = Record::read("", valid);
    match random.below(8) {
        0 => shape(&mut record, random),
        1 => record.dtype = random.below(24) as u8,
        2 => link(&mut record, random),
        _ => payload(&mut record, random),
    }
    record.write()
}

fn shape(record: &mut Record, random: &mut Random) {
    const SIZES: [u64; 8] = [0, 1, 2, 1 << 16, 1 << 20, 1 << 39, 1 << 40, u64::MAX];
    let total: u64 = record.shape.iter().product();
    match random.below(5) {
        0 => record.shape = vec![total],
        1 => record.shape = vec![1, total],
        2 => record.shape.reverse(),
        3 => {
            let at = random.below(record.shape.len() + 1);
            record.shape.insert(at, SIZES[random.below(SIZES.len())]);
        }
        _ => {
            let at = random.below(record.shape.len());
            if let Some(size) = record.shape.get_mut(at) {
                *size = SIZES[random.below(SIZES.len())];
            }
        }
    }
    // The rows of the base follow, mostly.
    let rows = record.shape.first().copied().unwrap_or(1);
    if let (Some(link), 1..) = (link_of(record), random.below(4)) {
        link.rows = rows;
    }
}

fn link(record: &mut Record, random: &mut Random) {
    let Some(link) = link_of(record) else { return };
    match random.below(4) {
        0 => link.shared = random.word() >> random.below(64),
        1 => link.own = vec![random.word() as u8; random.below(20)],
        2 => link.dtype = random.below(24) as u8,
        _ => link.rows = random.word() >> random.below(64),
    }
}

fn link_of(record: &mut Record) -> Option<&mut Link> {
    match &mut record.body {
        Body::Base(link, _) | Body::Delta(link, ..) | Body::Exact(link, ..) => Some(link),
        _ => None,
    }
}

fn payload(record: &mut Record, random: &mut Random) {
    match &mut record.body {
        Body::Raw(part) | Body::Base(_, part) | Body::Refined(part) | Body::Alone(part) => {
            *part = bytes(part, &[], random);
        }
        Body::Alias(name) => name.push('x'),
        Body::Delta(_, part, tail) => {
            let part = if random.below(10) == 0 { tail } else { part };
            *part = bytes(part, &[], random);
        }
        Body::Exact(_, parts) => {
            // Mostly the residual: the payload is empty, and so are the new rows, mostly.
            let part = &mut parts[[1, 1, 1, 1, 1, 0, 2][random.below(7)]];
            *part = bytes(part, &[], random);
        }
    }
}
