async fn pay(transaction: idem_postgres::Transaction) {
    let _ = transaction.complete(idem_core::Answer::NotKept).await;
    let _ = transaction.complete(idem_core::Answer::NotKept).await;
}

fn main() {}
