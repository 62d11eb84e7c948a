//! Which tensor of the base each fine-tuned tensor is coded against.
//!
//! Decided from names, dtypes and shapes alone, before any arithmetic. Equal names come first; among what is left
//! on both sides, at most one renamed prefix (`bert.x` for `x`, `module.x` for `model.x`) is looked for. One rule
//! is enough: wrappers and class names are put in front of a whole model. What it does not explain is carried.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::tensor::{TensorInfo, is_coded};

/// Prefixes of a rename have at most this many components (`model.language_model.` has two).
const PREFIX_COMPONENTS: usize = 3;
/// A remainder that more names of one side share (`attention.query.weight`, once per layer) says nothing about
/// prefixes, and comparing all with all would take quadratic time.
const AMBIGUOUS: usize = 8;
/// Last or last but one component of the name of a tensor with one row per word, in lower case.
const VOCABULARY: [&str; 7] = ["embed", "wte", "lm_head", "shared", "decoder", "vocab", "word"];
/// Whole components of the names of heads with one row per class; any with `class` or `label` in it is one, too.
const HEADS: [&str; 5] = ["head", "fc", "score", "logits", "out_proj"];
/// Under another name, rows are taken for words only from this number on: with fewer they are rather classes.
const SMALLEST_VOCABULARY: usize = 64;

type Tensors = BTreeMap<String, TensorInfo>;

/// How the tensors of a fine-tuned model correspond to those of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// One link per fine-tuned tensor, sorted by name.
    pub links: Vec<Link>,
    /// Names of the base tensors that no fine-tuned tensor corresponds to, sorted.
    pub removed: Vec<String>,
    /// The renamed prefix, where one was found.
    pub rename: Option<Rename>,
}

impl Relation {
    /// The base tensor that the fine-tuned one is coded against.
    pub(crate) fn reference(&self) -> Option<&str> {
        match self {
            Self::Same { base } | Self::Resized { base, .. } => Some(base),
            Self::Reshaped { .. } | Self::New => None,
        }
    }
}

impl Pairing {
    /// The link of fine-tuned tensor `name`.
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        let at = self.links.binary_search_by(|link| link.name.as_str().cmp(name)).ok()?;
        self.links.get(at)
    }
}

/// One fine-tuned tensor and what it is to the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the fine-tuned tensor.
    pub name: String,
    /// What corresponds to it in the base.
    pub relation: Relation,
}

/// What in the base corresponds to a fine-tuned tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Coded against base tensor `base` of the same shape (the dtypes may differ).
    Same {
        /// Name of the base tensor.
        base: String,
    },
    /// A vocabulary with another number of words: dtypes that are coded, the same trailing dimensions, and the first
    /// `min(base_rows, rows)` rows are shared.
    Resized {
        /// Name of the base tensor.
        base: String,
        /// First dimension of the base tensor.
        base_rows: usize,
        /// First dimension of the fine-tuned tensor.
        rows: usize,
    },
    /// A base tensor of that name exists, but its shape does not fit (a replaced head): carried.
    Reshaped {
        /// Name of the base tensor.
        base: String,
        /// Its shape.
        base_shape: Vec<usize>,
    },
    /// Nothing in the base corresponds: carried.
    New,
}

/// Fine-tuned names that begin with `finetuned` correspond to base names that begin with `base` instead. Each
/// prefix is empty or ends in a dot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rename {
    /// Prefix in the fine-tuned model.
    pub finetuned: String,
    /// Prefix in the base.
    pub base: String,
}

impl Rename {
    /// The base name that corresponds to `finetuned_name`; none where its prefix is another one.
    pub fn base_name(&self, finetuned_name: &str) -> Option<String> {
        let remainder = finetuned_name.strip_prefix(&self.finetuned)?;
        Some(format!("{}{remainder}", self.base))
    }
}

