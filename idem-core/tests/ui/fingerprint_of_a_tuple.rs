use idem_core::Fingerprint;

fn main() {
    let body = vec![1_u8, 2, 3];
    let _ = Fingerprint::from_parts(("POST", body));
}
