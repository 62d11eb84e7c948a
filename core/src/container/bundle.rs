//! Small entries together in one: an entry of its own costs more than a hundred bytes, and records begin alike
//! (FORMAT.md, "Bundle").

use std::ops::Range;

use super::packed::{BEST, MAX_PACKED, pack, unpack};
use super::record::text;
use crate::error::Result;
use crate::wire::{Reader, Writer};

/// Contents of this size and more are entries of their own, which costs them less than 0.2%.
const SMALL: usize = 1 << 16;
/// What is more than this, or than [`MAX_PACKED`] in all, stands alone: that bounds the memory of both sides.
const MAX_ENTRIES: usize = 1 << 16;
/// First bytes of a content that are packed; behind them are entropy-coded bytes mostly.
const HEAD: usize = 256;

/// Names and contents, in the order in which they were added.
#[derive(Debug, PartialEq)]
pub(super) struct Bundle {
    /// Bytes of each content that are packed.
    head: usize,
    pub(super) entries: Vec<(String, Range<usize>)>,
    /// The contents, one after the other.
    pub(super) bytes: Vec<u8>,
}

impl Bundle {
    pub(super) fn new() -> Self {
        Self { head: HEAD, entries: Vec::new(), bytes: Vec::new() }
    }

    /// Adds the entry if it is a small one and there is room; tells whether that is so.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> bool {
        let is_small = content.len() < SMALL && name.len() <= HEAD;
        let fits = self.entries.len() < MAX_ENTRIES && self.bytes.len() + content.len() <= MAX_PACKED;
        if !is_small || !fits {
            return false;
        }
        self.push(name.to_owned(), &[content]);
        true
    }

    fn push(&mut self, name: String, parts: &[&[u8]]) {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.entries.push((name, start..self.bytes.len()));
    }

    /// The content of the bundle's entry.
    pub(super) fn write(&self) -> Result<Vec<u8>> {
        let mut index = Writer::default();
        index.varint(self.entries.len() as u64);
        index.varint(self.head as u64);
        self.entries.iter().for_each(|(_, range)| index.varint(range.len() as u64));
        self.entries.iter().for_each(|(name, _)| index.bytes(name.as_bytes()));
        let contents = self.entries.iter().filter_map(|(_, range)| self.bytes.get(range.clone()));
        let parts: Vec<_> = contents.map(|content| content.split_at(content.len().min(self.head))).collect();
        parts.iter().for_each(|(head, _)| index.0.extend_from_slice(head));
        let mut out = Writer::default();
        out.bytes(&pack(&index.0, &[], BEST)?);
        parts.iter().for_each(|(_, tail)| out.0.extend_from_slice(tail));
        Ok(out.0)
    }

    /// The bundle from the content of its entry.
    pub(super) fn read(content: &[u8]) -> Result<Self> {
        let mut tails = Reader(content);
        let index = unpack(tails.bytes("index of the bundle")?, &[])?;
        let mut lens = Reader(&index);
        let count = lens.varint_to(MAX_ENTRIES as u64, "number of bundled entries")?;
        let head = lens.varint_to(u64::from(u32::MAX), "size of the heads")?;
        let mut names = lens;
        for _ in 0..count {
            names.varint("size of a bundled entry")?;
        }
        let mut heads = names;
        for _ in 0..count {
            heads.bytes("name of a bundled entry")?;
        }
        let mut bundle = Self { head, ..Self::new() };
        for _ in 0..count {
            let name = text(names.bytes("name of a bundled entry")?)?;
            let len = lens.varint_to(u64::from(u32::MAX), "size of a bundled entry")?;
            let first = heads.take(len.min(head), &name)?;
            bundle.push(name, &[first, tails.take(len - first.len(), "rest of a bundled entry")?]);
        }
        heads.finish("index of the bundle")?;
        tails.finish("bundle")?;
        Ok(bundle)
    }

    /// Bytes that each entry takes of a bundle of `written` bytes: what is not packed, and of what is packed its share.
    pub(super) fn sizes(&self, written: usize) -> Vec<usize> {
        let tail = |range: &Range<usize>| range.len().saturating_sub(self.head);
        let unpacked =
            |(name, range): &(String, Range<usize>)| (name.len() + range.len() - tail(range)) as u128;
        let total = self.entries.iter().map(unpacked).sum::<u128>().max(1);
        let packed = written - self.entries.iter().map(|(_, range)| tail(range)).sum::<usize>();
        let share = |entry| (packed as u128 * unpacked(entry) / total) as usize;
        self.entries.iter().map(|entry| tail(&entry.1) + share(entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn bundle(contents: &[(&str, Vec<u8>)]) -> Bundle {
        let mut bundle = Bundle::new();
        assert!(contents.iter().all(|(name, content)| bundle.add(name, content)));
        bundle
    }

    #[test]
    fn a_bundle_comes_back() {
        let content = |n: usize| (0..n).map(|i| ((i * i) >> 3) as u8).collect::<Vec<_>>();
        for sizes in [&[][..], &[0], &[3, 0, 255], &[256, 257, 65_535, 1]] {
            let names: Vec<_> = (0..sizes.len()).map(|i| format!("layer.{i}.é")).collect();
            let contents: Vec<_> =
                names.iter().map(|name| &name[..]).zip(sizes.iter().map(|&n| content(n))).collect();
            let bundle = bundle(&contents);
            assert_eq!(Bundle::read(&bundle.write().unwrap()).unwrap(), bundle);
        }
    }

    #[test]
    fn large_contents_stay_outside() {
        let mut bundle = Bundle::new();
        assert!(!bundle.add("large", &[0; SMALL]) && bundle.add("small", &[0; SMALL - 1]));
        assert_eq!(bundle.entries.len(), 1);
    }

    #[test]
    fn entries_that_are_alike_take_few_bytes() {
        let names: Vec<_> = (0..500).map(|i| format!("model.layers.{i}.attention.weight")).collect();
        let contents: Vec<_> = names.iter().map(|name| (&name[..], vec![7; 40])).collect();
        let len = bundle(&contents).write().unwrap().len();
        assert!(len < 5 * names.len(), "{len} bytes for {} entries", names.len());
        let sum: usize = bundle(&contents).sizes(len).iter().sum();
        assert!(sum <= len && sum + names.len() > len, "{sum} bytes told of {len}");
    }

    #[test]
    fn damaged_bundles_are_refused() {
        let valid = bundle(&[("a", vec![1; 300]), ("b", vec![2; 10])]).write().unwrap();
        assert!((0..valid.len()).all(|len| Bundle::read(&valid[..len]).is_err()));
        assert!(Bundle::read(&[&valid[..], &[0]].concat()).is_err());
        // (number, size of heads, sizes, names, heads): too many entries, too long, not UTF-8, left over.
        let packed = |index: &[u8]| {
            let mut out = Writer::default();
            out.bytes(&pack(index, &[], BEST).unwrap());
            Bundle::read(&out.0)
        };
        assert!(packed(&[1, 4, 2, 1, b'a', 8, 9]).is_ok());
        for index in [
            &[][..],
            &[2, 4, 2, 1, b'a', 8, 9],
            &[1, 4, 3, 1, b'a', 8, 9],
            &[1, 4, 2, 9, b'a', 8, 9],
            &[1, 4, 2, 1, 0xff, 8, 9],
            &[1, 1, 2, 1, b'a', 8],
            &[1, 4, 2, 1, b'a', 8, 9, 9],
            &[0xff, 0xff, 0xff, 0x7f, 0, 0],
        ] {
            assert!(packed(index).is_err(), "{index:?}");
        }
    }
}
