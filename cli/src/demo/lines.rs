//! Curves as inline SVG, beside the histograms and bars of [`chart`](super::chart).

use super::chart::escape;
use crate::output::quantity;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 30.0;

/// One curve and the class that gives it its colour.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) class: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// An axis: its range, how it is divided, and what its marks are called.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

/// Least and greatest of some values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// 1, 2 and 5 of every power of ten, or 1 alone on a long axis.
fn decades(low: f64, high: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let is_long = high / low > 1000.0;
    let all = (0..12).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit, 10_f64.powi(power))));
    all.filter(|(digit, _)| !is_long || *digit == 1.0)
        .map(|(digit, power)| digit * power)
        .filter(|value| (low..=high).contains(value))
        .map(|value| (value, label(value)))
        .collect()
}

/// About five round values from 0 on.
fn steps(high: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let rough = high / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(high);
    (0..10)
        .map(|count| f64::from(count) * step)
        .take_while(|value| *value <= high)
        .map(|value| (value, label(value)))
        .collect()
}

impl Axis {
    /// Nanoseconds, logarithmic.
    pub(crate) fn times(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((1.0, 10.0));
        let (low, high) = (low.max(1.0) * 0.9, high.max(10.0) * 1.1);
        let label = |nanos: f64| match nanos {
            n if n < 1e3 => format!("{n:.0} ns"),
            n if n < 1e6 => format!("{:.0} us", n / 1e3),
            n if n < 1e9 => format!("{:.0} ms", n / 1e6),
            n => format!("{:.0} s", n / 1e9),
        };
        Self {
            low,
            high,
            is_log: true,
            ticks: decades(low, high, label),
        }
    }

    /// 1 / (1 - q), logarithmic, with the names of the percentiles.
    pub(crate) fn nines(values: impl Iterator<Item = f64>) -> Self {
        let (_, high) = range(values).unwrap_or((1.0, 10.0));
        let high = high.max(10.0);
        let names = [
            (1.0, "p0"),
            (2.0, "p50"),
            (10.0, "p90"),
            (100.0, "p99"),
            (1e3, "p99.9"),
            (1e4, "p99.99"),
            (1e5, "p99.999"),
            (1e6, "p99.9999"),
            (1e7, "p99.99999"),
        ];
        let ticks = names.into_iter().filter(|(value, _)| *value <= high);
        Self {
            low: 1.0,
            high,
            is_log: true,
            ticks: ticks
                .map(|(value, name)| (value, name.to_owned()))
                .collect(),
        }
    }

    /// Seconds from 0 on.
    pub(crate) fn seconds(high: f64) -> Self {
        let high = high.max(0.001);
        let label = |seconds: f64| format!("{} s", (seconds * 1000.0).round() / 1000.0);
        Self {
            low: 0.0,
            high,
            is_log: false,
            ticks: steps(high, label),
        }
    }

    /// Things per second, from 0 on.
    pub(crate) fn rates(values: impl Iterator<Item = f64>) -> Self {
        let high = range(values).map_or(1.0, |(_, high)| high).max(1.0) * 1.1;
        Self {
            low: 0.0,
            high,
            is_log: false,
            ticks: steps(high, |value| format!("{}/s", quantity(value))),
        }
    }

    /// 0 at its beginning, 1 at its end.
    fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(0.0, 1.0)
    }
}

/// The curves over one pair of axes, with their names above.
pub(crate) fn chart(title: &str, lines: &[Line<'_>], x: &Axis, y: &Axis) -> String {
    let (base, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let across = |value: f64| LEFT + (right - LEFT) * x.place(value);
    let up = |value: f64| base - (base - TOP) * y.place(value);
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{}</title>"#,
        escape(title)
    );
    for (value, name) in &y.ticks {
        let at = up(*value);
        svg += &format!(
            r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            at + 4.0,
            escape(name)
        );
    }
    for (value, name) in &x.ticks {
        let at = across(*value);
        svg += &format!(
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{base}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            base + 18.0,
            escape(name)
        );
    }
    svg += &format!(r#"<line class="axis" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/>"#);
    let mut name_at = LEFT;
    for line in lines {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", across(*at), up(*value)))
            .collect();
        svg += &format!(
            r#"<polyline class="curve {}" points="{}"/><text class="{}" x="{name_at}" y="12">{}</text>"#,
            line.class,
            points.join(" "),
            line.class,
            escape(line.name)
        );
        name_at += 110.0;
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_stay_inside_their_chart_and_name_their_axes() {
        let line = Line {
            name: "p99 & more",
            class: "ours",
            points: vec![(0.0, 1_000.0), (5.0, 50_000.0), (10.0, 2_000_000.0)],
        };
        let y = Axis::times(line.points.iter().map(|it| it.1));
        let svg = chart("a < b", &[line], &Axis::seconds(10.0), &y);
        for part in [
            "10 us",
            "1 ms",
            "4 s",
            "p99 &amp; more",
            "a &lt; b",
            "</svg>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn charts_without_a_value_are_still_charts() {
        let line = Line {
            name: "x",
            class: "ours",
            points: Vec::new(),
        };
        for (x, y) in [
            (
                Axis::nines(std::iter::empty()),
                Axis::times(std::iter::empty()),
            ),
            (Axis::seconds(0.0), Axis::rates(std::iter::empty())),
        ] {
            let svg = chart("t", std::slice::from_ref(&line), &x, &y);
            assert!(svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }
}
