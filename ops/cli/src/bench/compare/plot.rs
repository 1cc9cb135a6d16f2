//! Bars as an SVG file: the middle of the rounds, with a line from the lowest to the highest.

use std::fmt::Write as _;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    /// Lowest, middle, highest.
    pub(super) spread: [f64; 3],
    /// Drawn in the colour of the house.
    pub(super) is_ours: bool,
}

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 330.0;
const VALUE_WIDTH: f64 = 80.0;
const ROW: f64 = 24.0;
const TOP: f64 = 40.0;

/// A plot of bars from zero, with its title.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.spread[2]).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most;
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let [low, middle, high] = bar.spread.map(|value| value * scale);
        let colour = if bar.is_ours { "#1f6f5c" } else { "#9aa5ad" };
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{label:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LABEL_WIDTH}\" y=\"{top:.0}\" width=\"{middle:.1}\" height=\"16\" \
             fill=\"{colour}\"/>\n\
             <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{mid:.0}\" y2=\"{mid:.0}\" \
             stroke=\"#222222\" stroke-width=\"1.5\"/>\n\
             <text x=\"{value:.1}\" y=\"{text:.0}\">{number}</text>\n",
            label = LABEL_WIDTH - 8.0,
            text = y + 15.0,
            name = escaped(&bar.label),
            top = y + 2.0,
            low = LABEL_WIDTH + low,
            high = LABEL_WIDTH + high,
            mid = y + 10.0,
            value = LABEL_WIDTH + high + 6.0,
            number = super::page::grouped(bar.spread[1]),
        );
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_room_and_labels_are_escaped() {
        let bar = |label: &str, spread| Bar { label: label.to_string(), spread, is_ours: true };
        let svg = bars("a & b", &[bar("x < y", [1.0, 2.0, 4.0]), bar("z", [1.0, 1.0, 1.0])]);
        assert!(svg.contains("a &amp; b") && svg.contains("x &lt; y"));
        assert!(svg.contains("width=\"225.0\""), "half of 450: {svg}");
        assert!(svg.contains("x2=\"780.0\""), "{svg}");
    }
}
