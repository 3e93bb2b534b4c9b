-- The record of a key, or if there is none a reservation: attempt 1. See `schema/v1/reserve.sql`.
SELECT public.idem_record_reserve($1, $2, $3, $4, $5, $6, $7)
