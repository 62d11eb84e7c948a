//! Plans in tables: most tensors share one of a few long ones, so tables show numbers and a list explains them.

use std::io;
use std::io::Write;

use delta_dct::TensorSummary;

use crate::units;

/// The different plans of a file in the order in which they appear, and how many tensors each codes.
pub(crate) struct Plans<'a>(Vec<(&'a str, usize)>);

impl<'a> Plans<'a> {
    /// The plans of `tensors`.
    pub(crate) fn of(tensors: &'a [TensorSummary]) -> Self {
        let mut plans: Vec<(&str, usize)> = Vec::new();
        for tensor in tensors.iter().filter(|tensor| !tensor.plan.is_empty()) {
            match plans.iter_mut().find(|(plan, _)| *plan == tensor.plan) {
                Some((_, count)) => *count += 1,
                None => plans.push((&tensor.plan, 1)),
            }
        }
        Self(plans)
    }

    /// What the table shows for `plan`: its number from 1, or nothing.
    pub(crate) fn number(&self, plan: &str) -> String {
        let at = self.0.iter().position(|(known, _)| *known == plan);
        at.map_or_else(String::new, |i| (i + 1).to_string())
    }

    /// Writes a line per plan.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (i, (plan, count)) in self.0.iter().enumerate() {
            writeln!(out, " plan {}: {plan} ({})", i + 1, units::plural(*count, "tensor"))?;
        }
        Ok(())
    }
}
