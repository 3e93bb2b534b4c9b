SELECT id, expires_at, record FROM main.idem_record WHERE digest = ?1 AND key = ?2
