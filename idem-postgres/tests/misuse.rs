//! What would commit an effect without its completion does not compile, where that can be had.

#[test]
fn a_transaction_ends_with_its_completion_or_not_at_all() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
