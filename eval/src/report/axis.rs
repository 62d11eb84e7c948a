//! A range of values, and where its labels stand.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// One axis of a plot.
#[derive(Clone)]
pub(super) struct Axis {
    logarithmic: bool,
    /// Its ends; of a logarithmic one their logarithms to the base 10.
    low: f64,
    high: f64,
    label: fn(f64) -> String,
}

impl Axis {
    /// The axis on which all `values` have their place, and some room around them. Values of a logarithmic one are
    /// above 0.
    pub(super) fn of(values: impl Iterator<Item = f64>, logarithmic: bool, label: fn(f64) -> String) -> Self {
        let place = |value: f64| if logarithmic { value.log10() } else { value };
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.map(place).fold(ends, |(low, high), x| (low.min(x), high.max(x)));
        let least = if logarithmic { 0.1 } else { 0.002 };
        let room = (0.06 * (high - low)).max(least);
        Self { logarithmic, low: low - room, high: high + room, label }
    }

    /// The value at a place between `low` and `high`.
    fn value(&self, place: f64) -> f64 {
        if self.logarithmic { 10f64.powf(place) } else { place }
    }

    /// Its ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.value(self.low), self.value(self.high))
    }

    /// Round values, about six.
    fn ticks(&self) -> Vec<f64> {
        self.places().into_iter().map(|place| self.value(place)).collect()
    }

    fn places(&self) -> Vec<f64> {
        let inside = |place: &f64| (self.low..=self.high).contains(place);
        if !self.logarithmic {
            let step = round_step((self.high - self.low) / 6.0);
            let first = (self.low / step).ceil() as i64;
            return (first..).map(|i| i as f64 * step).take_while(inside).collect();
        }
        let (decades, leading): (f64, &[f64]) = match self.high - self.low {
            span if span < 1.0 => (1.0, &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]),
            span if span < 2.5 => (1.0, &[1.0, 2.0, 5.0]),
            span => ((span / 7.0).ceil(), &[1.0]),
        };
        let first = (self.low / decades).floor() as i64;
        let last = (self.high / decades).ceil() as i64;
        let decade = |i: i64| leading.iter().map(move |lead| i as f64 * decades + lead.log10());
        (first..=last).flat_map(decade).filter(inside).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let place = if self.logarithmic { value.log10() } else { *value };
        let share = (place - self.low) / (self.high - self.low);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks() }
    }

    fn range(&self) -> Range<f64> {
        let (low, high) = self.ends();
        low..high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let lead = [1.0, 2.0, 5.0].into_iter().find(|lead| lead * power >= least).unwrap_or(10.0);
    lead * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let axis = Axis::of([0.41, 0.96].into_iter(), false, |x| x.to_string());
        assert_eq!(axis.ticks().iter().map(|x| format!("{x:.1}")).collect::<Vec<_>>(), ["0.4", "0.6", "0.8"]);
        let axis = Axis::of([9e3, 1.2e6].into_iter(), true, |x| x.to_string());
        let values: Vec<f64> = axis.ticks().iter().map(|x| x.round()).collect();
        assert_eq!(values, [1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6]);
        let axis = Axis::of([1e-6, 1e3].into_iter(), true, |x| x.to_string());
        assert!((4..8).contains(&axis.ticks().len()));
    }
}
