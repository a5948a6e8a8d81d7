//! Charts as inline SVG, drawn by hand: no script, no font, no file beside the page.

use hdrhistogram::Histogram;

use crate::output::duration;

/// Size of a chart in user units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Room for the axis below and above.
const BOTTOM: f64 = 34.0;
const TOP: f64 = 30.0;
const SIDE: f64 = 12.0;
/// Steps of a histogram along its logarithmic axis.
const STEPS: u32 = 96;
/// What is shown of a distribution: all up to this quantile, but no more than so many times the slowest median.
/// The rest of a long tail would squeeze the part that matters.
const SHOWN_TO: f64 = 0.998;
const SHOWN_MEDIANS: u64 = 10;

/// A distribution and the class that gives it its colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) name: &'a str,
    pub(crate) class: &'a str,
    pub(crate) latencies: &'a Histogram<u64>,
}

/// Several latency distributions over one logarithmic axis.
pub(crate) fn latencies(title: &str, layers: &[Layer<'_>]) -> String {
    let layers: Vec<_> = layers
        .iter()
        .filter(|layer| !layer.latencies.is_empty())
        .collect();
    let axis = Axis::of(&layers);
    let shares: Vec<Vec<f64>> = layers
        .iter()
        .map(|layer| axis.shares(layer.latencies))
        .collect();
    let most = shares
        .iter()
        .flatten()
        .copied()
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title);
    for tick in axis.ticks() {
        let x = axis.x(tick);
        svg += &format!(
            r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{base:.1}"/><text x="{x:.1}" y="{label:.1}" text-anchor="middle">{}</text>"#,
            plain(tick),
            base = HEIGHT - BOTTOM,
            label = HEIGHT - BOTTOM + 18.0,
        );
    }
    for (layer, shares) in layers.iter().zip(&shares) {
        svg += &format!(
            r#"<path class="area {}" d="{}"/>"#,
            layer.class,
            axis.path(shares, most)
        );
    }
    for (row, layer) in layers.iter().enumerate() {
        svg += &median(&axis, layer, f64::from(u32::try_from(row).unwrap_or(0)));
    }
    svg + "</svg>"
}

/// Horizontal bars, one per contestant, each with its figure.
pub(crate) fn bars(title: &str, values: &[(&str, &str, f64, String)]) -> String {
    const BAR: f64 = 26.0;
    let height = values.iter().map(|_| BAR + 8.0).sum::<f64>() + 4.0;
    let most = values
        .iter()
        .map(|value| value.2)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{}</title>"#,
        escape(title)
    );
    let mut y = 4.0;
    for (name, class, value, figure) in values {
        let width = (WIDTH - 250.0) * (value / most).clamp(0.0, 1.0);
        svg += &format!(
            r#"<text x="100" y="{text:.1}" text-anchor="end">{}</text><rect class="bar {class}" x="110" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="3"/><text x="{end:.1}" y="{text:.1}">{}</text>"#,
            escape(name),
            escape(figure),
            text = y + BAR / 2.0 + 5.0,
            end = 118.0 + width,
        );
        y += BAR + 8.0;
    }
    svg + "</svg>"
}

