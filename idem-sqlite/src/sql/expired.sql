SELECT expires_at, record FROM main.idem_record
WHERE id BETWEEN ?1 << 7 AND ?1 << 7 | 127 AND expires_at <= ?2 ORDER BY id LIMIT ?3
