-- Removes at most $1 expired records, and returns how many. One sweep runs at a time: it skips its work if the meta row is
-- locked, and it skips locked records.
WITH clock AS MATERIALIZED (
    SELECT pg_catalog.clock_timestamp() AS now
), turn AS MATERIALIZED (
    SELECT id FROM public.idem_record_meta WHERE id OPERATOR(pg_catalog.=) 1 FOR NO KEY UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT key FROM public.idem_record
    WHERE EXISTS (SELECT FROM turn)
        AND sweep_after OPERATOR(pg_catalog.<=) (SELECT now FROM clock)
        AND expires_at OPERATOR(pg_catalog.<=) (SELECT now FROM clock)
    ORDER BY sweep_after
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), removed AS (
    -- Checked again: the record may have been reserved between its selection and its lock.
    DELETE FROM public.idem_record AS record USING due
    WHERE record.key OPERATOR(pg_catalog.=) due.key
        AND record.expires_at OPERATOR(pg_catalog.<=) (SELECT now FROM clock)
    RETURNING record.fence
), raised AS (
    UPDATE public.idem_record_meta AS meta
    SET removed_fence = GREATEST(meta.removed_fence, (SELECT pg_catalog.max(fence) FROM removed))
    WHERE meta.id OPERATOR(pg_catalog.=) 1 AND EXISTS (SELECT FROM removed)
)
SELECT pg_catalog.count(*) FROM removed
