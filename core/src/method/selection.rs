//! Which tensors are coded how.

use std::borrow::Cow;
use std::collections::BTreeMap;

use glob::Pattern;

use super::roles::{FIRST_LAYER, Roles, by_number, is_head, is_input};
use super::{Action, Recipe};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, is_coded, is_matrix, row_count};

/// Parts of names that the predecessor left alone.
const PREDECESSOR_SKIPS: &[&str] = &["classifier", "pooler", "head"];

/// The step for tensors of one-dimensional shape, in root mean squares of the delta: fine, because they are few.
const VECTOR_STEP: f32 = 0.25;
/// The same in steps of the factors, where there are some, and the largest step of all: then few bytes count.
const VECTOR_PART: f32 = 1.0 / 3.0;
const LARGEST_VECTOR_STEP: f32 = 4.0;
/// Last parts of names of what a batch normalisation takes from its inputs, and divides them by the root of. Of the variances the
/// smallest count most, and one that is wrong by a little may be negative: they are few, and exact.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// The step for a head's matrix of [`HEAD_WEIGHTS`], in root mean squares, for each square of the factors' step: of 6, 13 and 20
/// times the same step each was best at another size. One of others has it times the fourth root of how many times more it
/// has: bits of a small one are cheap. Where a matrix has no base, its weights are the delta; what is no head may be
/// anywhere in the model, and is finer.
const HEAD_PART: f32 = 1.0 / 300.0;
const NEW_PART: f32 = HEAD_PART / 4.0;
const HEAD_WEIGHTS: f32 = 524_288.0;
/// The finest and the coarsest.
const HEAD_STEPS: (f32, f32) = (0.005, 2.0);

/// From so many rows on a matrix of a head that the base has, too, is coded by factors, as a table that gives logits: its delta
/// has few directions for its size.
const LARGE_HEAD: usize = 64;

/// Chooses a recipe for every tensor by its name, dtype and shape.
///
/// Without rules: tensors that are not floating-point numbers, classification heads and what the base does not have are
/// carried exactly, tensors of two and more dimensions are coded by the default recipe, and the others by a fine uniform
/// quantiser. Factors, and so `auto`, leave little else: with them, matrices of heads and those that the base does not have
/// are coded by a fine uniform quantiser, too, and large heads that it does have by the default recipe.
#[derive(Clone, Debug)]
pub struct Selection {
    default: Recipe,
    vectors: Recipe,
    /// For running statistics.
    statistics: Recipe,
    /// For matrices of classification heads, and for others that the base does not have; their steps follow their size.
    heads: Recipe,
    new: Recipe,
    /// For what is carried exactly: `raw`, or `lossless` where that is the default.
    exact: Recipe,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    rules: Vec<(Pattern, Recipe)>,
    predecessor: bool,
    roles: Roles,
}

impl Selection {
    /// The standard selection.
    pub fn new(default: Recipe) -> Result<Self> {
        let vector_step = match default.factors() {
            Some((step, ..)) => (step * VECTOR_PART).clamp(VECTOR_STEP, LARGEST_VECTOR_STEP),
            None => VECTOR_STEP,
        };
        let exact: Recipe =
            if let Action::Exact { .. } = default.action { default.clone() } else { "raw".parse()? };
        let heads = if default.factors().is_some() { "uniform".parse()? } else { exact.clone() };
        Ok(Self {
            new: heads.clone(),
            heads,
            vectors: format!("uniform step={vector_step}").parse()?,
            statistics: "lossless".parse()?,
            default,
            exact,
            include: Vec::new(),
            exclude: Vec::new(),
            rules: Vec::new(),
            predecessor: false,
            roles: Roles::default(),
        })
    }

    /// The selection of the Python predecessor: matrices of more than block x block weights whose name does not
    /// contain `classifier`, `pooler` or `head`; everything else exactly.
    ///
    /// The recipe is taken in predecessor mode: with `predecessor=true`, and `rescale=none` unless it is `mean-abs`.
    /// Coded tensors come back in the dtype of the base, as they did there.
    ///
    /// Errors: InvalidArgument for methods and settings that the predecessor did not have, or garbled.
    pub fn predecessor(default: Recipe) -> Result<Self> {
        Ok(Self { predecessor: true, ..Self::new(default.in_predecessor_mode()?)? })
    }