/// Finds for each fine-tuned tensor what corresponds to it in the base; in time that grows as the names do. An
/// equal name always counts; a renamed prefix leads only to base tensors whose name the fine-tuned model lacks.
pub fn pair(base: &Tensors, finetuned: &Tensors) -> Pairing {
    let rename = find_rename(base, finetuned);
    let mut removed: BTreeSet<&str> = only_in(base, finetuned).map(|(name, _)| name.as_str()).collect();
    let mut links = Vec::with_capacity(finetuned.len());
    for (name, info) in finetuned {
        let same_name = base.get_key_value(name);
        let found = same_name.or_else(|| {
            let base_name = rename.as_ref()?.base_name(name)?;
            if removed.contains(base_name.as_str()) { base.get_key_value(&base_name) } else { None }
        });
        let relation = found.map_or(Relation::New, |(base_name, base_info)| {
            removed.remove(base_name.as_str());
            relate(base_name, base_info, name, info)
        });
        links.push(Link { name: name.clone(), relation });
    }
    let removed = removed.into_iter().map(str::to_owned).collect();
    Pairing { links, removed, rename }
}

/// The tensors of `these` whose names are not in `those`.
fn only_in<'a>(these: &'a Tensors, those: &'a Tensors) -> impl Iterator<Item = (&'a String, &'a TensorInfo)> {
    these.iter().filter(|(name, _)| !those.contains_key(*name))
}

/// The relation of two tensors that correspond by name.
fn relate(base_name: &str, base: &TensorInfo, name: &str, finetuned: &TensorInfo) -> Relation {
    let owned = base_name.to_owned();
    if base.shape == finetuned.shape {
        return Relation::Same { base: owned };
    }
    match resized_rows(base, name, finetuned) {
        Some((base_rows, rows)) => Relation::Resized { base: owned, base_rows, rows },
        None => Relation::Reshaped { base: owned, base_shape: base.shape.clone() },
    }
}

/// `(base rows, fine-tuned rows)` where only dimension 0 differs, some rows are shared, and they are words.
fn resized_rows(base: &TensorInfo, name: &str, finetuned: &TensorInfo) -> Option<(usize, usize)> {
    let (&base_rows, base_rest) = base.shape.split_first()?;
    let (&rows, rest) = finetuned.shape.split_first()?;
    let coded = is_coded(base.dtype) && is_coded(finetuned.dtype);
    let shared = base_rest == rest && !base.shape.contains(&0) && rows > 0;
    (coded && shared && is_vocabulary(name, base_rows, rows)).then_some((base_rows, rows))
}

/// Whether the rows of tensor `name` are words rather than classes: it is no head, and its name says so or their
/// number changed by less than a fifth.
fn is_vocabulary(name: &str, base_rows: usize, rows: usize) -> bool {
    let name = name.to_ascii_lowercase();
    if name.split('.').any(|part| HEADS.contains(&part) || part.contains("class") || part.contains("label")) {
        return false;
    }
    let (fewer, more) = (base_rows.min(rows), base_rows.max(rows));
    let similar = fewer >= SMALLEST_VOCABULARY && more - fewer < more / 5;
    similar || name.rsplit('.').take(2).any(|part| VOCABULARY.iter().any(|word| part.contains(word)))
}

/// A name cut in two, `prefix` and a remainder, with what the tensor is.
#[derive(Clone, Copy)]
struct Cut<'a> {
    prefix: &'a str,
    name: &'a str,
    info: &'a TensorInfo,
}

/// The renamed prefix that explains most of the tensors without a namesake on the other side. Every pair of such
/// tensors with equal remainders and fitting shapes is one vote for its pair of prefixes.
fn find_rename(base: &Tensors, finetuned: &Tensors) -> Option<Rename> {
    let base_cuts = by_remainder(only_in(base, finetuned));
    let finetuned_cuts = by_remainder(only_in(finetuned, base));
    let mut votes: HashMap<(&str, &str), usize> = HashMap::new();
    for (remainder, cuts) in &finetuned_cuts {
        let Some(candidates) = base_cuts.get(remainder) else { continue };
        // A last component alone (`weight`) means something only where no other name has it.
        let most = if remainder.contains('.') { AMBIGUOUS } else { 1 };
        if cuts.len().max(candidates.len()) > most {
            continue;
        }
        for cut in cuts {
            for candidate in candidates.iter().filter(|candidate| fits(candidate, cut)) {
                *votes.entry((cut.prefix, candidate.prefix)).or_default() += 1;
            }
        }
    }
    let left = only_in(base, finetuned).count().min(only_in(finetuned, base).count());
    best_rename(votes, left, base.len().min(finetuned.len()))
}

