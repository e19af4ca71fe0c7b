//! Small builds, most of which fail or look at what they have made: with mesh, lazily and eagerly,
//! each must print, leave and end with the same as without.
//!
//! Every trial builds broken sources, then fixed ones, then has nothing to do. See [`Trial`].
//!
//! [`Trial`]: mesh_tests::Trial

mod compilers;
mod configured;
mod left_behind;
mod making;
mod programs;
mod questions;
mod redirected;
mod scripted;
mod sizes;

/// Tests `NAME::lazy` and `NAME::eager` for each trial.
macro_rules! trials {
    ($($name:ident: $trial:expr;)*) => {
        $(mod $name {
            #[allow(unused_imports)] // Not every trial names constants of its file.
            use super::*;
            use mesh_tests::Mode;

            #[test]
            fn lazy() {
                $trial.check(Mode::Lazy);
            }

            #[test]
            fn eager() {
                $trial.check(Mode::Eager);
            }
        })*
    };
}
use trials;
