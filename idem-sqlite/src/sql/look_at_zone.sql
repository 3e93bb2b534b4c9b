INSERT INTO main.idem_zone (zone, expires_at)
SELECT ?1, min(expires_at) FROM main.idem_record WHERE id BETWEEN ?1 << 7 AND ?1 << 7 | 127 HAVING count(*) > 0
