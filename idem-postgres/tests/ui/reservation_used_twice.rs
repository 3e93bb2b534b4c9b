use idem_postgres::ReservationExt;

// A reservation whose transaction is open cannot be completed outside of it.
async fn pay(reservation: idem_core::Reservation, store: &idem_postgres::PostgresStore) {
    let transaction = reservation.begin_transaction(store).await;
    let _ = reservation.complete(idem_core::Answer::NotKept).await;
    drop(transaction);
}

fn main() {}
