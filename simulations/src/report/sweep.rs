//! The report of a sweep: numbers against settings.

use super::html::Page;
use super::svg::{Axis, COLOURS, Plot, figure};
use crate::config::Document;
use crate::experiment::{Scenario, mean_interval};

/// Curves of one plot: one for each colour.
const CURVES_MAX: usize = COLOURS.len();
/// Rows of the table.
const ROWS_MAX: usize = 1_000;
/// Columns that are drawn, where they differ from zero, with what they are called.
const DRAWN: [(&str, &str); 6] = [
    ("makespan_s", "makespan, s"),
    ("ratio", "makespan over the lower bound"),
    ("utilisation", "utilisation"),
    ("wasted_core_s", "work in vain, core-seconds"),
    ("bytes_moved", "bytes moved"),
    ("messages", "messages"),
];

/// The table that a sweep wrote.
#[derive(Debug)]
pub struct SweepReport {
    axes: Vec<String>,
    columns: Vec<String>,
    cells: Vec<Cell>,
    seeds: usize,
}

/// One combination: the values of the axes, and for each column those under all seeds.
#[derive(Debug)]
struct Cell {
    values: Vec<String>,
    columns: Vec<Vec<f64>>,
}

impl SweepReport {
    /// Reads `summary.csv`, whose first columns are those of `axes` and the seed.
    pub fn read(table: impl std::io::Read, axes: usize) -> csv::Result<Self> {
        let mut reader = csv::Reader::from_reader(table);
        let head: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let columns = head.get(axes + 1..).unwrap_or_default().to_vec();
        let mut cells: Vec<Cell> = Vec::new();
        for row in reader.records() {
            let row = row?;
            let values: Vec<String> = row.iter().take(axes).map(str::to_owned).collect();
            if cells.last().is_none_or(|cell| cell.values != values) {
                cells.push(Cell { values, columns: vec![Vec::new(); columns.len()] });
            }
            let numbers = row.iter().skip(axes + 1).map(|text| text.parse().unwrap_or(f64::NAN));
            if let Some(cell) = cells.last_mut() {
                cell.columns
                    .iter_mut()
                    .zip(numbers)
                    .for_each(|(column, number)| column.push(number));
            }
        }
        let seeds = cells.iter().filter_map(|cell| cell.columns.first()).map(Vec::len).max();
        let axes = head.into_iter().take(axes).collect();
        Ok(Self { axes, columns, cells, seeds: seeds.unwrap_or(0) })
    }

    /// The report: one HTML page that needs nothing else.
    pub fn html(&self, document: &Document, scenario: &Scenario) -> String {
        let mut page = Page::new(&scenario.title, &scenario.about);
        let axis = self.main_axis();
        page.note(&format!(
            "{} combinations, {} seeds each; means with their 95 % intervals.",
            self.cells.len(),
            self.seeds
        ));
        for (column, label) in DRAWN {
            let Some(at) = self.columns.iter().position(|name| name == column) else { continue };
            let is_drawn = self.cells.iter().any(|cell| cell.columns[at].iter().any(|v| *v != 0.0));
            if is_drawn && axis.is_some() {
                page.heading(label);
                self.draw(&mut page, axis.unwrap_or(0), at, label);
            }
        }
        self.table(&mut page);
        page.scenario(document);
        page.finish()
    }

    /// The axis along which is drawn: the first of numbers; else the first of all.
    fn main_axis(&self) -> Option<usize> {
        let is_number = |at: &usize| {
            let mut values = self.cells.iter().map(|cell| &cell.values[*at]);
            values.all(|value| value.parse::<f64>().is_ok_and(f64::is_finite))
        };
        let first = (!self.axes.is_empty()).then_some(0);
        (0..self.axes.len()).find(is_number).or(first)
    }

