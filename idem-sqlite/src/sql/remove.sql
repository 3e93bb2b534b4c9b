DELETE FROM idem_record WHERE id = ?1 AND expires_at <= ?2
