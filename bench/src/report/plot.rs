//! Bars as SVG, by hand: a bar for the median, a line for the spread.

use crate::series::median;

/// One system's figure.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) values: Vec<f64>,
}

const WIDTH: f64 = 640.0;
const LABEL: f64 = 170.0;
const ROW: f64 = 30.0;

/// A plot with a title.
pub(super) fn bars(title: &str, bars: &[Bar], number: impl Fn(f64) -> String) -> String {
    let most = bars.iter().flat_map(|bar| bar.values.iter().copied()).fold(f64::MIN_POSITIVE, f64::max);
    let place = |value: f64| LABEL + value.max(0.0) / most * (WIDTH - LABEL - 90.0);
    let height = ROW * f64::from(u32::try_from(bars.len()).unwrap_or(u32::MAX)) + 44.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{}</text>",
        escaped(title)
    );
    let mut y = 36.0;
    for bar in bars {
        let middle = median(&bar.values);
        let least = bar.values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = bar.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (left, right, line, base) = (place(least), place(greatest), y + 11.0, y + 16.0);
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{:.1}\" height=\"22\" fill=\"#4a7fb5\"/>\
             <path d=\"M{left:.1} {line}H{right:.1}\" stroke=\"#111\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{base}\">{}</text>",
            LABEL - 8.0,
            escaped(&bar.name),
            place(middle) - LABEL,
            right + 6.0,
            number(middle),
        ));
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
