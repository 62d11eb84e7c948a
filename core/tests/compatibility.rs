//! What other programs may rely on: the decoder that `reference` wrote from the description of the format reads
//! every file as the crate does, and files of later versions are refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "golden/pairs.rs"]
mod pairs;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use delta_dct::{Archive, Checkpoint, Dtype, ErrorKind, Silent, TensorView, decode_tensor, encode_tensor};
use pairs::{CASES, Tensor, tensors};
use reference::{Body, File, Record};

fn view(tensor: &Tensor) -> TensorView<'_> {
    TensorView { dtype: tensor.dtype, shape: &tensor.shape, bytes: &tensor.bytes }
}

fn as_reference(tensor: &Tensor) -> reference::Tensor {
    reference::Tensor {
        dtype: tensor.dtype.to_string(),
        shape: tensor.shape.clone(),
        bytes: tensor.bytes.clone(),
    }
}

/// Both decoders agree on the record that `recipe` makes of the pair.
fn check_record(recipe: &str, base: &Tensor, finetuned: &Tensor) {
    let record = encode_tensor("t", view(base), view(finetuned), &recipe.parse().unwrap()).unwrap();
    let mut ours = vec![0; finetuned.bytes.len()];
    decode_tensor("t", &record, Some(view(base)), &mut ours).unwrap();
    let parsed = Record::read("t", &record);
    assert_eq!(parsed.write(), record);
    let theirs = parsed.decode(Some(&as_reference(base)));
    assert!(theirs.bytes == ours, "{recipe}: the reference decoder finds other weights");
}

#[test]
fn the_reference_decoder_reads_the_golden_files() {
    for case in CASES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{}.ddct", case.name));
        let file = File::open(&fs::read(&path).unwrap());
        let disk = (case.pair)().write();
        let output = disk.folder.path().join("applied");
        Archive::open(&path).unwrap().apply(&disk.base, &output, false, &Silent).unwrap();
        let applied = Checkpoint::open(&output).unwrap();
        let (_, base) =
            reference::safetensors(&fs::read(disk.folder.path().join("base/model.safetensors")).unwrap());
        assert!(file.names().map(String::as_str).eq(applied.names()), "{}", case.name);
        for name in file.names() {
            let (ours, theirs) = (applied.get(name).unwrap(), file.decode(name, &base));
            assert_eq!(
                (ours.dtype.to_string(), ours.shape),
                (theirs.dtype, &theirs.shape[..]),
                "{}",
                case.name
            );
            assert!(ours.bytes == theirs.bytes, "{}: {name}", case.name);
        }
        for name in file.side_files() {
            let of_base = fs::read(disk.folder.path().join("base").join(name)).ok();
            let theirs = file.side_file(name, of_base.as_deref());
            assert_eq!(fs::read(output.join(name)).unwrap(), theirs, "{}: {name}", case.name);
        }
    }
}

#[test]
fn the_reference_decoder_reads_records_of_several_chunks() {
    let shapes: [&[usize]; 3] = [&[700, 200], &[2, 70_000], &[150_000, 1]];
    for (i, shape) in shapes.into_iter().enumerate() {
        let (base, finetuned) = tensors(Dtype::F32, Dtype::F32, shape, 40 + i as u64);
        for case in CASES.iter().filter(|case| !["odd", "odd-2"].contains(&case.name)) {
            // Blocks pad a column or two to many times their weights: those cost time and show nothing new.
            if shape[0].min(shape[1]) > 2 || !case.recipe.contains("block") {
                check_record(case.recipe, &base, &finetuned);
            }
        }
    }
}

#[test]
fn the_reference_decoder_reads_every_shape_and_dtype() {
    let dtypes = [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F64];
    let shapes: [&[usize]; 9] = [
        &[],
        &[0, 3],
        &[500],
        &[20, 31],
        &[1, 620],
        &[8, 9, 10],
        &[1, 20, 31],
        &[1, 1, 30, 20],
        &[1, 1, 600],
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        for (base_dtype, dtype) in dtypes.into_iter().flat_map(|base| dtypes.map(|dtype| (base, dtype))) {
            let (base, finetuned) = tensors(base_dtype, dtype, shape, 55 + i as u64);
            for recipe in [
                "dct block=8 bits=3",
                "uniform",
                "sparse share=0.1",
                "dare",
                "lowrank rank=2",
                "bitdelta",
                "zero",
            ] {
                check_record(recipe, &base, &finetuned);
            }
        }
    }
}

#[test]
fn the_reference_decoder_reads_every_wavelet() {
    let (base, finetuned) = tensors(Dtype::F16, Dtype::F16, &[50, 65], 51);
    for wavelet in ["haar", "db2", "db3", "db4", "sym4", "cdf5/3", "cdf9/7", "learned"] {
        for options in
            ["block=4", "block=7 levels=2", "block=24 levels=4 keep=ll_only", "block=33 levels=5 details=3"]
        {
            check_record(&format!("dwt wavelet={wavelet} bits=4:1 {options}"), &base, &finetuned);
        }
    }
}

