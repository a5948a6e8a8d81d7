//! Bars as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const ROOM_FOR_VALUES: f64 = 90.0;
const ROW: f64 = 26.0;
const TOP: f64 = 44.0;

/// A bar for each value, from zero, all to one scale.
pub(crate) fn bars(title: &str, bars: &[(&str, f64)]) -> String {
    let most = bars
        .iter()
        .map(|(_, value)| *value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    let mut y = TOP;
    for (name, value) in bars {
        let length = (value / most * (WIDTH - LEFT - ROOM_FOR_VALUES)).max(1.0);
        let color = if name.starts_with("ringway") {
            "#1769aa"
        } else {
            "#9aa5b1"
        };
        let (middle, end) = (y + ROW * 0.62, LEFT + length + 6.0);
        // Writing to a string can't fail.
        let _written = write!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{color}\"/>\n\
             <text x=\"{end:.1}\" y=\"{middle}\">{value:.1}</text>\n",
            LEFT - 8.0,
            y + 4.0,
            ROW - 8.0,
        );
        y += ROW;
    }
    svg += "</svg>\n";
    svg
}
