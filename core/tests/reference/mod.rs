//! A second decoder, written from the format's description alone: short and slow, and sharing no code with the
//! crate. What it makes of a file must be what the crate makes of it, to the bit.
//!
//! It trusts its input: damaged files are the crate's business (`hostile.rs`). It panics where a file is wrong.
#![allow(dead_code, unreachable_pub, clippy::manual_is_multiple_of)]

pub mod cosine;
pub mod entropy;
pub mod exact;
mod factors;
pub mod payload;
pub mod wavelet;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::Read;

use entropy::{Bytes, read_model};
use twox_hash::XxHash3_64;

/// Element types by their id in a record.
pub const DTYPES: [&str; 22] = [
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "I32",
    "I16",
    "I8",
    "U64",
    "U32",
    "U16",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "F6_E2M3",
    "F6_E3M2",
    "C64",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
];

/// A tensor with its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A `.ddct` file, its checksums checked.
pub struct File {
    pub metadata: BTreeMap<String, String>,
    pub entries: BTreeMap<String, Vec<u8>>,
    pub seal: u64,
}

/// XXH3 of 64 bits, seed 0.
pub fn xxh3(parts: &[&[u8]]) -> u64 {
    let mut hasher = XxHash3_64::new();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

/// The metadata and the tensors of a safetensors file, by name.
pub fn safetensors(file: &[u8]) -> (BTreeMap<String, String>, BTreeMap<String, Tensor>) {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&file[8..8 + len]).unwrap();
    let data = &file[8 + len..];
    let (mut metadata, mut tensors) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in header {
        if name == "__metadata__" {
            metadata = serde_json::from_value(value).unwrap();
            continue;
        }
        let offset = |i: usize| value["data_offsets"][i].as_u64().unwrap() as usize;
        let shape = value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let bytes = data[offset(0)..offset(1)].to_vec();
        tensors.insert(name, Tensor { dtype: value["dtype"].as_str().unwrap().to_owned(), shape, bytes });
    }
    (metadata, tensors)
}

impl File {
    /// Opens the bytes of a file.
    pub fn open(file: &[u8]) -> Self {
        let (metadata, tensors) = safetensors(file);
        assert_eq!((metadata["format"].as_str(), metadata["format_version"].as_str()), ("ddct", "1"));
        let mut entries = BTreeMap::new();
        let mut checks = BTreeMap::new();
        for (name, tensor) in tensors {
            assert_eq!((tensor.dtype.as_str(), tensor.shape.as_slice()), ("U8", &[tensor.bytes.len()][..]));
            let (content, check) = tensor.bytes.split_last_chunk::<8>().unwrap();
            let check = u64::from_le_bytes(*check);
            assert_eq!(check, xxh3(&[name.as_bytes(), &[0], content]), "checksum of {name}");
            checks.insert(name.clone(), check);
            entries.insert(name, content.to_vec());
        }
        let stored = entries.remove("__ddct__/seal").unwrap();
        checks.remove("__ddct__/seal");
        let seal = seal(&metadata, &checks);
        assert_eq!(stored, seal.to_le_bytes().to_vec(), "seal");
        if let Some(content) = entries.remove("__ddct__/bundle") {
            for (name, content) in unbundle(&content) {
                assert!(entries.insert(name.clone(), content).is_none(), "{name} is there twice");
            }
        }
        Self { metadata, entries, seal }
    }

    /// The names of the model's tensors.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.entries.keys().filter(|name| !name.starts_with("__ddct__/"))
    }

    /// The names of the side files.
    pub fn side_files(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().filter_map(|name| name.strip_prefix("__ddct__/file/"))
    }

    /// The side file `name`, given the one of the same name beside the base.
    pub fn side_file(&self, name: &str, base: Option<&[u8]>) -> Vec<u8> {
        side_file(&self.entries[&format!("__ddct__/file/{name}")], base)
    }

    /// The tensor `name`, given the tensors of the base.
    pub fn decode(&self, name: &str, base: &BTreeMap<String, Tensor>) -> Tensor {
        let record = Record::read(name, &self.entries[name]);
        match &record.body {
            Body::Alias(target) => self.decode(target, base),
            _ => record.decode(record.base(name).map(|name| &base[&name])),
        }
    }

    /// The tensor `name` of this enhancement and its first layer.
    pub fn refine(&self, layer: &Self, name: &str, base: &BTreeMap<String, Tensor>) -> Tensor {
        assert!(self.metadata["layer"].starts_with(&format!("{:016x} ", layer.seal)), "another first layer");
        assert!(!layer.metadata.contains_key("layer"));
        let entry = self.entries.get(name).unwrap_or_else(|| &layer.entries[name]);
        let record = Record::read(name, entry);
        match &record.body {
            Body::Alias(target) => self.refine(layer, target, base),
            Body::Refined(_) => record.decode(Some(&layer.decode(name, base))),
            _ => record.decode(record.base(name).map(|name| &base[&name])),
        }
    }
}

