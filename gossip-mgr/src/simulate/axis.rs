//! Axes of plots: where a value lies, and which values are told.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis: what it shows, and whether equal steps along it add or multiply.
#[derive(Clone, Copy)]
pub struct Axis {
    pub name: &'static str,
    /// The factor of one step.
    base: Option<f64>,
}

/// About so many values are told on a linear axis; at most so many on a logarithmic one.
const TICKS: f64 = 8.0;
/// A logarithmic axis of fewer decades tells values between their powers, too.
const FEW_DECADES: f64 = 3.0;

impl Axis {
    /// From 0 or the least value on.
    pub fn linear(name: &'static str) -> Self {
        Self { name, base: None }
    }

    /// Logarithmic, of positive values; one step is a factor of `base`.
    pub fn logarithmic(name: &'static str, base: f64) -> Self {
        Self { name, base: Some(base) }
    }

    /// Whether a value can be shown.
    pub fn shows(self, value: f64) -> bool {
        self.place(value).is_finite()
    }

    fn place(self, value: f64) -> f64 {
        self.base.map_or(value, |base| value.log(base))
    }

    fn value(self, place: f64) -> f64 {
        self.base.map_or(place, |base| base.powf(place))
    }
}

/// The part of an axis that is drawn, in places.
#[derive(Clone)]
pub struct Scale {
    axis: Axis,
    places: Range<f64>,
}

impl Scale {
    /// From the least of `values` to the greatest.
    pub fn over(axis: Axis, values: impl Iterator<Item = f64>) -> Self {
        let begin = (f64::INFINITY, f64::NEG_INFINITY);
        let (least, most) = values.map(|v| axis.place(v)).fold(begin, |(least, most), p| (least.min(p), most.max(p)));
        let places = match least < most {
            true => least..most,
            false if least.is_finite() => least - 1.0..least + 1.0,
            false => 0.0..1.0,
        };
        Self { axis, places }
    }

    /// With 0, if there is one, and a margin above.
    pub fn upright(mut self) -> Self {
        if self.axis.base.is_none() {
            self.places.start = self.places.start.min(0.0);
        }
        self.places.end += 0.05 * (self.places.end - self.places.start);
        self
    }

    /// Values between two that are told, on a linear axis: 1, 2 or 5 times a power of ten.
    fn step(&self) -> f64 {
        let least = (self.places.end - self.places.start) / TICKS;
        let power = 10f64.powf(least.log10().floor());
        [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&step| step >= least).unwrap_or(power)
    }

    /// The values that are told.
    fn ticks(&self) -> Vec<f64> {
        let Range { start, end } = self.places;
        let Some(base) = self.axis.base else {
            let step = self.step();
            return ((start / step).ceil() as i64..=(end / step).floor() as i64).map(|n| n as f64 * step).collect();
        };
        let powers = start.floor() as i32..=end.floor() as i32;
        let between: &[f64] = if base == 10.0 && end - start < FEW_DECADES { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = ((end - start) / TICKS).ceil().max(1.0) as usize;
        let all = powers.step_by(every).flat_map(|power| between.iter().map(move |n| n * base.powi(power)));
        all.filter(|&value| (start..=end).contains(&self.axis.place(value))).collect()
    }

    fn decimals(&self, value: f64) -> usize {
        let finest = if self.axis.base.is_some() { value } else { self.step() };
        // A power of ten may be a little below itself.
        (-(finest.abs().log10() + 1e-9).floor()).max(0.0) as usize
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let Range { start, end } = self.places;
        let share = (self.axis.place(*value) - start) / (end - start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks()
    }

    fn range(&self) -> Range<f64> {
        self.axis.value(self.places.start)..self.axis.value(self.places.end)
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let text = format!("{value:.*}", self.decimals(*value));
        let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
        let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
        format!("{sign}{}{fraction}", groups.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(axis: Axis, least: f64, most: f64) -> Vec<String> {
        let scale = Scale::over(axis, [least, most].into_iter());
        scale.ticks().iter().map(|tick| scale.format_ext(tick)).collect()
    }

    #[test]
    fn linear_axes_tell_round_values_all_with_as_many_decimals() {
        let axis = Axis::linear("share");
        assert_eq!(told(axis, 0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(told(axis, 0.0, 0.13), ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10", "0.12"]);
        assert_eq!(told(axis, -1.0, 4.0), ["-1", "0", "1", "2", "3", "4"]);
        assert_eq!(told(axis, 0.0, 1_964_139.0), ["0", "500,000", "1,000,000", "1,500,000"]);
    }

    #[test]
    fn logarithmic_axes_tell_powers_and_values_between_if_these_are_few() {
        assert_eq!(told(Axis::logarithmic("nodes", 2.0), 64.0, 1024.0), ["64", "128", "256", "512", "1,024"]);
        let steps = Axis::logarithmic("steps", 10.0);
        assert_eq!(told(steps, 25.0, 500.0), ["50", "100", "200", "500"]);
        assert_eq!(told(steps, 0.05, 70_000.0), ["0.1", "1", "10", "100", "1,000", "10,000"]);
        assert_eq!(
            told(steps, 1.0, 1e20),
            [
                "1",
                "1,000",
                "1,000,000",
                "1,000,000,000",
                "1,000,000,000,000",
                "1,000,000,000,000,000",
                "1,000,000,000,000,000,000"
            ]
        );
    }

    #[test]
    fn a_value_lies_where_its_axis_has_it() {
        let log = Scale::over(Axis::logarithmic("nodes", 2.0), [1.0, 256.0].into_iter());
        assert_eq!([1.0, 16.0, 256.0].map(|value| log.map(&value, (0, 800))), [0, 400, 800]);
        let upright = Scale::over(Axis::linear("load"), [50.0, 100.0].into_iter()).upright();
        // Upwards on a screen is towards 0.
        assert_eq!([0.0, 50.0, 105.0].map(|value| upright.map(&value, (210, 0))), [210, 110, 0]);
        assert!(!Axis::logarithmic("steps", 10.0).shows(0.0));
    }
}
