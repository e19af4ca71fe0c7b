//! From a project that fails to a smaller one that still does.

use mesh_tests::Mode;

use super::plan::{Edit, Plan, Wrap};
use super::render;

/// Projects that are tried. Each takes a second or so.
const TRIES_MAX: usize = 50;

/// The smallest failing plan that was found, and how it fails.
pub(super) fn smallest(plan: Plan, mode: Mode, difference: String) -> (Plan, String) {
    let mut best = (plan, difference);
    let mut tries = 0;
    loop {
        let mut smaller = None;
        for candidate in candidates(&best.0) {
            if tries == TRIES_MAX {
                return best;
            }
            tries += 1;
            if let Err(difference) = render::trial(&candidate).compare_in(mode) {
                smaller = Some((candidate, difference));
                break;
            }
        }
        match smaller {
            Some(found) => best = found,
            None => return best,
        }
    }
}

/// Plans with less in them, those with the least first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let count = plan.steps.len();
    let mut part = count / 2;
    while part > 0 {
        for from in (0..count).step_by(part) {
            let mut smaller = plan.clone();
            smaller.steps.drain(from..count.min(from + part));
            all.push(smaller);
        }
        part /= 2;
    }
    all.retain(|plan| !plan.steps.is_empty());
    if plan.edit != Edit::None {
        all.push(Plan { edit: Edit::None, ..plan.clone() });
    }
    if plan.delete_on_error {
        all.push(Plan { delete_on_error: false, ..plan.clone() });
    }
    for at in 0..count {
        let mut simpler = plan.clone();
        let step = &mut simpler.steps[at];
        let plain = step.aside.is_empty()
            && step.needs.is_empty()
            && step.options.is_empty()
            && step.prefix.is_empty()
            && !step.phony
            && step.wrap == Wrap::None;
        if plain {
            continue;
        }
        if !step.aside.is_empty() {
            let mut less = plan.clone();
            less.steps[at].aside.pop();
            all.push(less);
        }
        step.aside.clear();
        step.options = "";
        step.prefix = "";
        step.phony = false;
        let mut without_needs = simpler.clone();
        without_needs.steps[at].needs.clear();
        without_needs.steps[at].wrap = Wrap::None;
        all.push(without_needs);
        all.push(simpler);
    }
    all
}
