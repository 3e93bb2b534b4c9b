//! Code that would commit an effect without its completion does not compile.

#[test]
fn a_commit_without_its_completion_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