/// Every cut of every name after 0 to [`PREFIX_COMPONENTS`] components, by remainder.
fn by_remainder<'a>(
    tensors: impl Iterator<Item = (&'a String, &'a TensorInfo)>,
) -> HashMap<&'a str, Vec<Cut<'a>>> {
    let mut cuts: HashMap<&str, Vec<Cut<'_>>> = HashMap::new();
    for (name, info) in tensors {
        let ends = name.match_indices('.').map(|(dot, _)| dot + 1);
        for end in std::iter::once(0).chain(ends.take(PREFIX_COMPONENTS)) {
            let (prefix, remainder) = name.split_at(end);
            cuts.entry(remainder).or_default().push(Cut { prefix, name, info });
        }
    }
    cuts
}

fn fits(base: &Cut<'_>, finetuned: &Cut<'_>) -> bool {
    base.info.shape == finetuned.info.shape
        || resized_rows(base.info, finetuned.name, finetuned.info).is_some()
}

/// The pair of prefixes with most votes, then the shortest, then the first in the alphabet; it needs two votes and
/// half of the `left` tensors of the side that has fewer left. A prefix that is replaced by another one, rather than
/// put in front, also needs a quarter of the `smaller` model: a classifier and a language-model head of one
/// architecture look like a rename, too.
fn best_rename(votes: HashMap<(&str, &str), usize>, left: usize, smaller: usize) -> Option<Rename> {
    let accepted = votes.into_iter().filter(|&((finetuned, base), count)| {
        count >= 2
            && count >= left.div_ceil(2)
            && (is_insertion(finetuned, base) || count >= smaller.div_ceil(4))
    });
    let ((finetuned, base), _) = accepted.max_by_key(|&((finetuned, base), count)| {
        (count, Reverse(finetuned.len() + base.len()), Reverse((finetuned, base)))
    })?;
    Some(Rename { finetuned: finetuned.to_owned(), base: base.to_owned() })
}

