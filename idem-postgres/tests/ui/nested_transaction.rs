// A transaction of the driver would send its COMMIT on the same connection.
async fn pay(transaction: idem_postgres::Transaction) {
    let _ = transaction.transaction().await;
}

fn main() {}
