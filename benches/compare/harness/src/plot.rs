//! Plots as SVG, readable on light and dark ground: bars with their intervals, and lines on logarithmic axes.

use std::fmt::Write as _;

use crate::stats::Estimate;
use crate::table::number;

/// Colours that stand out from white and from black; the first is ours.
const COLOURS: [&str; 11] = [
    "#e4572e", "#4c8bc9", "#2fa39a", "#5aa84f", "#b8962e", "#b06fb0", "#a3765b", "#8a93a0", "#d8719a",
    "#6c71c4", "#3f9fd0",
];
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#3b4048}.title{font-weight:600;font-size:14px}\
.soft{fill:#6b727c}.grid{stroke:#8a93a0;stroke-opacity:.3}.whisker{stroke:#3b4048;stroke-width:1.5}\
.cut{fill:none;stroke:#fff;stroke-width:2}\
@media(prefers-color-scheme:dark){text{fill:#d5d9df}.soft{fill:#9aa2ad}.whisker{stroke:#d5d9df}}";

const WIDTH: f64 = 720.0;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What stands before it.
    pub label: String,
    /// How long it is, and its interval.
    pub figure: Estimate,
    /// Whether it is ours.
    pub ours: bool,
}

/// Bars longer than so many times the middle one are cut, or one outlier makes all the others look alike.
const LONGEST: f64 = 10.0;

/// Horizontal bars with intervals, all from zero; one that is cut has two strokes across it.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 130.0;
    const RIGHT: f64 = 90.0;
    const TOP: f64 = 52.0;
    const STEP: f64 = 26.0;
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    let end = |figure: Estimate| figure.interval.map_or(figure.value, |(_, high)| high.max(figure.value));
    let mut ends: Vec<f64> = bars.iter().map(|bar| end(bar.figure)).collect();
    ends.sort_by(f64::total_cmp);
    let middle_one = ends.get(ends.len() / 2).copied().unwrap_or_default();
    let reach = ends.last().copied().unwrap_or_default().min(middle_one * LONGEST).max(f64::MIN_POSITIVE);
    // What is left of a figure may be below zero, for which there is no room; its number tells.
    let x = |value: f64| LEFT + value.clamp(0.0, reach) / reach * (WIDTH - LEFT - RIGHT);
    let mut svg = open(height, title, unit);
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let middle = y + 9.0;
        let colour = if bar.ours { COLOURS[0] } else { COLOURS[1] };
        let figure = bar.figure;
        let value = figure.value;
        let _ = writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + 13.0,
            escape(&bar.label)
        );
        let width = (x(value) - LEFT).max(0.5);
        let _ = writeln!(
            svg,
            r#"<rect x="{LEFT}" y="{y:.1}" width="{width:.1}" height="18" rx="2" fill="{colour}"/>"#
        );
        if let Some((low, high)) = figure.interval.filter(|_| value <= reach) {
            let (from, to) = (x(low), x(high));
            let _ = writeln!(
                svg,
                r#"<path class="whisker" fill="none" d="M{from:.1} {:.1}v8M{from:.1} {middle:.1}H{to:.1}M{to:.1} {:.1}v8"/>"#,
                middle - 4.0,
                middle - 4.0
            );
        }
        if value > reach {
            let cut = x(reach) - 24.0;
            let _ = writeln!(svg, r#"<path class="cut" d="M{cut:.1} {y:.1}l-5 18m10 0l5 -18"/>"#);
        }
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}">{}</text>"#,
            x(end(figure)) + 6.0,
            y + 13.0,
            number(value)
        );
    }
    svg + "</svg>\n"
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called.
    pub label: String,
    /// Its points from left to right; both coordinates above zero.
    pub points: Vec<(f64, f64)>,
}