/// The entries of a bundle.
fn unbundle(content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tails = Bytes(content);
    let index = unzstd(tails.bytes(), &[]);
    let mut index = Bytes(&index);
    let (count, head) = (index.varint(), index.varint() as usize);
    let sizes: Vec<usize> = (0..count).map(|_| index.varint() as usize).collect();
    let names: Vec<_> = sizes.iter().map(|_| String::from_utf8(index.bytes().to_vec()).unwrap()).collect();
    let contents = sizes.into_iter().map(|size| {
        let first = index.take(size.min(head));
        [first, tails.take(size - first.len())].concat()
    });
    let entries = names.into_iter().zip(contents).collect();
    assert!(index.0.is_empty() && tails.0.is_empty());
    entries
}

/// The content of a bundle with these entries, of which so many bytes each are packed.
pub fn bundle(entries: &[(String, Vec<u8>)], head: usize) -> Vec<u8> {
    let (mut index, mut tails) = (Vec::new(), Vec::new());
    put_varint(&mut index, entries.len() as u64);
    put_varint(&mut index, head as u64);
    entries.iter().for_each(|(_, content)| put_varint(&mut index, content.len() as u64));
    for (name, _) in entries {
        put_varint(&mut index, name.len() as u64);
        index.extend(name.as_bytes());
    }
    for (_, content) in entries {
        let (first, rest) = content.split_at(content.len().min(head));
        index.extend(first);
        tails.extend(rest);
    }
    with_index(&zstd::bulk::compress(&index, 3).unwrap(), &tails)
}

/// The content of a bundle of these two parts.
pub fn with_index(packed: &[u8], tails: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, packed.len() as u64);
    [&out[..], packed, tails].concat()
}

/// The content of a side file from its entry, given the one of the same name beside the base.
fn side_file(entry: &[u8], base: Option<&[u8]>) -> Vec<u8> {
    let mut input = Bytes(entry);
    let kind = input.u8();
    if kind == 0 {
        return unzstd(input.0, &[]);
    }
    let base = base.unwrap();
    assert_eq!(input.u64(), xxh3(&[base]), "another side file in the base");
    match kind {
        1 => base.to_vec(),
        2 => unzstd(input.0, base),
        3 => unzstd(input.0, &pretty(base)),
        _ => panic!("side file kind {kind}"),
    }
}

fn unzstd(packed: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    zstd::Decoder::with_ref_prefix(packed, prefix).unwrap().read_to_end(&mut content).unwrap();
    content
}

/// The pretty form: outside of strings new white space, all else as it is.
fn pretty(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut depth = 0usize;
    let mut i = 0;
    while i < text.len() {
        let start = i;
        i += 1;
        match text[start] {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => {
                while i < text.len() && text[i] != b'"' {
                    i += if text[i] == b'\\' { 2 } else { 1 };
                }
                i = (i + 1).min(text.len());
            }
            _ => {}
        }
        let token = &text[start..i];
        let opens = |token: Option<&u8>| token.is_some_and(|b| b"{[".contains(b));
        let closes = b"}]".contains(&token[0]);
        if closes {
            depth = depth.saturating_sub(1);
        }
        let line = |depth: usize| [&b"\n"[..], &b"  ".repeat(depth)].concat();
        if opens(out.last()) != closes {
            out.extend(line(depth));
        }
        out.extend(token);
        if opens(token.first()) {
            depth += 1;
        }
        match token {
            b"," => out.extend(line(depth)),
            b":" => out.push(b' '),
            _ => {}
        }
    }
    out
}

/// Digest over metadata and checksums.
pub fn seal(metadata: &BTreeMap<String, String>, checks: &BTreeMap<String, u64>) -> u64 {
    let mut text = Vec::new();
    for (key, value) in metadata {
        for part in [key, value] {
            put_varint(&mut text, part.len() as u64);
            text.extend(part.as_bytes());
        }
    }
    for (name, check) in checks {
        put_varint(&mut text, name.len() as u64);
        text.extend(name.as_bytes());
        text.extend(check.to_le_bytes());
    }
    xxh3(&[&text])
}

