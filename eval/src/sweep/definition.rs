//! What a sweep runs: a TOML file that names pairs of models, and grids of recipes.
//!
//! ```toml
//! [[pair]]
//! name = "digits"
//! base = "demo/base"                 # a path from the folder of this file, or hf://ORG/NAME
//! finetuned = "demo/ft"
//! data = "demo/eval/test.safetensors"  # or a list
//! # labels, text, split, max-length, limit, batch: as the options of `eval`
//!
//! [[grid]]                           # every combination of the lists is one run
//! method = ["dct", "dct-jpeg"]       # or whole recipes
//! block = [16, 32]                   # any option of the method
//! # pairs = ["digits"]               # only these
//! # predecessor = true               # follow the Python predecessor to the letter
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use delta_dct::{Error, Recipe, Result, Selection};
use serde::Deserialize;
use toml::{Spanned, Value};

use crate::comparison::Sources;
use crate::data::DataOptions;

/// Examples that a thread runs at a time, unless the file says otherwise.
const BATCH: usize = 32;

/// A sweep, read and checked.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The file that says so.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The pairs, in its order.
    pub pairs: Vec<Pair>,
    /// The runs, pair by pair, each once.
    pub cells: Vec<Cell>,
}

/// Two models and the data that they are judged on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pair {
    /// What it is called.
    pub name: String,
    /// The base model.
    pub base: PathBuf,
    /// The fine-tuned model.
    pub finetuned: PathBuf,
    /// Data, one after the other.
    #[serde(deserialize_with = "one_or_many")]
    pub data: Vec<PathBuf>,
    labels: Option<String>,
    text: Option<String>,
    split: Option<String>,
    max_length: Option<usize>,
    limit: Option<usize>,
    batch: Option<usize>,
}

/// One recipe on one pair.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Name of the pair.
    pub pair: String,
    /// The recipe.
    pub recipe: Recipe,
    /// Follow the predecessor to the letter.
    pub predecessor: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pair: Vec<Spanned<Pair>>,
    grid: Vec<Spanned<BTreeMap<String, Spanned<Value>>>>,
}

/// An error, and where in the file.
type At = (Range<usize>, String);

