// A transaction of the driver's would send its COMMIT on this very connection.
async fn pay(transaction: idem_postgres::Transaction) {
    let _ = transaction.transaction().await;
}

fn main() {}
