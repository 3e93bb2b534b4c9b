use idem_postgres::ReservationExt;

// A reservation in a transaction cannot be completed beside it.
async fn pay(reservation: idem_core::Reservation, store: &idem_postgres::PostgresStore) {
    let transaction = reservation.begin_transaction(store).await;
    let _ = reservation.complete(idem_core::Answer::NotKept).await;
    drop(transaction);
}

fn main() {}