impl Sweep {
    /// Reads a file. Paths in it are taken from its folder. Errors: Io, InvalidArgument (with the line).
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        let (pairs, cells) = parse(&text).map_err(|(span, message)| {
            let before = text.get(..span.start).unwrap_or(&text);
            let line = 1 + before.bytes().filter(|&b| b == b'\n').count();
            Error::invalid(format!("{}, line {line}: {}", path.display(), message.replace('\n', ", ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let pairs = pairs.into_iter().map(|pair| pair.within(folder)).collect();
        Ok(Self { path: path.to_owned(), text, pairs, cells })
    }
}

impl Sweep {
    /// The pairs with these names (all where there are none), and of their data the first `limit` examples.
    ///
    /// Errors: InvalidArgument for a name that no pair has.
    pub fn narrowed(mut self, names: &[String], limit: Option<usize>) -> Result<Self> {
        let known = |name: &&String| self.pairs.iter().any(|pair| pair.name == **name);
        if let Some(other) = names.iter().find(|name| !known(name)) {
            let known: Vec<&str> = self.pairs.iter().map(|pair| pair.name.as_str()).collect();
            let message = format!("no pair is called {other:?}; there are {}", known.join(", "));
            return Err(Error::invalid(message));
        }
        let wanted = |name: &String| names.is_empty() || names.contains(name);
        self.pairs.retain(|pair| wanted(&pair.name));
        self.cells.retain(|cell| wanted(&cell.pair));
        for pair in &mut self.pairs {
            pair.limit = limit.or(pair.limit);
        }
        Ok(self)
    }
}

impl Pair {
    /// Where models and data are: `local` makes a path on this machine of each place, of data for the split that is
    /// asked for.
    pub fn sources<E>(
        &self,
        local: impl Fn(&Path, Option<&str>) -> std::result::Result<PathBuf, E>,
    ) -> std::result::Result<Sources, E> {
        let data = self.data.iter().map(|path| local(path, self.split.as_deref()));
        Ok(Sources {
            base: local(&self.base, None)?,
            finetuned: local(&self.finetuned, None)?,
            data: data.collect::<std::result::Result<_, E>>()?,
            options: DataOptions {
                limit: self.limit,
                labels: self.labels.clone(),
                text: self.text.clone(),
                max_length: self.max_length,
                split: self.split.clone(),
                training: false,
            },
            batch: self.batch.unwrap_or(BATCH),
        })
    }

    /// The options of `eval` by which the data is read.
    pub fn flags(&self) -> Vec<String> {
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let options = [
            ("--labels", self.labels.clone()),
            ("--text", self.text.clone()),
            ("--split", self.split.clone()),
            ("--max-length", number(self.max_length)),
            ("--limit", number(self.limit)),
        ];
        options.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }

    fn within(mut self, folder: &Path) -> Self {
        for path in [&mut self.base, &mut self.finetuned].into_iter().chain(&mut self.data) {
            if !path.to_string_lossy().starts_with("hf://") {
                *path = join(folder, path);
            }
        }
        self
    }
}

/// `path` from `folder`, without `x/..` where that is the same place.
fn join(folder: &Path, path: &Path) -> PathBuf {
    let joined = folder.join(path);
    let mut short = PathBuf::new();
    for part in joined.components() {
        let inside = matches!(short.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::ParentDir if inside => _ = short.pop(),
            part => short.push(part),
        }
    }
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    if same(&short, &joined) == Some(true) { short } else { joined }
}

impl Cell {
    /// Which tensors are coded how. Errors: InvalidArgument (what the predecessor did not have).
    pub fn selection(&self) -> Result<Selection> {
        match self.predecessor {
            true => Selection::predecessor(self.recipe.clone()),
            false => Selection::new(self.recipe.clone()),
        }
    }

    /// The recipe with all of its options.
    pub fn text(&self) -> Result<String> {
        Ok(self.selection()?.default_recipe().to_string())
    }
}

fn parse(text: &str) -> std::result::Result<(Vec<Pair>, Vec<Cell>), At> {
    let file: File =
        toml::from_str(text).map_err(|e| (e.span().unwrap_or_default(), e.message().to_owned()))?;
    let mut names = BTreeSet::new();
    for pair in &file.pair {
        let name = &pair.get_ref().name;
        if name.is_empty() || !names.insert(name.clone()) {
            return Err((pair.span(), format!("pair {name:?}: every pair needs a name of its own")));
        }
    }
    let pairs: Vec<Pair> = file.pair.into_iter().map(Spanned::into_inner).collect();
    let grids = file.grid.into_iter().map(|grid| Grid::read(grid, &names));
    let grids = grids.collect::<std::result::Result<Vec<_>, At>>()?;
    let (mut cells, mut seen) = (Vec::new(), BTreeSet::new());
    for pair in &pairs {
        for grid in grids.iter().filter(|grid| grid.pairs.contains(&pair.name)) {
            for (key, recipe) in &grid.recipes {
                if seen.insert((&pair.name, key, grid.predecessor)) {
                    let (pair, recipe) = (pair.name.clone(), recipe.clone());
                    cells.push(Cell { pair, recipe, predecessor: grid.predecessor });
                }
            }
        }
    }
    Ok((pairs, cells))
}

/// The runs of one `[[grid]]`.
struct Grid {
    pairs: BTreeSet<String>,
    predecessor: bool,
    /// Recipes and their whole texts.
    recipes: Vec<(String, Recipe)>,
}

impl Grid {
    fn read(
        grid: Spanned<BTreeMap<String, Spanned<Value>>>,
        pairs: &BTreeSet<String>,
    ) -> std::result::Result<Self, At> {
        let (span, mut entries) = (grid.span(), grid.into_inner());
        let predecessor = match entries.remove("predecessor") {
            None => false,
            Some(value) => match value.get_ref().as_bool() {
                Some(predecessor) => predecessor,
                None => return Err((value.span(), "predecessor is true or false".to_owned())),
            },
        };
        let wanted = match entries.remove("pairs") {
            None => pairs.clone(),
            Some(value) => {
                let wanted: BTreeSet<String> = choices("pairs", &value)?.into_iter().collect();
                if let Some(name) = wanted.difference(pairs).next() {
                    return Err((value.span(), format!("no pair is called {name:?}")));
                }
                wanted
            }
        };
        let methods = entries.remove("method").ok_or((span, "a [[grid]] needs a method".to_owned()))?;
        let mut recipes = Vec::new();
        for method in choices("method", &methods)? {
            for text in combinations(&method, &entries)? {
                let cell = |text: &str| {
                    let cell = Cell { pair: String::new(), recipe: text.parse()?, predecessor };
                    Ok((cell.text()?, cell.recipe))
                };
                recipes.push(
                    cell(&text).map_err(|e: Error| (culprit(&method, &entries, &methods), e.to_string()))?,
                );
            }
        }
        Ok(Self { pairs: wanted, predecessor, recipes })
    }
}

/// `method` with every combination of the values of its options.
fn combinations(
    method: &str,
    options: &BTreeMap<String, Spanned<Value>>,
) -> std::result::Result<Vec<String>, At> {
    let mut texts = vec![method.to_owned()];
    for (key, values) in options {
        let values = choices(key, values)?;
        let with =
            |text: &String| values.iter().map(|value| format!("{text} {key}={value}")).collect::<Vec<_>>();
        texts = texts.iter().flat_map(with).collect();
    }
    Ok(texts)
}

/// Where the option is that `method` does not take; the method itself where it is none of them alone.
fn culprit(
    method: &str,
    options: &BTreeMap<String, Spanned<Value>>,
    methods: &Spanned<Value>,
) -> Range<usize> {
    let wrong = |key: &str, values: &Spanned<Value>| {
        let values = choices(key, values).unwrap_or_default();
        values.iter().any(|value| format!("{method} {key}={value}").parse::<Recipe>().is_err())
    };
    let at = options.iter().find(|(key, values)| method.parse::<Recipe>().is_ok() && wrong(key, values));
    at.map_or(methods.span(), |(_, values)| values.span())
}

/// The value of an option, or its values.
fn choices(key: &str, value: &Spanned<Value>) -> std::result::Result<Vec<String>, At> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    };
    let all = match value.get_ref() {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|value| vec![value]),
    };
    let wrong = || (value.span(), format!("{key} is a text, a number, or a list of those"));
    all.filter(|all: &Vec<_>| !all.is_empty()).ok_or_else(wrong)
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> std::result::Result<Vec<PathBuf>, D::Error> {
    let wrong = || serde::de::Error::custom("data is a path or a list of paths");
    let path = |value: &Value| value.as_str().map(PathBuf::from).ok_or_else(wrong);
    match Value::deserialize(input)? {
        Value::Array(values) if !values.is_empty() => values.iter().map(path).collect(),
        value => Ok(vec![path(&value)?]),
    }
}
