//! The page around plots and numbers.

use super::svg::escape;
use crate::config::Document;

/// A page under way.
pub(super) struct Page(String);

/// Nothing is fetched and nothing runs, whatever a scenario has for a title.
const HEAD: &str = "<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\">\n\
<style>\n\
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; max-width: 60em; margin: 2em auto; padding: 0 1em }\n\
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }\n\
table { border-collapse: collapse } td, th { padding: 0.1em 1em 0.1em 0; text-align: right }\n\
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #e4e4e4 }\n\
pre { background: #f6f6f6; padding: 1em; overflow: auto } svg { width: 100%; height: auto }\n\
.note { color: #555 }\n\
</style>\n";

impl Page {
    pub(super) fn new(title: &str, about: &str) -> Self {
        let title = escape(title);
        let mut page = Self(format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<title>{title}</title>\n{HEAD}</head>\n\
             <body>\n<h1>{title}</h1>\n"
        ));
        if !about.is_empty() {
            page.0 += &format!("<p>{}</p>\n", escape(about));
        }
        page
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.0 += &format!("<h2>{}</h2>\n", escape(text));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.0 += &format!("<p class=\"note\">{}</p>\n", escape(text));
    }

    /// A plot, which has escaped its texts itself.
    pub(super) fn plot(&mut self, svg: &str) {
        self.0 += svg;
    }

    pub(super) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let row = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
            let cells: String =
                cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        self.0 += "<table>\n";
        self.0 += &row(&mut head.iter().copied(), "th");
        for cells in rows {
            self.0 += &row(&mut cells.iter().map(String::as_str), "td");
        }
        self.0 += "</table>\n";
    }

    /// The scenario as it was read, with what was laid over it.
    pub(super) fn scenario(&mut self, document: &Document) {
        self.heading("Scenario");
        for setting in document.settings() {
            self.0 += &format!("<p><code>--set {}</code></p>\n", escape(setting));
        }
        self.0 += &format!("<pre>{}</pre>\n", escape(document.text()));
    }

    pub(super) fn finish(self) -> String {
        self.0 + "</body>\n</html>\n"
    }
}
