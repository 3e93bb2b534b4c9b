use idem_core::Fingerprint;

fn main() {
    let body = r#"{"amount": 100}"#;
    let _ = Fingerprint::from_parts(body);
}