    /// Adds a pattern: once there is one, only tensors that match one of them are coded, the others are exact.
    pub fn include(mut self, glob: &str) -> Result<Self> {
        self.include.push(pattern(glob)?);
        Ok(self)
    }

    /// Adds a pattern of tensors that are carried exactly.
    pub fn exclude(mut self, glob: &str) -> Result<Self> {
        self.exclude.push(pattern(glob)?);
        Ok(self)
    }

    /// Adds a recipe for the tensors that match; of several rules that match, the last one counts, before all else.
    pub fn rule(mut self, glob: &str, recipe: Recipe) -> Result<Self> {
        if recipe.target().is_some() {
            return Err(Error::invalid(
                "auto aims at a whole file; a rule for some tensors can have factors",
            ));
        }
        self.rules.push((pattern(glob)?, recipe));
        Ok(self)
    }

    /// The recipe for tensors that nothing else claims.
    pub fn default_recipe(&self) -> &Recipe {
        &self.default
    }

    /// The selection with factors of `step` where the default recipe aims at something.
    pub(crate) fn resolved(&self, step: f32) -> Result<Self> {
        let standard = Self::new(self.default.resolved(step)?)?;
        let Self { default, vectors, heads, new, .. } = standard;
        Ok(Self { default, vectors, heads, new, ..self.clone() })
    }

    /// The selection for a model of these tensors, with root mean squares of their deltas: where the default recipe has
    /// factors, their steps follow the tensors' places in it, and how strong their deltas are beside each other.
    pub(crate) fn for_model<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        strengths: &BTreeMap<String, f32>,
    ) -> Self {
        Self { roles: Roles::of(names, strengths), ..self.clone() }
    }

    /// Whether coded tensors come back in the dtype of the base.
    pub(crate) fn keeps_base_dtype(&self) -> bool {
        self.predecessor
    }

    /// `recipe`, which this selection chose, as the place of the tensor `name` in the model and its size ask for: so many rows and
    /// weights.
    pub(crate) fn adapted<'a>(
        &self,
        name: &str,
        (rows, weights): (usize, usize),
        recipe: &'a Recipe,
    ) -> Result<Cow<'a, Recipe>> {
        let Some((step, rank, rest)) = self.default.factors() else { return Ok(Cow::Borrowed(recipe)) };
        let fine = |part: f32| {
            let step = part * step * step * by_number(weights, HEAD_WEIGHTS);
            format!("uniform step={}", step.clamp(HEAD_STEPS.0, HEAD_STEPS.1))
        };
        let is = |own: &Recipe| std::ptr::eq(recipe, own);
        let adapted = if is(&self.default) {
            let coarseness = self.roles.coarseness(name, rows);
            // What is finer than the first layer has a rest only where that has one.
            let (step, rest) = (step * coarseness, rest * (coarseness / FIRST_LAYER).min(1.0));
            format!("factors step={step} rank={rank} rest={rest}")
        } else if is(&self.heads) {
            fine(HEAD_PART)
        } else if is(&self.new) {
            fine(NEW_PART)
        } else if is(&self.vectors) && is_input(name) {
            format!("uniform step={VECTOR_STEP}")
        } else {
            return Ok(Cow::Borrowed(recipe));
        };
        Ok(Cow::Owned(adapted.parse()?))
    }

    /// The recipe for a tensor that the base has, too.
    pub fn recipe(&self, name: &str, dtype: Dtype, shape: &[usize]) -> &Recipe {
        let is_large = self.default.factors().is_some() && row_count(shape) >= LARGE_HEAD;
        let own = (self.include.is_empty() && is_head(name) && !is_large).then_some(&self.heads);
        self.choose(name, dtype, shape, own)
    }

    /// The recipe for a tensor that the base does not have. The predecessor took it as it was.
    pub(crate) fn recipe_alone(&self, name: &str, dtype: Dtype, shape: &[usize]) -> &Recipe {
        if self.predecessor {
            return &self.exact;
        }
        self.choose(name, dtype, shape, Some(if is_head(name) { &self.heads } else { &self.new }))
    }

    /// The recipe for a tensor; what is not claimed by name gets its `own` instead of the default one, if it is a matrix.
    fn choose<'a>(
        &'a self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        own: Option<&'a Recipe>,
    ) -> &'a Recipe {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        if !is_coded(dtype) {
            return &self.exact;
        }
        if let Some((_, recipe)) = self.rules.iter().rev().find(|(pattern, _)| pattern.matches(name)) {
            return self.fitting(name, recipe, shape);
        }
        if matches(&self.exclude) || (!self.include.is_empty() && !matches(&self.include)) {
            return &self.exact;
        }
        if self.predecessor {
            let skipped = PREDECESSOR_SKIPS.iter().any(|part| name.contains(part));
            let coded = shape.len() == 2 && !skipped && self.exceeds_block(shape);
            return if coded { &self.default } else { &self.exact };
        }
        match own {
            Some(own) if is_matrix(shape) => own,
            Some(_) => &self.exact,
            None => self.fitting(name, &self.default, shape),
        }
    }

    /// `recipe`, or the one for vectors where it codes blocks and the tensor is not larger than one. Where it codes deltas,
    /// running statistics have their own, but for a rule with a plain quantiser.
    fn fitting<'a>(&'a self, name: &str, recipe: &'a Recipe, shape: &[usize]) -> &'a Recipe {
        let Action::Code(plan) = &recipe.action else { return recipe };
        let too_small =
            plan.transform.block().is_some_and(|block| shape.iter().product::<usize>() <= block * block);
        let plain = matches!(plan.quantizer, crate::quantize::Quantizer::Uniform(_));
        if is_statistic(name) && (!plain || std::ptr::eq(recipe, &self.default)) {
            return &self.statistics;
        }
        if plain || (is_matrix(shape) && !too_small) { recipe } else { &self.vectors }
    }

    fn exceeds_block(&self, shape: &[usize]) -> bool {
        let Action::Code(plan) = &self.default.action else { return true };
        plan.transform.block().is_none_or(|block| shape.iter().product::<usize>() > block * block)
    }
}