/// The bytes of a file with these entries, sealed anew. Metadata is written as it is.
pub fn write_file(metadata: &BTreeMap<String, String>, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let sealed = |name: &str, content: &[u8]| xxh3(&[name.as_bytes(), &[0], content]);
    let checks: BTreeMap<String, u64> =
        entries.iter().map(|(name, content)| (name.clone(), sealed(name, content))).collect();
    let seal_name = "__ddct__/seal".to_owned();
    let last = (seal_name, seal(metadata, &checks).to_le_bytes().to_vec());
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::to_value(metadata).unwrap());
    let mut data = Vec::new();
    for (name, content) in entries.iter().chain([&last]) {
        let start = data.len();
        data.extend(content);
        data.extend(sealed(name, content).to_le_bytes());
        let info = serde_json::json!({"dtype": "U8", "shape": [data.len() - start], "data_offsets": [start, data.len()]});
        header.insert(name.clone(), info);
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &data].concat()
}

/// LEB128.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One record, in its parts.
#[derive(Clone, Debug)]
pub struct Record {
    pub dtype: u8,
    pub shape: Vec<u64>,
    pub result: u64,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    Raw(Vec<u8>),
    Base(Link, Vec<u8>),
    Alias(String),
    Delta(Link, Vec<u8>, Vec<u8>),
    /// Link, payload, residual, new rows.
    Exact(Link, [Vec<u8>; 3]),
    /// Residual.
    Refined(Vec<u8>),
    /// Payload.
    Alone(Vec<u8>),
}

/// What a record says of its base tensor.
#[derive(Clone, Debug)]
pub struct Link {
    /// Bytes that its name shares with the end of the tensor's name, and the bytes before them.
    pub shared: u64,
    pub own: Vec<u8>,
    pub dtype: u8,
    pub rows: u64,
    pub digest: u64,
}

impl Record {
    pub fn read(name: &str, bytes: &[u8]) -> Self {
        let mut input = Bytes(bytes);
        let (kind, dtype) = (input.u8(), input.u8());
        let dimensions = input.varint();
        let shape = (0..dimensions).map(|_| input.varint()).collect();
        let result = input.u64();
        let body = match kind {
            0 => Body::Raw(input.bytes().to_vec()),
            1 => Body::Base(Link::read(&mut input), input.bytes().to_vec()),
            2 => Body::Alias(String::from_utf8(input.bytes().to_vec()).unwrap()),
            3 => Body::Delta(Link::read(&mut input), input.bytes().to_vec(), input.bytes().to_vec()),
            4 => Body::Exact(Link::read(&mut input), [(); 3].map(|()| input.bytes().to_vec())),
            5 => Body::Refined(input.bytes().to_vec()),
            6 => Body::Alone(input.bytes().to_vec()),
            _ => panic!("{name}: record kind {kind}"),
        };
        assert!(input.0.is_empty(), "{name}: bytes left over");
        Self { dtype, shape, result, body }
    }

    /// The record's bytes again.
    pub fn write(&self) -> Vec<u8> {
        let kind = match self.body {
            Body::Raw(_) => 0,
            Body::Base(..) => 1,
            Body::Alias(_) => 2,
            Body::Delta(..) => 3,
            Body::Exact(..) => 4,
            Body::Refined(_) => 5,
            Body::Alone(_) => 6,
        };
        let mut out = vec![kind, self.dtype];
        put_varint(&mut out, self.shape.len() as u64);
        self.shape.iter().for_each(|&n| put_varint(&mut out, n));
        out.extend(self.result.to_le_bytes());
        let mut put = |link: Option<&Link>, parts: &[&[u8]]| {
            if let Some(link) = link {
                put_varint(&mut out, link.shared);
                put_varint(&mut out, link.own.len() as u64);
                out.extend(&link.own);
                out.push(link.dtype);
                put_varint(&mut out, link.rows);
                out.extend(link.digest.to_le_bytes());
            }
            for part in parts {
                put_varint(&mut out, part.len() as u64);
                out.extend(*part);
            }
        };
        match &self.body {
            Body::Raw(planes) => put(None, &[planes]),
            Body::Base(link, tail) => put(Some(link), &[tail]),
            Body::Alias(target) => put(None, &[target.as_bytes()]),
            Body::Delta(link, payload, tail) => put(Some(link), &[payload, tail]),
            Body::Exact(link, [payload, residual, tail]) => put(Some(link), &[payload, residual, tail]),
            Body::Refined(residual) => put(None, &[residual]),
            Body::Alone(payload) => put(None, &[payload]),
        }
        out
    }