/// A logarithmic axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    fn of(layers: &[&Layer<'_>]) -> Self {
        let highest = |quantile| {
            let values = layers
                .iter()
                .map(|layer| layer.latencies.value_at_quantile(quantile));
            values.max().unwrap_or(1)
        };
        let low = layers
            .iter()
            .map(|layer| layer.latencies.min())
            .min()
            .unwrap_or(1)
            .max(1);
        let high = highest(SHOWN_TO)
            .min(highest(0.5) * SHOWN_MEDIANS)
            .max(low + 1);
        Self::new(float(low) * 0.95, float(high) * 1.05)
    }

    /// 0 at the left end, 1 at the right one.
    fn place(self, value: f64) -> f64 {
        (value / self.low).ln() / (self.high / self.low).ln()
    }

    fn x(self, value: f64) -> f64 {
        SIDE + (WIDTH - 2.0 * SIDE) * self.place(value).clamp(0.0, 1.0)
    }

    /// Round values inside: 1, 2 and 5 of each power of ten, or 1 alone on a long axis.
    fn ticks(self) -> Vec<f64> {
        let long = self.high / self.low > 300.0;
        let all = (0..10).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let first = |value: f64| !long || (value.log10().fract()).abs() < 1e-9;
        all.filter(|value| (self.low..=self.high).contains(value) && first(*value))
            .collect()
    }

    /// Share of the values in each step of the axis.
    fn shares(self, latencies: &Histogram<u64>) -> Vec<f64> {
        let mut shares = vec![0.0; STEPS as usize];
        let total = float(latencies.len());
        for recorded in latencies.iter_recorded() {
            let place = self.place(float(recorded.value_iterated_to()));
            let step = (0..STEPS)
                .rev()
                .find(|step| f64::from(*step) <= place * f64::from(STEPS));
            if let Some(share) = step.and_then(|step| shares.get_mut(step as usize))
                && place <= 1.0
            {
                *share += float(recorded.count_at_value()) / total;
            }
        }
        shares
    }

    /// The outline of a histogram whose highest step in the chart is `most`.
    fn path(self, shares: &[f64], most: f64) -> String {
        let base = HEIGHT - BOTTOM;
        let width = (WIDTH - 2.0 * SIDE) / f64::from(STEPS);
        let mut path = format!("M{SIDE} {base}");
        let mut x = SIDE;
        for share in shares {
            let y = base - (base - TOP) * share / most;
            path += &format!("L{x:.1} {y:.1}L{:.1} {y:.1}", x + width);
            x += width;
        }
        path + &format!("L{x:.1} {base}Z")
    }
}

/// A mark at the median, with its label; `row` keeps labels apart.
fn median(axis: &Axis, layer: &Layer<'_>, row: f64) -> String {
    let value = float(layer.latencies.value_at_quantile(0.5));
    let (x, y) = (axis.x(value), 12.0 + 14.0 * row);
    let (anchor, gap) = if x > WIDTH * 0.7 {
        ("end", -5.0)
    } else {
        ("start", 5.0)
    };
    format!(
        r#"<line class="mark {class}" x1="{x:.1}" x2="{x:.1}" y1="{y:.1}" y2="{base}"/><text class="mark {class}" x="{label:.1}" y="{y:.1}" text-anchor="{anchor}">{} {}</text>"#,
        escape(layer.name),
        duration(value),
        class = layer.class,
        base = HEIGHT - BOTTOM,
        label = x + gap,
    )
}

fn open(title: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{}</title><line class="axis" x1="{SIDE}" x2="{right}" y1="{base}" y2="{base}"/>"#,
        escape(title),
        right = WIDTH - SIDE,
        base = HEIGHT - BOTTOM,
    )
}

/// A tick's label, without the digits that a measured value would have.
fn plain(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.0} us", n / 1e3),
        n if n < 1e9 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.0} s", n / 1e9),
    }
}

/// Text for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn float(count: u64) -> f64 {
    crate::bench::figures::float(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::histogram;

    #[test]
    fn a_histogram_shows_every_share_and_both_medians() {
        let (mut ours, mut raw) = (histogram(), histogram());
        for value in 0..1000 {
            ours.record(10_000 + value).unwrap();
            raw.record(20_000 + value).unwrap();
        }
        let axis = Axis::new(9_000.0, 25_000.0);
        let total: f64 = axis.shares(&ours).iter().sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
        let layers = [
            Layer {
                name: "ringway",
                class: "ours",
                latencies: &ours,
            },
            Layer {
                name: "raw",
                class: "raw",
                latencies: &raw,
            },
        ];
        let svg = latencies("tcp & more", &layers);
        for part in [
            "ringway 10.5",
            "raw 20.5",
            "20 us",
            "tcp &amp; more",
            "</svg>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn empty_and_single_valued_histograms_still_make_a_chart() {
        let (empty, mut one) = (histogram(), histogram());
        one.record(5).unwrap();
        for latencies_of in [&empty, &one] {
            let layer = Layer {
                name: "x",
                class: "ours",
                latencies: latencies_of,
            };
            let svg = latencies("t", &[layer]);
            assert!(svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_share_of_the_largest() {
        let svg = bars(
            "t",
            &[
                ("a", "ours", 2.0, "2".to_owned()),
                ("b", "raw", 1.0, "1".to_owned()),
            ],
        );
        assert!(
            svg.contains(r#"width="390.0""#) && svg.contains(r#"width="195.0""#),
            "{svg}"
        );
    }
}
