-- Whether a sweep may find something: it only reads. The time is read once, and the record that is due first is asked
-- for, so that it takes a look into the index and not at every record.
SELECT EXISTS (
    SELECT FROM (
        SELECT FROM public.idem_record
        WHERE sweep_after OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp())
            AND expires_at OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp())
        ORDER BY sweep_after
        LIMIT 1
    ) AS first
)
