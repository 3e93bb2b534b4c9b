// Over sqlx neither: what it dereferences to is the connection, and not sqlx's transaction.
async fn pay(transaction: idem_postgres::sqlx::Transaction) {
    transaction.commit().await;
}

fn main() {}
