//! Random projects, built with random flags, edited and built again: with mesh, in each mode, they
//! print, leave and end with the same as without.
//!
//! `MESH_RANDOM_BUILDS` says how many projects (2,000 by hand). A failure prints the smallest project
//! that still fails and the variables that make just this one again.

mod plan;
mod render;
mod shrink;

use mesh_tests::{Mode, Random};

use plan::Plan;

/// Projects of one run, unless `MESH_RANDOM_BUILDS` says otherwise.
const COUNT: u64 = 6;

fn count() -> u64 {
    match std::env::var("MESH_RANDOM_BUILDS") {
        Ok(count) => count.parse().expect("MESH_RANDOM_BUILDS is a number"),
        Err(_) => COUNT,
    }
}

/// The seeds of this run, from the harness's own on.
fn seeds() -> impl Iterator<Item = u64> {
    let first = Random::new().seed();
    (0..count()).map(move |nth| first.wrapping_add(nth))
}

fn build(mode: Mode, test: &str) {
    for seed in seeds() {
        let plan = Plan::draw(&mut Random::of(seed));
        let Err(difference) = render::trial(&plan).compare_in(mode) else { continue };
        let (plan, difference) = shrink::smallest(plan, mode, difference);
        panic!(
            "to do it again: MESH_TESTS_SEED={seed} MESH_RANDOM_BUILDS=1 cargo nextest run -p \
             mesh-tests -E 'test({test})'\n{}\n{difference}",
            render::text(&plan)
        );
    }
}

#[test]
fn lazily_as_without_mesh() {
    build(Mode::Lazy, "lazily_as_without_mesh");
}

#[test]
fn eagerly_as_without_mesh() {
    build(Mode::Eager, "eagerly_as_without_mesh");
}

/// Otherwise the tests above would compare nothing.
#[test]
fn plainly_the_same_each_time() {
    for seed in seeds() {
        let plan = Plan::draw(&mut Random::of(seed));
        if let Err(difference) = render::trial(&plan).compare_with_itself() {
            panic!("seed {seed} is not deterministic:\n{}\n{difference}", render::text(&plan));
        }
    }
}

#[test]
fn a_seed_gives_the_same_project_each_time() {
    for seed in 0..50 {
        let drawn = || render::text(&Plan::draw(&mut Random::of(seed)));
        assert_eq!(drawn(), drawn());
    }
}