/// Lines on two logarithmic axes; the first series is drawn strongest.
pub fn lines(title: &str, x_title: &str, y_title: &str, series: &[Series]) -> String {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 140.0;
    const TOP: f64 = 56.0;
    const BOTTOM: f64 = 40.0;
    const HEIGHT: f64 = 380.0;
    let points = || {
        series.iter().flat_map(|series| series.points.iter().copied()).filter(|&(x, y)| x > 0.0 && y > 0.0)
    };
    let x_range = Range::of(points().map(|(x, _)| x), 1.05);
    let y_range = Range::of(points().map(|(_, y)| y), 1.25);
    let x = |value: f64| LEFT + x_range.place(value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - y_range.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(HEIGHT, title, y_title);
    for tick in y_range.ticks() {
        let at = y(tick);
        let _ = writeln!(svg, r#"<path class="grid" d="M{LEFT} {at:.1}H{:.1}"/>"#, WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            r#"<text class="soft" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            at + 4.0,
            number(tick)
        );
    }
    let mut measured: Vec<f64> = points().map(|(x, _)| x).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    for value in measured {
        let at = x(value);
        let _ = writeln!(svg, r#"<path class="grid" d="M{at:.1} {TOP}V{:.1}"/>"#, HEIGHT - BOTTOM);
        let label = if value >= 100.0 { number(value) } else { value.to_string() };
        let _ = writeln!(
            svg,
            r#"<text class="soft" x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ =
        writeln!(svg, r#"<text class="soft" x="{LEFT}" y="{:.1}">{}</text>"#, HEIGHT - 6.0, escape(x_title));
    let labels = spread(
        series.iter().map(|series| series.points.last().map_or(HEIGHT, |&(_, value)| y(value))).collect(),
        TOP,
    );
    for (index, (series, label_y)) in series.iter().zip(labels).enumerate().rev() {
        let colour = COLOURS[index % COLOURS.len()];
        let width = if index == 0 { 3.0 } else { 1.6 };
        let path: Vec<String> =
            series.points.iter().map(|&(px, py)| format!("{:.1},{:.1}", x(px), y(py))).collect();
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{}"/>"#,
            path.join(" ")
        );
        for &(px, py) in &series.points {
            let _ =
                writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="{width}" fill="{colour}"/>"#, x(px), y(py));
        }
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" style="fill:{colour}">{}</text>"#,
            WIDTH - RIGHT + 10.0,
            label_y + 4.0,
            escape(&series.label)
        );
    }
    svg + "</svg>\n"
}

/// What a logarithmic axis shows.
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, margin: f64) -> Self {
        let (low, high) = values
            .fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            Self { low: 1.0, high: 10.0 }
        } else {
            Self { low: low / margin, high: high * margin }
        }
    }

    /// From 0 at the low end to 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        (value.max(f64::MIN_POSITIVE).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
    }

    /// 1, 2 and 5 of each power of ten that is in sight.
    fn ticks(&self) -> Vec<f64> {
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
        ticks.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// Moves labels apart that would cover each other; each keeps its place in the order.
fn spread(wanted: Vec<f64>, top: f64) -> Vec<f64> {
    const LINE: f64 = 14.0;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut placed = wanted.clone();
    let mut free = top;
    for index in order {
        placed[index] = wanted[index].max(free);
        free = placed[index] + LINE;
    }
    placed
}

fn open(height: f64, title: &str, subtitle: &str) -> String {
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{}">"#,
        escape(title)
    );
    let _ = writeln!(svg, "<style>{STYLE}</style>");
    let _ = writeln!(svg, r#"<text class="title" x="8" y="20">{}</text>"#, escape(title));
    let _ = writeln!(svg, r#"<text class="soft" x="8" y="38">{}</text>"#, escape(subtitle));
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let bar = |label: &str, value: f64, ours| Bar {
            label: label.into(),
            figure: Estimate { value, interval: None },
            ours,
        };
        let svg = bars("a <title>", "unit", &[bar("ours", 1.0, true), bar("peer", 2.0, false)]);
        assert!(svg.contains("a &lt;title&gt;") && svg.contains("prefers-color-scheme:dark"));
        assert!(svg.contains(r#"width="250.0""#) && svg.contains(r#"width="500.0""#), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        assert_eq!(svg.matches("<path").count(), 0);
        let whisker = Estimate { value: -0.1, interval: Some((-0.2, 0.1)) };
        let svg = bars("t", "u", &[Bar { label: "ours".into(), figure: whisker, ours: true }]);
        assert_eq!(svg.matches("<path").count(), 1);
        assert!(svg.contains(r#"width="0.5""#) && svg.contains(">-0.100<"), "{svg}");
    }

    #[test]
    fn a_bar_that_would_dwarf_the_others_is_cut() {
        let bar = |value: f64| Bar {
            label: "peer".into(),
            figure: Estimate { value, interval: Some((value, value)) },
            ours: false,
        };
        let svg = bars("t", "u", &[bar(1.0), bar(1.0), bar(2000.0)]);
        assert!(svg.contains(r#"width="50.0""#) && svg.contains(r#"width="500.0""#), "{svg}");
        assert!(svg.contains(">2,000<"), "{svg}");
        assert_eq!(svg.matches(r#"class="cut""#).count(), 1);
        assert_eq!(bars("t", "u", &[bar(1.0), bar(10.0)]).matches(r#"class="cut""#).count(), 0);
    }

    #[test]
    fn equal_steps_of_a_logarithmic_axis_are_equal_ratios() {
        let range = Range { low: 1.0, high: 100.0 };
        assert!((range.place(10.0) - 0.5).abs() < 1e-9);
        assert_eq!(range.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn every_series_has_a_line_and_a_label_of_its_own_place() {
        let series = |label: &str, y| Series { label: label.into(), points: vec![(1.0, y), (100.0, y)] };
        let svg = lines("t", "x", "y", &[series("ours", 1.0), series("peer", 1.001)]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        let placed = spread(vec![100.0, 101.0, 50.0], 0.0);
        assert_eq!(placed, [100.0, 114.0, 50.0]);
    }

    #[test]
    fn nothing_to_show_is_no_error() {
        assert!(lines("t", "x", "y", &[]).ends_with("</svg>\n"));
        assert!(bars("t", "u", &[]).ends_with("</svg>\n"));
    }
}