    pub fn link(&self) -> Option<&Link> {
        match &self.body {
            Body::Base(link, _) | Body::Delta(link, ..) | Body::Exact(link, ..) => Some(link),
            _ => None,
        }
    }

    /// The name of the base tensor of the record called `name`.
    pub fn base(&self, name: &str) -> Option<String> {
        let link = self.link()?;
        let tail = &name.as_bytes()[name.len() - link.shared as usize..];
        Some(String::from_utf8([&link.own, tail].concat()).unwrap())
    }

    /// The tensor, given the base tensor if there is one, or the tensor of the first layer. Checks all digests.
    pub fn decode(&self, base: Option<&Tensor>) -> Tensor {
        let dtype = DTYPES[usize::from(self.dtype)];
        let shape: Vec<usize> = self.shape.iter().map(|&n| n as usize).collect();
        let len = shape.iter().product::<usize>() * size(dtype);
        let bytes = match (&self.body, base) {
            (Body::Raw(planes), _) => unpack_planes(planes, size(dtype), len),
            (Body::Base(link, tail), Some(base)) => {
                let head = link.cast(base, dtype);
                let tail = unpack_planes(tail, size(dtype), len - head.len());
                [head, tail].concat()
            }
            (Body::Delta(link, payload, tail), Some(base)) => {
                let head = link.changed(base, dtype, &shape, payload);
                let tail = unpack_planes(tail, size(dtype), len - head.len());
                [head, tail].concat()
            }
            (Body::Exact(link, [payload, residual, tail]), Some(base)) => {
                let prediction = match payload.is_empty() {
                    true => link.cast(base, dtype),
                    false => link.changed(base, dtype, &shape, payload),
                };
                let head = exact::decode(residual, dtype, &prediction);
                let tail = unpack_planes(tail, size(dtype), len - head.len());
                [head, tail].concat()
            }
            (Body::Refined(residual), Some(below)) => {
                assert_eq!(below.shape, shape);
                exact::decode(residual, dtype, &cast(&below.dtype, &below.bytes, dtype))
            }
            (Body::Alone(payload), _) => {
                assert!(len / size(dtype) <= 64 * payload.len());
                let rows = shape.first().copied().unwrap_or(1);
                changed((dtype, &vec![0; len]), dtype, matrices(&shape, rows), payload)
            }
            _ => panic!("an alias, or the base is missing"),
        };
        assert_eq!((bytes.len(), xxh3(&[&bytes])), (len, self.result), "the result is another one");
        Tensor { dtype: dtype.to_owned(), shape, bytes }
    }
}

impl Link {
    fn read(input: &mut Bytes<'_>) -> Self {
        let (shared, own) = (input.varint(), input.bytes().to_vec());
        Self { shared, own, dtype: input.u8(), rows: input.varint(), digest: input.u64() }
    }

    /// The rows that are used, in another dtype.
    fn cast(&self, base: &Tensor, dtype: &str) -> Vec<u8> {
        cast(&base.dtype, self.rows_of(base), dtype)
    }

    /// The rows that are used with the delta of `payload`.
    fn changed(&self, base: &Tensor, dtype: &str, shape: &[usize], payload: &[u8]) -> Vec<u8> {
        changed((&base.dtype, self.rows_of(base)), dtype, matrices(shape, self.rows as usize), payload)
    }

    /// The bytes of the rows that are used, after checking that they are the right ones.
    fn rows_of<'a>(&self, base: &'a Tensor) -> &'a [u8] {
        assert_eq!(DTYPES[usize::from(self.dtype)], base.dtype);
        let rows = base.shape.first().copied().unwrap_or(1);
        let row = base.bytes.len().checked_div(rows).unwrap_or(0);
        let bytes = &base.bytes[..row * self.rows as usize];
        assert_eq!(xxh3(&[bytes]), self.digest, "another base");
        bytes
    }
}

/// The bytes of `base` with the delta of `payload`, of so many matrices and of their rows and columns.
fn changed(
    base: (&str, &[u8]),
    dtype: &str,
    (count, rows, cols): (usize, usize, usize),
    payload: &[u8],
) -> Vec<u8> {
    let mut all = Bytes(payload);
    let matrix = |bytes: &[u8]| {
        let payload = if count == 1 { payload } else { all.bytes() };
        let (factor, delta) = payload::decode(payload, rows, cols);
        add(base.0, bytes, &delta, factor, dtype)
    };
    let len = rows * cols * size(base.0);
    let result = if len == 0 { Vec::new() } else { base.1.chunks(len).flat_map(matrix).collect() };
    assert!(count == 1 || all.0.is_empty());
    result
}

