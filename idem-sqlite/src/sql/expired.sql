SELECT id, expires_at, record FROM idem_record WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
