-- The records that expired.sql found.
DELETE FROM main.idem_record WHERE id IN (
    SELECT id FROM main.idem_record
    WHERE id BETWEEN ?1 << 7 AND ?1 << 7 | 127 AND expires_at <= ?2 ORDER BY id LIMIT ?3)
