// Only `complete` commits it.
async fn pay(transaction: idem_postgres::Transaction) {
    transaction.commit().await;
}

fn main() {}
