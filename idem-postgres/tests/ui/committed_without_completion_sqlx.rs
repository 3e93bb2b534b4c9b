// The same over sqlx: the guard dereferences to the connection and not to sqlx's transaction.
async fn pay(transaction: idem_postgres::sqlx::Transaction) {
    transaction.commit().await;
}

fn main() {}
