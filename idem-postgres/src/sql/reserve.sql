-- Returns the record of a key, or reserves the key as attempt 1 if it has none. See `schema/v1/reserve.sql`.
SELECT public.idem_record_reserve($1, $2, $3, $4, $5, $6, $7)
