-- Says whether a sweep may find something; only reads. The time is read once and only the record that is due first is
-- selected, so that it takes one index lookup and does not read every record.
SELECT EXISTS (
    SELECT FROM (
        SELECT FROM public.idem_record
        WHERE sweep_after OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp())
            AND expires_at OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp())
        ORDER BY sweep_after
        LIMIT 1
    ) AS first
)
