//! Plots as SVG, written out in full: no script, no font, no file beside.

use std::fmt::Write as _;

/// Okabe and Ito's colours, which people of any colour vision tell apart.
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442"];

const WIDTH: f64 = 860.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
const LEGEND: f64 = 20.0;

/// Text as HTML and SVG may hold it, whoever wrote it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number with as many digits as tell it from others.
pub(super) fn figure(number: f64) -> String {
    match number.abs() {
        size if !size.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size >= 1e9 => format!("{:.3}e9", number / 1e9),
        size if size >= 10_000.0 => format!("{number:.0}"),
        size if size >= 10.0 => trimmed(format!("{number:.2}")),
        _ => trimmed(format!("{number:.5}")),
    }
}

fn trimmed(number: String) -> String {
    if !number.contains('.') {
        return number;
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What one side of a plot measures.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    label: String,
    low: f64,
    high: f64,
    is_log: bool,
    /// Where there are words in place of numbers: the value n stands for word n.
    words: Option<Vec<String>>,
}

impl Axis {
    /// From zero up to these values.
    pub(super) fn from_zero(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        Self { label: label.to_owned(), low: 0.0, high, is_log: false, words: None }
    }

    /// From the least of these values to the greatest, and a little more.
    pub(super) fn around(label: &str, values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if low.is_nan() || low >= high {
            return Self::from_zero(label, std::iter::once(high));
        }
        let room = 0.02 * (high - low);
        let (low, high) = (low - room, high + room);
        Self { label: label.to_owned(), low, high, is_log: false, words: None }
    }

    /// Over these values: by magnitudes, where they span many.
    pub(super) fn over(label: &str, values: impl Iterator<Item = f64> + Clone) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
        if low > 0.0 && high / low >= 20.0 {
            return Self { label: label.to_owned(), low, high, is_log: true, words: None };
        }
        Self::from_zero(label, values)
    }

    /// With a word at each of the first whole numbers.
    pub(super) fn of_words(label: &str, words: Vec<String>) -> Self {
        let high = words.len() as f64 - 0.5;
        Self { label: label.to_owned(), low: -0.5, high, is_log: false, words: Some(words) }
    }

    /// Where a value is: from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        let share = if self.is_log {
            libm::log(value / self.low) / libm::log(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Values to name, with their names.
    fn ticks(&self) -> Vec<(f64, String)> {
        if let Some(words) = &self.words {
            let words = words.iter().enumerate();
            return words.map(|(n, word)| (n as f64, word.clone())).collect();
        }
        if self.is_log {
            let decades = libm::log10(self.high / self.low);
            let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let first = libm::floor(libm::log10(self.low)) as i32;
            let last = libm::ceil(libm::log10(self.high)) as i32;
            let all = (first..=last).flat_map(|n| steps.iter().map(move |s| s * power_of_ten(n)));
            let slack = 1e-9;
            let inside = all.filter(|tick| {
                (self.low * (1.0 - slack)..=self.high * (1.0 + slack)).contains(tick)
            });
            return inside.map(|tick| (tick, figure(tick))).collect();
        }
        let step = nice((self.high - self.low) / 6.0);
        let first = libm::ceil(self.low / step - 1e-9) as i64;
        let last = libm::floor(self.high / step + 1e-9) as i64;
        let digits = (-libm::floor(libm::log10(step) + 1e-9)).clamp(0.0, 9.0) as usize;
        let ticks = (first..=last).map(|n| n as f64 * step);
        let name = |tick: f64| {
            if step >= 1e4 { figure(tick) } else { format!("{tick:.digits$}") }
        };
        ticks.map(|tick| (tick, name(tick))).collect()
    }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice(step: f64) -> f64 {
    let power = power_of_ten(libm::floor(libm::log10(step)) as i32);
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

fn power_of_ten(exponent: i32) -> f64 {
    libm::exp10(f64::from(exponent))
}

/// A plot under way.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    height: f64,
    body: String,
    legend: Vec<(String, &'static str)>,
}

impl Plot {
    /// Of so many pixels in height, without what stands around.
    pub(super) fn new(x: Axis, y: Axis, height: f64) -> Self {
        Self { x, y, height, body: String::new(), legend: Vec::new() }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + self.x.at(x) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        TOP + (1.0 - self.y.at(y)) * self.height
    }

    /// Says what a colour means.
    pub(super) fn legend(&mut self, name: &str, colour: &'static str) {
        self.legend.push((name.to_owned(), colour));
    }

    /// A line through points.
    pub(super) fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{:.1},{:.1} ", self.px(x), self.py(y));
        }
        let path = path.trim_end();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
        );
    }

    /// A filled area below points.
    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let ground = self.py(self.y.low);
        let mut path = format!("{:.1},{ground:.1} ", self.px(first.0));
        for (x, y) in points {
            let _ = write!(path, "{:.1},{:.1} ", self.px(*x), self.py(*y));
        }
        let _ = write!(path, "{:.1},{ground:.1}", self.px(last.0));
        let _ = writeln!(
            self.body,
            "<polygon points=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.35\" stroke=\"{colour}\"/>"
        );
    }

    /// A point with its interval, if it has one; `says` is shown where one points at it.
    pub(super) fn interval(&mut self, (x, y): (f64, f64), half: f64, colour: &str, says: &str) {
        let (px, py) = (self.px(x), self.py(y));
        if half.is_finite() && half > 0.0 {
            let (high, low) = (self.py(y + half), self.py((y - half).max(self.y.low)));
            let _ = writeln!(
                self.body,
                "<path d=\"M{px:.1},{low:.1}V{high:.1}M{:.1},{low:.1}h8M{:.1},{high:.1}h8\" \
                 stroke=\"{colour}\" fill=\"none\"/>",
                px - 4.0,
                px - 4.0
            );
        }
        let _ = writeln!(
            self.body,
            "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\" fill=\"{colour}\"><title>{}</title></circle>",
            escape(says)
        );
    }

    /// A bar in row `y`, as high as a row.
    pub(super) fn bar(&mut self, y: usize, (from, to): (f64, f64), colour: &str, says: &str) {
        let (left, right) = (self.px(from), self.px(to));
        let (top, bottom) = (self.py(y as f64 - 0.45), self.py(y as f64 + 0.45));
        // What is too short to be seen is a hair all the same.
        let width = (right - left).max(0.4);
        let _ = writeln!(
            self.body,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
             fill=\"{colour}\"><title>{}</title></rect>",
            top.min(bottom),
            (top - bottom).abs().max(0.4),
            escape(says)
        );
    }

    /// The whole of it.
    pub(super) fn finish(self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, TOP + self.height);
        let mut svg = String::new();
        let height = bottom + BOTTOM + self.legend_rows() * LEGEND;
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             font-family=\"sans-serif\" font-size=\"11\" fill=\"#222\">"
        );
        for (value, name) in self.x.ticks() {
            let x = self.px(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1},{TOP}V{bottom:.1}\" stroke=\"#e4e4e4\"/><text x=\"{x:.1}\" \
                 y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 15.0,
                escape(&name)
            );
        }
        for (value, name) in self.y.ticks() {
            let y = self.py(value);
            let grid = if self.y.words.is_some() { "none" } else { "#e4e4e4" };
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT},{y:.1}H{right:.1}\" stroke=\"{grid}\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                escape(&name)
            );
        }
        svg.push_str(&self.body);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT},{TOP}V{bottom:.1}H{right:.1}\" stroke=\"#222\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            bottom + 34.0,
            escape(&self.x.label),
            TOP + self.height / 2.0,
            escape(&self.y.label)
        );
        self.write_legend(&mut svg, bottom + BOTTOM);
        svg.push_str("</svg>\n");
        svg
    }

    fn legend_rows(&self) -> f64 {
        self.legend.len().div_ceil(LEGEND_COLUMNS) as f64
    }

    fn write_legend(&self, svg: &mut String, top: f64) {
        let width = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
        for (n, (name, colour)) in self.legend.iter().enumerate() {
            let x = LEFT + (n % LEGEND_COLUMNS) as f64 * width;
            let y = top + (n / LEGEND_COLUMNS) as f64 * LEGEND;
            let name: String = name.chars().take(60).collect();
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x + 16.0,
                y + 10.0,
                escape(&name)
            );
        }
    }
}

