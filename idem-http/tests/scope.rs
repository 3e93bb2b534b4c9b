//! A layer without a decision about its scope does not compile.

#[test]
fn a_layer_does_not_build_without_a_scope() {
    trybuild::TestCases::new().compile_fail("tests/ui/no_scope.rs");
}