/// How many matrices a tensor is, of which so many rows are used, and their rows and columns.
fn matrices(shape: &[usize], rows: usize) -> (usize, usize, usize) {
    if shape.is_empty() {
        return (1, 1, 1);
    }
    if shape.len() > 3 && shape[0] == 1 && rows == 1 {
        return matrices(&shape[1..], shape[1]);
    }
    if shape.len() == 3 && rows <= shape[1] && rows <= shape[2] {
        return (rows, shape[1], shape[2]);
    }
    (1, rows, shape[1..].iter().product())
}

/// Bytes of an element; 1 for those that are smaller.
pub fn size(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    }
}

/// Byte planes: pieces of 2^20 elements; of each piece byte 0 of every element, then byte 1 ...
fn unpack_planes(packed: &[u8], size: usize, len: usize) -> Vec<u8> {
    let mut input = Bytes(packed);
    let mut out = vec![0; len];
    for piece in out.chunks_mut(size << 20) {
        for plane in 0..size {
            let model = read_model(&mut input);
            let symbols = model.decode(input.bytes(), piece.len() / size);
            for (i, symbol) in symbols.into_iter().enumerate() {
                piece[i * size + plane] = symbol;
            }
        }
    }
    assert!(input.0.is_empty());
    out
}

/// Elements in another dtype.
fn cast(from: &str, bytes: &[u8], to: &str) -> Vec<u8> {
    if from == to { bytes.to_vec() } else { add(from, bytes, &vec![0.0; bytes.len() / size(from)], 0.0, to) }
}

/// `base + factor * delta` element by element; a delta of zeros and factor 0 is a mere cast, which keeps -0.
fn add(from: &str, base: &[u8], delta: &[f32], factor: f32, to: &str) -> Vec<u8> {
    let cast = factor == 0.0 && delta.iter().all(|&d| d == 0.0);
    let wide = from == "F64" || to == "F64";
    let elements = base.chunks_exact(size(from)).zip(delta);
    let sum = |(element, &d): (&[u8], &f32)| {
        let (base, change) = (value(from, element), factor * d);
        match (cast, wide) {
            (true, _) => round(to, base),
            (false, true) => round(to, base + f64::from(change)),
            (false, false) => round(to, f64::from(base as f32 + change)),
        }
    };
    elements.flat_map(sum).collect()
}

/// The value of one element.
pub fn value(dtype: &str, bytes: &[u8]) -> f64 {
    match dtype {
        "F64" => f64::from_le_bytes(bytes.try_into().unwrap()),
        "F32" => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
        "BF16" => f32::from_bits(u32::from(u16::from_le_bytes(bytes.try_into().unwrap())) << 16).into(),
        "F16" => {
            let bits = u16::from_le_bytes(bytes.try_into().unwrap());
            let (sign, exponent, mantissa) = (bits >> 15, bits >> 10 & 31, f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 => {
                    if mantissa == 0.0 {
                        f64::INFINITY
                    } else {
                        f64::NAN
                    }
                }
                _ => (1024.0 + mantissa) * 2f64.powi(i32::from(exponent) - 25),
            };
            if sign == 1 { -magnitude } else { magnitude }
        }
        _ => panic!("{dtype} has no values"),
    }
}

/// `x` rounded once, to nearest, ties to even.
fn round(dtype: &str, x: f64) -> Vec<u8> {
    match dtype {
        "F64" => x.to_le_bytes().to_vec(),
        "F32" => (x as f32).to_le_bytes().to_vec(),
        "BF16" => small(x, 8, 7).to_le_bytes().to_vec(),
        "F16" => small(x, 5, 10).to_le_bytes().to_vec(),
        _ => panic!("{dtype} has no values"),
    }
}

/// A float of 16 bits.
fn small(x: f64, exponent_bits: i32, mantissa_bits: i32) -> u16 {
    let sign = u16::from(x.is_sign_negative()) << 15;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
    if x.is_nan() {
        return sign | infinity | 1 << (mantissa_bits - 1);
    }
    // Twice 2^-1022 is far below either type's range: such numbers are 0 in both.
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(1 - bias);
    if exponent > bias {
        return sign | infinity;
    }
    // In units of the last place, exact in f64; what rounds up to the next binade carries into the exponent.
    let units = (x.abs() * 2f64.powi(mantissa_bits - exponent)).round_ties_even() as u32;
    let bits = ((exponent + bias - 1) as u32 * (1 << mantissa_bits)) + units;
    sign | bits.min(u32::from(infinity)) as u16
}
