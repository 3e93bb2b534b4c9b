//! Mistakes that the compiler reports with a message that says what to do.

// The test starts a compiler, which miri cannot.
#![cfg(not(miri))]

#[test]
fn parts_of_different_types_are_refused_with_an_example() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
