DELETE FROM main.idem_zone WHERE zone = ?1
AND NOT EXISTS (SELECT 1 FROM main.idem_record WHERE id BETWEEN ?1 << 7 AND ?1 << 7 | 127)
