//! A layer without a scope does not compile, and the compiler says why.

#[test]
fn a_layer_without_a_scope_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/no_scope.rs");
}
