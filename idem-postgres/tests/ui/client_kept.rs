// The client cannot be used after the completion.
async fn pay(transaction: idem_postgres::Transaction) {
    let client: &tokio_postgres::Client = &transaction;
    let _ = transaction.complete(idem_core::Answer::NotKept).await;
    let _ = client.batch_execute("INSERT INTO payment DEFAULT VALUES").await;
}

fn main() {}