/// Whether one prefix is the other with components added in front or behind.
fn is_insertion(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let in_front = long.strip_suffix(short).is_some_and(|added| added.is_empty() || added.ends_with('.'));
    in_front || long.starts_with(short)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::tensor::Dtype;
    use safetensors::SafeTensors;
    use std::path::{Path, PathBuf};

    fn tensors(list: &[(&str, &[usize])]) -> Tensors {
        let info = |shape: &[usize]| TensorInfo { dtype: Dtype::F32, shape: shape.to_vec() };
        list.iter().map(|&(name, shape)| (name.to_owned(), info(shape))).collect()
    }

    /// A transformer of two layers whose names begin with `prefix`.
    fn model(prefix: &str) -> Tensors {
        let mut list: Vec<(String, Vec<usize>)> = vec![
            ("embeddings.word_embeddings.weight".into(), vec![99, 32]),
            ("embeddings.LayerNorm.weight".into(), vec![32]),
            ("pooler.dense.weight".into(), vec![32, 32]),
            ("pooler.dense.bias".into(), vec![32]),
        ];
        for layer in 0..2 {
            for part in ["query", "key", "value", "output"] {
                list.push((format!("encoder.layer.{layer}.{part}.weight"), vec![32, 32]));
                list.push((format!("encoder.layer.{layer}.{part}.bias"), vec![32]));
            }
        }
        let named = |(name, shape)| (format!("{prefix}{name}"), TensorInfo { dtype: Dtype::F32, shape });
        list.into_iter().map(named).collect()
    }

    fn rename(finetuned: &str, base: &str) -> Option<Rename> {
        Some(Rename { finetuned: finetuned.into(), base: base.into() })
    }

    fn relation<'a>(pairing: &'a Pairing, name: &str) -> &'a Relation {
        &pairing.links.iter().find(|link| link.name == name).unwrap().relation
    }

    /// The names of the links that are not `Same`.
    fn odd(pairing: &Pairing) -> Vec<&str> {
        let odd = |link: &&Link| !matches!(link.relation, Relation::Same { .. });
        pairing.links.iter().filter(odd).map(|link| link.name.as_str()).collect()
    }

    /// The relation of one tensor of the same name and dtype on both sides.
    fn relate_shapes(name: &str, base: &[usize], finetuned: &[usize]) -> Relation {
        pair(&tensors(&[(name, base)]), &tensors(&[(name, finetuned)])).links.remove(0).relation
    }

    fn resized(name: &str, base: &[usize], finetuned: &[usize]) -> bool {
        match relate_shapes(name, base, finetuned) {
            Relation::Resized { base: base_name, base_rows, rows } => {
                assert_eq!((base_name.as_str(), base_rows, rows), (name, base[0], finetuned[0]));
                true
            }
            Relation::Reshaped { base: base_name, base_shape } => {
                assert_eq!((base_name.as_str(), base_shape.as_slice()), (name, base));
                false
            }
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn identical_models_have_nothing_odd() {
        let pairing = pair(&model(""), &model(""));
        assert_eq!((odd(&pairing), &pairing.removed, &pairing.rename), (vec![], &vec![], &None));
        assert!(pairing.links.is_sorted_by_key(|link| &link.name));
        assert_eq!(pair(&Tensors::new(), &Tensors::new()).links, []);
        assert_eq!(odd(&pair(&Tensors::new(), &model(""))).len(), 20);
        assert_eq!(pair(&model(""), &Tensors::new()).removed.len(), 20);
    }

    #[test]
    fn prefixes_are_found_on_either_side_and_on_both() {
        let cases = [
            ("bert.", ""),
            ("", "roberta."),
            ("module.", "model."),
            ("_orig_mod.module.", ""),
            ("model.language_model.", "model."),
            ("module.model.", "model."),
            ("a.b.c.", "d.e.f."),
        ];
        for (finetuned, base) in cases {
            let pairing = pair(&model(base), &model(finetuned));
            // A common last component of both prefixes belongs to the remainder.
            let expected =
                if finetuned == "module.model." { rename("module.", "") } else { rename(finetuned, base) };
            assert_eq!(pairing.rename, expected);
            assert_eq!((odd(&pairing), pairing.removed.len()), (vec![], 0));
            let base_name = format!("{base}encoder.layer.1.key.bias");
            let link = relation(&pairing, &format!("{finetuned}encoder.layer.1.key.bias"));
            assert_eq!(link, &Relation::Same { base: base_name });
        }
    }

    #[test]
    fn a_renamed_model_may_have_a_new_head_other_words_and_dropped_tensors() {
        let mut base = model("");
        base.extend(tensors(&[("embeddings.position_ids", &[1, 512])]));
        let mut finetuned = model("bert.");
        finetuned.extend(tensors(&[
            ("bert.embeddings.word_embeddings.weight", &[104, 32]),
            ("classifier.weight", &[2, 32]),
            ("classifier.bias", &[2]),
        ]));
        let pairing = pair(&base, &finetuned);
        assert_eq!(pairing.rename, rename("bert.", ""));
        assert_eq!(pairing.removed, ["embeddings.position_ids"]);
        let words = "bert.embeddings.word_embeddings.weight";
        assert_eq!(odd(&pairing), [words, "classifier.bias", "classifier.weight"]);
        let base = "embeddings.word_embeddings.weight".to_owned();
        assert_eq!(relation(&pairing, words), &Relation::Resized { base, base_rows: 99, rows: 104 });
        assert_eq!(relation(&pairing, "classifier.weight"), &Relation::New);
    }

    #[test]
    fn a_part_of_the_model_may_be_renamed() {
        let mut base = model("unet.");
        let mut finetuned = base.clone();
        base.extend(tensors(&[("clip.text.a.weight", &[8, 4]), ("clip.text.b.weight", &[4, 4])]));
        finetuned.extend(tensors(&[("clip.a.weight", &[8, 4]), ("clip.b.weight", &[4, 4])]));
        let pairing = pair(&base, &finetuned);
        assert_eq!((odd(&pairing), &pairing.rename), (vec![], &rename("clip.", "clip.text.")));
    }

    #[test]
    fn one_component_remainders_count_only_where_unique() {
        let plain: [(&str, &[usize]); 2] = [("cls_token", &[1, 8]), ("mask_token", &[1, 8])];
        let wrapped: [(&str, &[usize]); 2] = [("model.cls_token", &[1, 8]), ("model.mask_token", &[1, 8])];
        let pairing = pair(&tensors(&plain), &tensors(&wrapped));
        assert_eq!((odd(&pairing), &pairing.rename), (vec![], &rename("model.", "")));
        let mut base = model("");
        let mut finetuned = base.clone();
        base.extend(tensors(&[("scorer.weight", &[32, 32]), ("scorer.bias", &[32])]));
        finetuned.extend(tensors(&[("projector.weight", &[32, 32]), ("projector.bias", &[32])]));
        let pairing = pair(&base, &finetuned);
        assert_eq!(pairing.rename, None);
        assert_eq!(odd(&pairing), ["projector.bias", "projector.weight"]);
    }

    #[test]
    fn spurious_renames_are_refused() {
        // Another head of the same build is no rename, nor are shapes that do not fit.
        let mut base = model("bert.");
        let mut finetuned = base.clone();
        base.extend(tensors(&[("lm_head.dense.weight", &[32, 32]), ("lm_head.dense.bias", &[32])]));
        finetuned
            .extend(tensors(&[("classifier.dense.weight", &[32, 32]), ("classifier.dense.bias", &[32])]));
        let pairing = pair(&base, &finetuned);
        assert_eq!((pairing.rename, pairing.removed.len()), (None, 2));
        let mut wider = model("bert.");
        wider.values_mut().for_each(|info| info.shape.iter_mut().for_each(|n| *n *= 2));
        assert_eq!(pair(&model(""), &wider).rename, None);
        // One tensor proves nothing.
        assert_eq!(pair(&tensors(&[("a.b", &[4])]), &tensors(&[("model.a.b", &[4])])).rename, None);
    }

    #[test]
    fn a_rename_never_takes_a_base_tensor_that_has_a_namesake() {
        let base = model("");
        let mut finetuned = model("bert.");
        finetuned.extend(tensors(&[("pooler.dense.bias", &[32])]));
        let pairing = pair(&base, &finetuned);
        assert_eq!(pairing.rename, rename("bert.", ""));
        assert_eq!(odd(&pairing), ["bert.pooler.dense.bias"]);
    }

    #[test]
    fn vocabularies_are_resized_and_heads_are_reshaped() {
        let vocabularies = [
            "model.embed_tokens.weight",
            "transformer.wte.weight",
            "lm_head.weight",
            "shared.weight",
            "cls.predictions.decoder.weight",
            "bert.embeddings.word_embeddings.weight",
        ];
        for name in vocabularies {
            assert!(resized(name, &[100, 8], &[150, 8]) && resized(name, &[150, 8], &[100, 8]), "{name}");
            assert!(!resized(name, &[100, 8], &[100, 9]) && !resized(name, &[100, 8], &[101, 9]), "{name}");
        }
        assert!(resized("cls.predictions.decoder.bias", &[100], &[150]));
        assert!(resized("output.weight", &[32000, 64], &[32001, 64]));
        assert!(resized("cls.predictions.bias", &[30522], &[30525]));
        assert!(!resized("output.weight", &[32000, 64], &[40000, 64]));
        for head in
            ["classifier.weight", "score.weight", "head.fc.weight", "class_embed.0.weight", "proj.weight"]
        {
            assert!(!resized(head, &[3, 32], &[2, 32]) && !resized(head, &[10, 32], &[11, 32]), "{head}");
        }
        assert!(!resized("classifier.weight", &[1000, 32], &[1001, 32]));
        assert!(!resized("encoder.embeddings.LayerNorm.weight", &[768], &[1024]));
    }

    #[test]
    fn scalars_empty_tensors_and_integers_are_never_resized() {
        let reshaped = |base_shape: &[usize]| Relation::Reshaped {
            base: "word_embeddings".into(),
            base_shape: base_shape.to_vec(),
        };
        for (base, finetuned) in
            [(&[][..], &[1][..]), (&[4], &[]), (&[0, 8], &[4, 8]), (&[4, 8], &[0, 8]), (&[4, 0], &[5, 0])]
        {
            assert_eq!(relate_shapes("word_embeddings", base, finetuned), reshaped(base));
        }
        let huge = usize::MAX;
        assert!(resized("any", &[huge, huge], &[huge - 1, huge]));
        let mut base = tensors(&[("word_embeddings", &[100])]);
        base.values_mut().for_each(|info| info.dtype = Dtype::I64);
        let finetuned = tensors(&[("word_embeddings", &[104])]);
        assert_eq!(pair(&base, &finetuned).links[0].relation, reshaped(&[100]));
    }

    #[test]
    fn a_hundred_thousand_tensors_take_no_quadratic_time() {
        let many = |name: &dyn Fn(usize) -> String| -> Tensors {
            (0..100_000).map(|i| (name(i), TensorInfo { dtype: Dtype::F32, shape: vec![8, 8] })).collect()
        };
        let base = many(&|i| format!("layers.{}.experts.{}.weight", i / 100, i % 100));
        let finetuned = many(&|i| format!("model.layers.{}.experts.{}.weight", i / 100, i % 100));
        let pairing = pair(&base, &finetuned);
        assert_eq!((odd(&pairing).len(), pairing.rename), (0, rename("model.", "")));
        // All share one remainder, and no prefix can be renamed.
        let pairing =
            pair(&many(&|i| format!("a{i}.dense.weight")), &many(&|i| format!("b{i}.dense.weight")));
        assert_eq!((odd(&pairing).len(), pairing.removed.len(), pairing.rename), (100_000, 100_000, None));
    }

    /// The folder of odd pairs; none where the shared fixtures are not beside the workspace.
    fn edge_folder() -> Option<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/models/edge");
        if folder.exists() {
            return Some(folder);
        }
        assert!(std::env::var_os("DELTA_DCT_REQUIRE_SHARED").is_none(), "{} is missing", folder.display());
        println!("skipped: {} is missing", folder.display());
        None
    }

    fn header(folder: &Path) -> Tensors {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let own = |info: &safetensors::tensor::TensorInfo| TensorInfo {
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        metadata.tensors().into_iter().map(|(name, info)| (name, own(info))).collect()
    }

    #[test]
    fn odd_pairs_of_the_fixtures() {
        let Some(edge) = edge_folder() else { return };
        let head = ["classifier.dense.bias", "classifier.dense.weight", "classifier.out_proj.bias"];
        let whole_head = [&head[..], &["classifier.out_proj.weight"]].concat();
        let words = "bert.embeddings.word_embeddings.weight";
        let cases = [
            ("dtype_bf16", "ft", vec![], 0, None),
            ("dtype_f16", "ft", vec![], 0, None),
            ("dtype_f32_base_bf16_ft", "ft", vec![], 0, None),
            ("head_swap", "ft", whole_head.clone(), 5, None),
            ("misc_tensors", "ft", vec![], 0, None),
            ("new_tensor", "ft", whole_head.clone(), 0, None),
            ("removed_tensor", "ft", vec![], 5, None),
            ("renamed_prefix", "ft", whole_head, 0, rename("roberta.", "")),
            ("tied_gpt2", "ft_two_copies", vec!["lm_head.weight"], 0, None),
            ("vocab_resized", "ft", vec![words], 0, None),
        ];
        let fixture = |name: &str, finetuned: &str| {
            pair(&header(&edge.join(name).join("base")), &header(&edge.join(name).join(finetuned)))
        };
        for (name, finetuned, expected, removed, renamed) in cases {
            let pairing = fixture(name, finetuned);
            let found = (odd(&pairing), pairing.removed.len(), &pairing.rename);
            assert_eq!(found, (expected, removed, &renamed), "{name}");
        }
        let link = |name: &str, tensor: &str| relation(&fixture(name, "ft"), tensor).clone();
        let resized = Relation::Resized { base: words.into(), base_rows: 99, rows: 104 };
        assert_eq!(link("vocab_resized", words), resized);
        let out = "classifier.out_proj.weight";
        let reshaped = Relation::Reshaped { base: out.into(), base_shape: vec![7, 32] };
        assert_eq!(link("head_swap", out), reshaped);
        assert_eq!(link("new_tensor", out), Relation::New);
        let same = Relation::Same { base: "embeddings.LayerNorm.bias".into() };
        assert_eq!(link("renamed_prefix", "roberta.embeddings.LayerNorm.bias"), same);
    }
}
