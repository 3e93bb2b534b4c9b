-- Reserves a key that has no record, as attempt 1. See `schema/v1/insert.sql`.
SELECT public.idem_record_insert($1, $2, $3, $4, $5, $6, $7)