    fn draw(&self, page: &mut Page, axis: usize, column: usize, label: &str) {
        let (names, xs) = self.positions(axis);
        let label_x = &self.axes[axis];
        let x = match names {
            Some(names) => Axis::of_words(label_x, names),
            None => Axis::over(label_x, xs.iter().copied()),
        };
        let means: Vec<_> =
            self.cells.iter().map(|cell| mean_interval(&cell.columns[column])).collect();
        let tops = means.iter().map(|interval| {
            interval.mean + if interval.half_width.is_finite() { interval.half_width } else { 0.0 }
        });
        let tops: Vec<f64> = tops.collect();
        let y = Axis::from_zero(label, tops.into_iter());
        let mut plot = Plot::new(x, y, 240.0);
        let curves = self.curves(axis);
        for (n, (name, cells)) in curves.iter().take(CURVES_MAX).enumerate() {
            let mut cells = cells.clone();
            cells.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]));
            plot.line(cells.iter().map(|at| (xs[*at], means[*at].mean)), COLOURS[n]);
            for at in cells {
                let interval = means[at];
                let says = format!(
                    "{label_x}={} {name}: {} ± {}",
                    self.cells[at].values[axis],
                    figure(interval.mean),
                    figure(interval.half_width)
                );
                plot.interval((xs[at], interval.mean), interval.half_width, COLOURS[n], &says);
            }
            if !name.is_empty() {
                plot.legend(name, COLOURS[n]);
            }
        }
        page.plot(&plot.finish());
        if curves.len() > CURVES_MAX {
            page.note(&format!("The first {CURVES_MAX} of {} curves.", curves.len()));
        }
    }

    /// Where each cell is along an axis, and the words there if they are no numbers.
    fn positions(&self, axis: usize) -> (Option<Vec<String>>, Vec<f64>) {
        let values = || self.cells.iter().map(|cell| &cell.values[axis]);
        let numbers: Option<Vec<f64>> =
            values().map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
        if let Some(numbers) = numbers {
            return (None, numbers);
        }
        let mut names: Vec<String> = Vec::new();
        let at = values().map(|value| {
            let known = names.iter().position(|name| name == value);
            known.unwrap_or_else(|| {
                names.push(value.clone());
                names.len() - 1
            }) as f64
        });
        let at = at.collect();
        (Some(names), at)
    }

    /// Cells that differ only along the axis, by what they share.
    fn curves(&self, axis: usize) -> Vec<(String, Vec<usize>)> {
        let mut curves: Vec<(String, Vec<usize>)> = Vec::new();
        for (at, cell) in self.cells.iter().enumerate() {
            let others = self.axes.iter().zip(&cell.values).enumerate();
            let others = others.filter(|(n, _)| *n != axis);
            let name: Vec<_> = others.map(|(_, (key, value))| format!("{key}={value}")).collect();
            let name = name.join(" ");
            match curves.iter_mut().find(|(known, _)| *known == name) {
                Some((_, cells)) => cells.push(at),
                None => curves.push((name, vec![at])),
            }
        }
        curves
    }

    fn table(&self, page: &mut Page) {
        page.heading("Numbers");
        let drawn: Vec<usize> = DRAWN
            .iter()
            .filter_map(|(column, _)| self.columns.iter().position(|name| name == column))
            .collect();
        let head = self.axes.iter().map(String::as_str);
        let head: Vec<&str> =
            head.chain(drawn.iter().map(|at| self.columns[*at].as_str())).collect();
        let rows = self.cells.iter().take(ROWS_MAX).map(|cell| {
            let numbers = drawn.iter().map(|at| {
                let interval = mean_interval(&cell.columns[*at]);
                if interval.half_width.is_finite() {
                    format!("{} ± {}", figure(interval.mean), figure(interval.half_width))
                } else {
                    figure(interval.mean)
                }
            });
            cell.values.iter().cloned().chain(numbers).collect()
        });
        page.table(&head, &rows.collect::<Vec<_>>());
        if self.cells.len() > ROWS_MAX {
            page.note(&format!("The first {ROWS_MAX} rows; summary.csv has all."));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "policy.name,platform.hosts.0.count,seed,makespan_s,messages\n\
        fifo,1,1,10,0\nfifo,1,2,12,0\nfifo,64,1,3,0\nfifo,64,2,3,0\n\
        <lifo>,1,1,10,0\n<lifo>,1,2,10,0\n<lifo>,64,1,4,0\n<lifo>,64,2,4,0\n";

    #[test]
    fn a_curve_for_each_policy_over_the_number_of_hosts() {
        let report = SweepReport::read(TABLE.as_bytes(), 2).unwrap();
        assert_eq!((report.cells.len(), report.seeds, report.main_axis()), (4, 2, Some(1)));
        let curves = report.curves(1);
        let expected = [("policy.name=fifo", vec![0, 1]), ("policy.name=<lifo>", vec![2, 3])];
        assert_eq!(curves, expected.map(|(name, cells)| (name.to_owned(), cells)));
        let (words, at) = report.positions(0);
        assert_eq!(words, Some(vec!["fifo".to_owned(), "<lifo>".to_owned()]));
        assert_eq!(at, [0.0, 0.0, 1.0, 1.0]);

        let text = "title = 't & u'\n[platform]\n[[platform.hosts]]\nname = 'a'\n[workload]\n\
            kind = 'bag'\ntasks = 1\nwork = 1\n[policy]\nname = 'fifo'\n";
        let document = Document::parse(text, "a", std::path::Path::new("")).unwrap();
        let page = report.html(&document, &Scenario::read(&document).unwrap());
        assert!(page.contains("<title>t &amp; u</title>"));
        assert!(page.contains("<td>11 ± 12.71</td>"), "t(0.975, 1) = 12.706: {page}");
        assert_eq!(page.matches("<polyline").count(), 2, "no messages, no plot of them");
        assert!(!page.contains("<lifo>") && page.contains("policy.name=&lt;lifo&gt;"));
    }
}
