-- Stores the answer of the owner in flight. No row: the record is not the owner's, or not in flight. See
-- `schema/v1/complete.sql`.
SELECT 1 WHERE public.idem_record_complete($1, $2, $3, $4, $5, $6, $7, $8)
