-- Whether a sweep may find something: it only reads.
SELECT EXISTS (
    SELECT FROM public.idem_record
    WHERE sweep_after <= pg_catalog.clock_timestamp() AND expires_at <= pg_catalog.clock_timestamp()
)