const LEGEND_COLUMNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let names =
            |axis: &Axis| axis.ticks().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let linear = Axis::from_zero("s", [3.0, 0.47].into_iter());
        assert_eq!(names(&linear), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]);
        let log = Axis::over("n", [1.0, 64.0].into_iter());
        assert_eq!(names(&log), ["1", "2", "5", "10", "20", "50"]);
        assert_eq!((log.at(1.0), log.at(8.0), log.at(64.0)), (0.0, 0.5, 1.0));
        let narrow = Axis::around("s", [1001.0, 1003.0].into_iter());
        assert_eq!(names(&narrow), ["1001.0", "1001.5", "1002.0", "1002.5", "1003.0"]);
        let none = Axis::from_zero("s", std::iter::empty());
        assert_eq!((none.low, none.high), (0.0, 1.0));
        assert_eq!(names(&Axis::of_words("policy", vec!["a".into(), "b".into()])), ["a", "b"]);
    }

    #[test]
    fn whatever_a_text_holds_it_stays_text() {
        let mut plot = Plot::new(
            Axis::from_zero("</text><script>", [1.0].into_iter()),
            Axis::of_words("y", vec!["\"onload='x'".to_owned()]),
            100.0,
        );
        plot.legend("<b>&", COLOURS[0]);
        plot.bar(0, (0.0, 1.0), COLOURS[0], "</title>\u{1b}[31m");
        plot.interval((0.0, 0.0), 0.0, COLOURS[0], "<i>");
        let svg = plot.finish();
        for bad in ["<script", "\"onload", "<b>", "</title>\u{1b}", "<i>", "\u{1b}"] {
            assert!(!svg.contains(bad), "{bad:?} in {svg}");
        }
        assert!(svg.contains("&lt;/text&gt;&lt;script&gt;"), "{svg}");
    }
}
