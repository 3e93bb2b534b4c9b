// A transaction of the driver's would send its COMMIT on this very connection.
async fn pay(mut transaction: idem_postgres::Transaction) {
    let nested = transaction.transaction().await;
}

fn main() {}
