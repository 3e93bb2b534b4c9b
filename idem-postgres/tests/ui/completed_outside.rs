// Outside of a transaction the completion would be committed without its effect.
async fn pay(store: &idem_postgres::PostgresStore, client: &mut tokio_postgres::Client) {
    let completion = idem_core::store::Completion::new(idem_core::Answer::NotKept, idem_core::store::Span::MAX);
    let key = idem_core::Key::new("payments", "42").unwrap();
    let _ = store.complete_in(client, &key, idem_core::store::OwnerToken::random(), completion).await;
}

fn main() {}
