// There is no other way to commit it.
async fn pay(transaction: idem_postgres::Transaction) {
    transaction.commit().await;
}

fn main() {}