fn is_statistic(name: &str) -> bool {
    STATISTICS.contains(&name.rsplit('.').next().unwrap_or_default())
}

fn pattern(glob: &str) -> Result<Pattern> {
    Pattern::new(glob).map_err(|e| Error::invalid(format!("pattern {glob:?}: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_large_head_is_coded_as_a_table_of_logits() {
        let of = |method: &str, name: &str, rows: usize| {
            let selection = Selection::new(method.parse().unwrap()).unwrap();
            let recipe = selection.recipe(name, Dtype::F32, &[rows, 768]);
            let recipe = selection.adapted(name, (rows, rows * 768), recipe).unwrap();
            recipe.to_string().split_whitespace().next().unwrap().to_owned()
        };
        for (name, rows, method) in [
            ("classifier.out_proj.weight", 10, "uniform"),
            ("classifier.dense.weight", 768, "factors"),
            ("head.weight", 50_277, "factors"),
        ] {
            assert_eq!(of("factors step=13", name, rows), method, "{name}");
            assert_eq!(of("dct", name, rows), "raw", "{name}");
        }
    }

    #[test]
    fn a_table_finer_than_the_layers_has_a_rest_only_where_they_have() {
        let names = ["model.layers.0.mlp.weight", "model.layers.1.mlp.weight", "lm_head.weight"];
        let has_rest = |step: f32| {
            let default: Recipe = format!("factors step={step}").parse().unwrap();
            let selection = Selection::new(default).unwrap().for_model(names.into_iter(), &BTreeMap::new());
            names.map(|name| {
                let shape = [64, 64];
                let recipe = selection.recipe(name, Dtype::F32, &shape);
                let (step, _, rest) = selection.adapted(name, (64, 4096), recipe).unwrap().factors().unwrap();
                step < rest
            })
        };
        assert_eq!(has_rest(2.6), [false, false, false]);
        assert_eq!(has_rest(2.4), [true, false, true]);
        assert_eq!(has_rest(1.5), [true, true, true]);
    }
}
