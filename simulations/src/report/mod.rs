//! What people look at: a report as one HTML file, and a run as a trace for Perfetto.
//!
//! Both show the first seed's tasks as their records have them: of each task its last execution. Work
//! in vain is in the numbers only. What would be too much is left out, and the report says so.

mod html;
mod lanes;
mod run;
mod svg;
mod sweep;
mod trace;

pub use run::RunReport;
pub use sweep::SweepReport;
pub use trace::write_trace;