#[test]
fn the_reference_decoder_reads_every_block_size() {
    let (base, finetuned) = tensors(Dtype::BF16, Dtype::BF16, &[50, 65], 50);
    for block in (4..=24).chain([25, 31, 32, 33, 48, 50, 64, 96, 127, 128]) {
        for recipe in ["dct bits=3:0.5,0:0.5", "dct-jpeg bits=8"] {
            check_record(&format!("{recipe} block={block}"), &base, &finetuned);
        }
    }
}

/// A small file, taken apart.
struct Parts {
    disk: pairs::OnDisk,
    metadata: BTreeMap<String, String>,
    entries: Vec<(String, Vec<u8>)>,
}

impl Parts {
    fn new(recipe: &str) -> Self {
        let disk = pairs::plain().write();
        let file = File::open(&fs::read(disk.compress(recipe).unwrap()).unwrap());
        Self { disk, metadata: file.metadata, entries: file.entries.into_iter().collect() }
    }

    /// The archive of the parts put together again.
    fn open(&self) -> delta_dct::Result<Archive> {
        let path = self.disk.folder.path().join("again.ddct");
        fs::write(&path, reference::write_file(&self.metadata, &self.entries)).unwrap();
        Archive::open(&path)
    }

    fn entry(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.entries.iter_mut().find(|(entry, _)| entry == name).unwrap().1
    }
}

const NAME: &str = "layer.attention.weight";

#[test]
fn a_file_put_together_by_others_is_read() {
    let parts = Parts::new("dct block=8");
    parts.open().unwrap().verify(Some(&parts.disk.base), &Silent).unwrap();
}

#[test]
fn a_bundle_put_together_by_others_is_read() {
    let mut parts = Parts::new("dct block=8");
    for head in [0, 1, 100, 1 << 20] {
        let mut entries = parts.entries.clone();
        let alone = entries.split_off(4);
        let bundle = ("__ddct__/bundle".to_owned(), reference::bundle(&entries, head));
        let bundled = [alone, vec![bundle]].concat();
        let all = std::mem::replace(&mut parts.entries, bundled);
        let archive = parts.open().unwrap();
        archive.verify(Some(&parts.disk.base), &Silent).unwrap();
        assert_eq!(archive.tensors().unwrap().len(), 6);
        parts.entries = all;
    }
}

#[test]
fn a_later_version_is_refused_by_its_number() {
    for version in ["2", "17"] {
        let mut parts = Parts::new("dct block=8");
        parts.metadata.insert("format_version".to_owned(), version.to_owned());
        // A later version may be sealed in another way.
        parts.entry("__ddct__/layout").clear();
        let Err(error) = parts.open() else { panic!("version {version} was read") };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("version {version}")), "{error}");
    }
}

#[test]
fn what_is_no_delta_is_refused() {
    let parts = Parts::new("dct block=8");
    let weights = parts.disk.folder.path().join("base/model.safetensors");
    let refused = |result: delta_dct::Result<Archive>, word: &str| {
        let Err(error) = result else { panic!("it was read") };
        assert!(error.to_string().contains(word), "{error}");
        error.kind()
    };
    assert_eq!(refused(Archive::open(&weights), "not a .ddct file"), ErrorKind::Corrupt);
    for (key, value, word) in [("format", "pt", "not a .ddct file"), ("format_version", "one", "version")] {
        let mut parts = Parts::new("dct block=8");
        parts.metadata.insert(key.to_owned(), value.to_owned());
        assert_eq!(refused(parts.open(), word), ErrorKind::Corrupt);
        parts.metadata.remove(key);
        assert_eq!(refused(parts.open(), word), ErrorKind::Corrupt);
    }
    let missing = parts.disk.folder.path().join("missing.ddct");
    assert_eq!(refused(Archive::open(&missing), "missing.ddct"), ErrorKind::Io);
    assert_eq!(refused(Archive::open(parts.disk.folder.path()), "cannot"), ErrorKind::Io);
}

/// Changes one byte of a record or of its payload to an id that does not exist: the file is listed still, and
/// decoding names the id.
#[test]
fn unknown_ids_are_named_and_the_file_is_still_listed() {
    type Change = fn(&mut Record, &mut Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("record kind 77", |_, bytes| bytes[0] = 77),
        ("dtype id 78", |_, bytes| bytes[1] = 78),
        ("transform id 79", |record, bytes| {
            payload(record)[0] = 79;
            *bytes = record.write();
        }),
        ("quantiser id 80", |record, bytes| {
            let payload = payload(record);
            let at = 2 + usize::from(payload[1]);
            payload[at] = 80;
            *bytes = record.write();
        }),
        ("table id 81", |record, bytes| {
            payload(record)[3] = 81;
            *bytes = record.write();
        }),
    ];
    for (message, change) in changes {
        let mut parts = Parts::new("dct block=8");
        let entry = parts.entry(NAME);
        let mut record = Record::read(NAME, entry);
        change(&mut record, entry);
        let archive = parts.open().unwrap();
        let rows = archive.tensors().unwrap();
        assert!(rows.iter().any(|row| row.name == NAME) && rows.len() == 6, "{message}");
        for base in [None, Some(&parts.disk.base)] {
            let error = archive.verify(base, &Silent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(message) && error.tensor() == Some(NAME), "{error}");
        }
    }
}

fn payload(record: &mut Record) -> &mut Vec<u8> {
    match &mut record.body {
        Body::Delta(_, payload, _) => payload,
        _ => panic!("not a delta"),
    }
}
